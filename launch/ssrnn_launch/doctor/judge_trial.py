"""What the trial runs, and whether it went well. Pure decisions; imports the config and the checks only."""

import math
from collections.abc import Sequence
from typing import Any

from ssrnn_dist.config import RunConfig
from ssrnn_dist.hooks import StepMetrics
from ssrnn_launch.doctor.checks import Check, fail, ok

STEPS = 2
MOST_SECONDS = 600.0
STALL_SECONDS = 300.0


def scratch_config(config: RunConfig, name: str) -> RunConfig:
    """The same run in a folder of its own below run_root, with MLflow in it: nothing of it outlives the trial. Pure."""
    changes: dict[str, dict[str, Any]] = {
        "tracking": {"uri": None, "report": False, "system_metrics": False, "register_model": None},
        "train": {"log_every_steps": 1, "validate_every_steps": None},
        "scale": {"max_restarts": 0, "stall_seconds": STALL_SECONDS},
        "checkpoint": {"uri": None},
        "cost": {"budget_usd": None},
    }
    sections = {key: getattr(config, key).model_copy(update=values) for key, values in changes.items()}
    return config.model_copy(update={**sections, "run_root": f"{config.run_root.rstrip('/')}/{name}", "name": "trial"})


def judge_trial(metrics: Sequence[StepMetrics], start_seconds: float | None, too_late: bool) -> Check:
    """From what two steps told. Pure. start_seconds: from the start to the first step's metrics."""
    if start_seconds is None or len(metrics) < min(STEPS, metrics[0].steps if metrics else STEPS):
        late = f" within {MOST_SECONDS:g} s" if too_late else ""
        return fail(
            "trial", f"{len(metrics)} of {STEPS} steps were made{late}", "a smaller model shows if it is too slow"
        )
    last = metrics[-1]
    if not math.isfinite(last.train_loss):
        return fail("trial", f"the loss is {last.train_loss} after {last.step} steps", "a lower train.learning_rate")
    detail = f"{last.step} steps on {last.workers} workers, the first after {start_seconds:.0f} s"
    return ok(
        "trial", f"{detail}, loss {last.train_loss:.3f}, {last.tokens_per_second:,.0f} tokens/s, a checkpoint saved"
    )
