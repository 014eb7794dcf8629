"""A short real training beside its forecast: step time and memory. Starts ranks of check_rank.py.

Imports the config and the plan."""

import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssrnn_dist.config import RunConfig, to_yaml
from ssrnn_launch.machine import available_cores
from ssrnn_launch.plan.build import Plan
from ssrnn_launch.plan.calibrate import threads_of
from ssrnn_launch.plan.processes import free_port, run_together

MOST_SECONDS = 900.0
LOGS = 8  # groups of steps whose rates are compared; the first does not count
GROUP_SECONDS = 2.0


@dataclass(frozen=True)
class Checked:
    """What happened with so many workers, beside what was forecast. Steps' seconds; bytes of the fullest worker."""

    workers: int
    step_seconds: float
    forecast_step_seconds: float
    steps: int
    spread: float  # half the distance between the quartiles of the groups' rates, over the median
    peak_bytes: int
    forecast_bytes: int

    @property
    def step_error(self) -> float:
        """Of the forecast, relative to what happened."""
        return self.forecast_step_seconds / self.step_seconds - 1

    @property
    def memory_error(self) -> float:
        return self.forecast_bytes / self.peak_bytes - 1


def check(plan: Plan, workers: int) -> Checked:
    """Train for some seconds with as many workers on this machine, no Ray; LaunchFailed where that fails."""
    choice = next(each for each in plan.found.choices if each.workers == workers)
    assert choice.step_seconds is not None
    assert plan.calibration is not None
    group = max(2, round(GROUP_SECONDS / choice.step_seconds))
    with tempfile.TemporaryDirectory(prefix="ssrnn-check-") as folder:
        found = _train(_short(plan.config, workers, group, folder), workers, Path(folder))
    seconds = [plan.work.train.tokens_per_batch / rate for rate in found[0]["tokens_per_second"][1:]]
    low, middle, high = statistics.quantiles(seconds, n=4)
    peak = max(rank["peak_bytes"] for rank in found)
    without_ray = choice.memory.total - plan.calibration.ray_bytes
    return Checked(workers, middle, choice.step_seconds, group * LOGS, (high - low) / 2 / middle, peak, without_ray)


def _short(config: RunConfig, workers: int, group: int, folder: str) -> RunConfig:
    """The run, to be stopped after some groups of steps: no probe, no validation, and a checkpoint when it stops."""
    steps = 10 * group * LOGS
    train = config.train.model_copy(
        update={"steps": steps, "log_every_steps": group, "validate_every_steps": None, "learning_rate": 1e-4}
    )
    changed = {
        "run_root": folder,
        "train": train,
        "scale": config.scale.model_copy(update={"workers": workers}),
        "feedback": config.feedback.model_copy(update={"probe_every": None}),
        "checkpoint": config.checkpoint.model_copy(update={"every_steps": steps, "every_seconds": None, "uri": None}),
        "tracking": config.tracking.model_copy(update={"uri": None, "report": False, "register_model": None}),
        "cost": config.cost.model_copy(update={"budget_usd": None}),
    }
    return config.model_copy(update=changed)


def _train(config: RunConfig, workers: int, folder: Path) -> list[dict[str, Any]]:
    """What each rank found."""
    path, out = folder / "check.yaml", folder / "found.json"
    path.write_text(to_yaml(config))
    threads, port = threads_of(config, workers, available_cores()), free_port()
    words = [["-m", "ssrnn_launch.plan.check_rank", str(path), str(out), str(LOGS)]] * workers
    environments = [_rank_environment(rank, workers, port, threads) for rank in range(workers)]
    run_together("the check's training", words, environments, folder, MOST_SECONDS)
    return [json.loads(Path(f"{out}.{rank}").read_text()) for rank in range(workers)]


def _rank_environment(rank: int, workers: int, port: int, threads: int) -> dict[str, str]:
    return {
        "DS_ACCELERATOR": "cpu",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(workers),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(threads),
    }
