"""The forecast of a run for each number of workers, the cheapest, the fastest and the Pareto front: pure.

Imports the plan's other parts."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ssrnn_dist.config import RunConfig
from ssrnn_launch.plan.computing import Computing
from ssrnn_launch.plan.memory import Base, Memory, Split, host_bytes, memory_of
from ssrnn_launch.plan.prices import usd_per_hour
from ssrnn_launch.plan.splits import Room, why_impossible
from ssrnn_launch.plan.traffic import Network, collectives_of, communication_seconds, exposed_seconds
from ssrnn_launch.plan.workload import Workload

SECONDS_A_DAY = 86400.0


@dataclass(frozen=True)
class Ground:
    """What a forecast stands on. computing: None where no time is known.  watts: of a worker, at most."""

    computing: Callable[[int], Computing] | None
    network: Network | None
    base: Base
    room: Room
    watts: float | None
    start_seconds: float
    valid_tokens: int | None
    on_gpu: bool


@dataclass(frozen=True)
class Choice:
    """One number of workers; None: not known."""

    workers: int
    impossible: str | None
    memory: Memory
    host_bytes: int
    sent_bytes_per_step: float
    communication_seconds: float | None
    exposed_seconds: float | None
    step_seconds: float | None
    measured: bool  # was the computing of as many workers timed here?
    tokens_per_second: float | None
    mfu: float | None
    run_seconds: float | None
    cost_usd: float | None
    energy_kwh: float | None
    is_given: bool

    @property
    def days(self) -> float | None:
        return None if self.run_seconds is None else self.run_seconds / SECONDS_A_DAY


@dataclass(frozen=True)
class Forecast:
    """All choices, and the best of those that are possible."""

    choices: tuple[Choice, ...]
    cheapest: int | None
    fastest: int | None
    front: tuple[int, ...]  # no other is both quicker and cheaper


def forecast(work: Workload, config: RunConfig, counts: Sequence[int], ground: Ground) -> Forecast:
    """For each number of workers."""
    return best_of([_choice(work, config, n, ground) for n in counts])


def best_of(choices: Sequence[Choice]) -> Forecast:
    """The front is by time and dollars; where dollars are not known nothing but the fastest is found."""
    possible = [each for each in choices if each.impossible is None and each.run_seconds is not None]
    fastest = min(possible, key=lambda each: (each.run_seconds, each.workers), default=None)
    priced = [each for each in possible if each.cost_usd is not None]
    cheapest = min(priced, key=lambda each: (each.cost_usd, each.run_seconds), default=None)
    front, least = [], float("inf")
    for each in sorted(priced, key=lambda each: (each.run_seconds, each.cost_usd)):
        assert each.cost_usd is not None
        if each.cost_usd < least:
            front.append(each.workers)
            least = each.cost_usd
    return Forecast(
        tuple(choices),
        None if cheapest is None else cheapest.workers,
        None if fastest is None else fastest.workers,
        tuple(sorted(front)),
    )


def split_of(config: RunConfig, workers: int, *, on_gpu: bool) -> Split:
    scale = config.scale
    return Split(workers, scale.zero_stage, scale.partition_ranks, on_gpu and scale.offload != "none", on_gpu)


def _choice(work: Workload, config: RunConfig, workers: int, ground: Ground) -> Choice:
    split = split_of(config, workers, on_gpu=ground.on_gpu)
    memory = memory_of(work, split, ground.base)
    low, high = config.scale.fewest_workers, config.scale.most_workers
    impossible = why_impossible(work, config, split, memory, ground.base, ground.room)
    unknown = Choice(
        workers=workers,
        impossible=impossible,
        memory=memory,
        host_bytes=host_bytes(work, split),
        sent_bytes_per_step=sum(each.sent_bytes for each in collectives_of(work, split)),
        communication_seconds=None,
        exposed_seconds=None,
        step_seconds=None,
        measured=False,
        tokens_per_second=None,
        mfu=None,
        run_seconds=None,
        cost_usd=None,
        energy_kwh=None,
        is_given=low <= workers <= high,
    )
    if ground.computing is None or workers > work.train.lanes:
        return unknown
    return _timed(work, config, unknown, split, ground.computing(workers), ground)


def _timed(
    work: Workload, config: RunConfig, choice: Choice, split: Split, computing: Computing, ground: Ground
) -> Choice:
    sends = (
        communication_seconds(work, split, ground.network) if ground.network else (0.0 if split.workers == 1 else None)
    )
    choice = replace(choice, communication_seconds=sends, measured=computing.measured)
    if sends is None:
        return choice
    exposed = exposed_seconds(sends, computing.step, split, ground.network) if ground.network else 0.0
    step = computing.step + (computing.data or 0.0) + exposed
    run = _run_seconds(config, step, computing, ground)
    price = usd_per_hour(config, split.workers)
    tokens = work.train.tokens_per_batch
    watts = ground.watts
    return replace(
        choice,
        exposed_seconds=exposed,
        step_seconds=step,
        tokens_per_second=tokens / step,
        mfu=work.flops_per_token * tokens / step / (computing.peak_flops * split.workers),
        run_seconds=run,
        cost_usd=None if price is None else price * run / 3600,
        energy_kwh=None if watts is None else watts * split.workers * run / 3.6e6,
    )


def _run_seconds(config: RunConfig, step: float, computing: Computing, ground: Ground) -> float:
    """Start, steps, probes and validations. Checkpoints are written in the background; the report is left out."""
    train, every = config.train, config.feedback.probe_every
    probes = 0 if every is None or config.feedback.kind == "exact" else train.steps // every
    validations = 0
    if ground.valid_tokens:
        between = train.validate_every_steps
        validations = 1 if between is None else train.steps // between + bool(train.steps % between)
    validation = computing.forward * (ground.valid_tokens or 0) / train.tokens_per_batch
    return ground.start_seconds + train.steps * step + probes * computing.probe + validations * validation


def as_values(found: Forecast) -> dict[str, Any]:
    """For --json."""
    return {
        "choices": [
            {
                **asdict(each),
                "memory": _memory_values(each.memory),
                "days": each.days,
                "on_front": each.workers in found.front,
            }
            for each in found.choices
        ],
        "cheapest": found.cheapest,
        "fastest": found.fastest,
        "front": list(found.front),
    }


def _memory_values(memory: Memory) -> dict[str, Any]:
    return {"total_bytes": memory.total, "at": memory.moment, "parts_bytes": dict(memory.parts)}
