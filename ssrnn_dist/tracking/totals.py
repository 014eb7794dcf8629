"""What the lives of a run add up to: time, dollars and energy, by phase, and what failures cost. Pure but for one file.

Imports the standard library, lives and jsonl only."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssrnn_dist.tracking.jsonl import read_json_lines
from ssrnn_dist.tracking.lives import SECONDS_PER_HOUR, Life, Rate, lives_of
from ssrnn_dist.tracking.phases import LOST, PHASES, START_UP, TRAINING

__all__ = ["Life", "Rate", "Totals", "per_million", "read_ledger", "totals", "totals_of"]
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Totals:
    """Sums over all lives of a run; dollars are None where the price of any of the time is not known.

    goodput: distinct steps / executed steps, 1.0 where none had to be repeated, None where none was executed.
    lost_usd: what failures cost: repeated steps, and the start-up of the lives that follow one."""

    lives: tuple[Life, ...]
    worker_hours: float
    idle_hours: float
    seconds_by_phase: Mapping[str, float]
    usd_by_phase: Mapping[str, float] | None
    cost_usd: float | None
    lost_usd: float | None
    tokens: int
    usd_per_million_tokens: float | None
    energy_kwh: float | None
    executed_steps: int
    distinct_steps: int
    goodput: float | None

    @property
    def restarts(self) -> int:
        """Lives after the first that were not planned resizes, nor stopped while they waited for room."""
        return sum(life.why == "failure" or (life.why != "resize" and life.has_begun) for life in self.lives[1:])

    @property
    def resizes(self) -> int:
        return sum(life.why == "resize" for life in self.lives)

    @property
    def restart_steps(self) -> tuple[int, ...]:
        """The step from which each life but the first went on."""
        return tuple(life.from_step for life in self.lives[1:] if life.from_step is not None)

    @property
    def reached_step(self) -> int:
        """The furthest step of any life; what a later life does before it, it repeats."""
        return max((life.step for life in self.lives), default=0)

    @property
    def useful_fraction(self) -> float | None:
        """Of all that was rented, the time that trained, and not again; None where nothing was."""
        whole = sum(self.seconds_by_phase.values())
        return self.seconds_by_phase[TRAINING] / whole if whole else None


def read_ledger(path: Path) -> Totals:
    """The totals of a ledger file; a missing file is an empty ledger."""
    return totals(read_json_lines(path))


def totals(rows: Iterable[Mapping[str, Any]]) -> Totals:
    """Sum a ledger's rows, oldest first."""
    return totals_of(lives_of(rows))


def totals_of(lives: tuple[Life, ...]) -> Totals:
    """Sum lives, oldest first."""
    seconds = [life.seconds_by_phase() for life in lives]
    dollars = _usd_of(lives)
    usd_by_phase = None if dollars is None else _added(dollars)
    cost_usd = None if usd_by_phase is None else sum(usd_by_phase.values())
    tokens = next((life.tokens for life in reversed(lives) if life.tokens), 0)
    executed = sum(end - start for start, end in (life.steps for life in lives))
    distinct = _length_of_union(life.steps for life in lives)
    joules = [life.joules for life in lives if life.joules is not None]
    return Totals(
        lives=lives,
        worker_hours=sum(life.worker_seconds for life in lives) / SECONDS_PER_HOUR,
        idle_hours=sum(sum(life.unoccupied.values()) for life in lives) / SECONDS_PER_HOUR,
        seconds_by_phase=_added(seconds),
        usd_by_phase=usd_by_phase,
        cost_usd=cost_usd,
        lost_usd=None if dollars is None else _lost_usd(lives, dollars),
        tokens=tokens,
        usd_per_million_tokens=per_million(cost_usd, tokens),
        energy_kwh=sum(joules) / JOULES_PER_KWH if joules else None,
        executed_steps=executed,
        distinct_steps=distinct,
        goodput=distinct / executed if executed else None,
    )


def per_million(cost_usd: float | None, tokens: int) -> float | None:
    """Dollars for a million tokens; None without a cost or before the first token."""
    return None if cost_usd is None or not tokens else cost_usd / tokens * 1e6


def _usd_of(lives: tuple[Life, ...]) -> list[dict[str, float]] | None:
    """Dollars of each life by phase; None where any time has no price, or nothing has one."""
    dollars = [life.usd_by_phase() for life in lives]
    rates = [rate for life in lives for rate in (*life.booked, *life.unoccupied)]
    known = [each for each in dollars if each is not None]
    if len(known) < len(lives) or all(rate.usd_per_hour is None for rate in rates):
        return None
    return known


def _added(by_phase: list[dict[str, float]]) -> dict[str, float]:
    return {phase: sum(each[phase] for each in by_phase) for phase in PHASES}


def _lost_usd(lives: tuple[Life, ...], dollars: list[dict[str, float]]) -> float:
    return sum(
        usd[LOST] + (usd[START_UP] if life.why == "failure" else 0.0) for life, usd in zip(lives, dollars, strict=True)
    )


def _length_of_union(intervals: Iterable[tuple[int, int]]) -> int:
    length, reached = 0, -1
    for start, end in sorted(intervals):
        length += max(0, end - max(start, reached))
        reached = max(reached, end)
    return length
