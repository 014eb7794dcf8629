"""What a calibration found: a machine's times for a run's own model and batch, as JSON that plans can use again.

Pure but for the file. Imports the config only."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ssrnn_dist.config import RunConfig
from ssrnn_dist.files import write_json_atomic
from ssrnn_dist.problems import user_error
from ssrnn_launch.plan.traffic import Kind, Network, Rate

FORMAT = 1
TRAIN_FIELDS = ("tokens_per_batch", "sequence_length", "micro_batch_lanes", "precision", "carry_state")


@dataclass(frozen=True)
class Timing:
    """Of one worker among `workers` that compute at once on this machine and send each other nothing; seconds a step.

    step_seconds holds update_seconds: the part that ZeRO deals over the workers (the optimizer and its gradients)."""

    workers: int
    threads: int
    lanes: int
    micro_batches: int
    step_seconds: float
    update_seconds: float
    forward_seconds: float  # of the same lanes, without learning
    data_seconds: float | None  # None: no corpus stood here
    probe_seconds: float
    steps: int
    spread: float  # half the distance between the quartiles, over the median


@dataclass(frozen=True)
class Calibration:
    """Of one machine and one run's model and batch."""

    device: str
    on_gpu: bool
    made: str
    run: Mapping[str, Any]
    timings: tuple[Timing, ...]
    product_flops_per_second: Mapping[str, float]  # by threads of a worker
    rates: Mapping[str, Mapping[str, float]] | None  # by kind of collective, of two workers; None: one only
    framework_bytes: int
    ray_bytes: int
    allocator_fraction: float
    start_seconds: float

    def timing(self, workers: int) -> Timing | None:
        """Of as many workers, with all lanes of one of them."""
        found = [each for each in self.timings if each.workers == workers]
        return max(found, key=lambda each: each.lanes, default=None)

    def network(self) -> Network | None:
        """This machine's own; nodes beyond it are not known."""
        if self.rates is None:
            return None
        within: dict[Kind, Rate] = {kind: Rate(**self.rates[kind]) for kind in _KINDS}
        return Network(within, None, 10**9, self.on_gpu, "measured here")


_KINDS: tuple[Kind, ...] = ("all_reduce", "all_gather", "reduce_scatter")


def facts_of(config: RunConfig, vocab_size: int) -> dict[str, Any]:
    """What a calibration depends on, beside the machine."""
    train = config.train.model_dump(mode="json")
    return {
        "model": config.model.model_dump(mode="json"),
        "feedback": config.feedback.model_dump(mode="json"),
        "vocab_size": vocab_size,
        "train": {name: train[name] for name in TRAIN_FIELDS},
        "zero_stage": config.scale.zero_stage,
        "cpus_per_worker": config.scale.cpus_per_worker,
    }


def save_calibration(found: Calibration, path: Path) -> None:
    """Write it; OSError where it can't be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomic(path, {"format": FORMAT, **asdict(found)})


def load_calibration(path: Path, config: RunConfig, vocab_size: int) -> Calibration:
    """Read one that was made for the same model and batch; UserError says what differs."""
    where = str(path)
    try:
        values = json.loads(path.read_text())
        if values.pop("format") != FORMAT:
            raise ValueError("another format")
        found = Calibration(**{**values, "timings": tuple(Timing(**each) for each in values["timings"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        allowed = "a file that `ssrnn plan --calibration` wrote is wanted, or a new name"
        raise user_error(where, f"no calibration ({error})", allowed) from None
    wanted = facts_of(config, vocab_size)
    odd = [name for name in wanted if found.run.get(name) != wanted[name]]
    if odd:
        raise user_error(where, f"made for another {' and '.join(odd)}", "the same, or --calibrate to make it again")
    return found


def as_values(found: Calibration) -> dict[str, Any]:
    """For --json."""
    return {each.name: getattr(found, each.name) for each in fields(found) if each.name not in ("run", "timings")} | {
        "timings": [asdict(each) for each in found.timings]
    }
