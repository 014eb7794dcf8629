"""What a run costs, over all its restarts: the ledger of worker time, its file and the sums over it.

Imports the standard library only; decisions are pure functions of the entries, the file is at the edge."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssrnn_dist.tracking.jsonl import JsonLines, read_json_lines

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Cost:
    """What was spent so far; the dollars are None where the price of any of the time is not known."""

    worker_hours: float
    cost_usd: float | None
    usd_per_million_tokens: float | None


@dataclass(frozen=True)
class Segment:
    """One life of one worker group, from opening the ledger to its last beat.

    seconds: elapsed time of the group.  from_step, step: optimizer steps done at its start and at its last beat."""

    workers: int
    usd_per_worker_hour: float | None
    from_step: int
    step: int
    seconds: float = 0.0
    tokens: int = 0

    @property
    def worker_hours(self) -> float:
        return self.seconds * self.workers / SECONDS_PER_HOUR


@dataclass(frozen=True)
class Totals:
    """Sums over all segments of a run.

    goodput is distinct steps / executed steps: 1.0 where no step had to be repeated, None where none was executed.
    Time and steps after the last beat of a life that was killed are not known, and not invented."""

    segments: tuple[Segment, ...]
    worker_hours: float
    cost_usd: float | None
    tokens: int
    usd_per_million_tokens: float | None
    executed_steps: int
    distinct_steps: int
    goodput: float | None

    @property
    def restarts(self) -> int:
        return max(0, len(self.segments) - 1)

    @property
    def restart_steps(self) -> tuple[int, ...]:
        """The step from which each life but the first went on."""
        return tuple(segment.from_step for segment in self.segments[1:])


def totals(entries: Iterable[Mapping[str, Any]]) -> Totals:
    """Sum the entries of a ledger, oldest first: `start` opens a segment, `beat` brings the newest one up to date."""
    return totals_of(segments_of(entries))


def totals_of(segments: tuple[Segment, ...]) -> Totals:
    """Sum the segments of a run, oldest first."""
    cost_usd = cost_of(segments)
    tokens = next((each.tokens for each in reversed(segments) if each.tokens), 0)
    executed = sum(each.step - each.from_step for each in segments)
    distinct = _length_of_union((each.from_step, each.step) for each in segments)
    return Totals(
        segments=segments,
        worker_hours=sum(each.worker_hours for each in segments),
        cost_usd=cost_usd,
        tokens=tokens,
        usd_per_million_tokens=per_million(cost_usd, tokens),
        executed_steps=executed,
        distinct_steps=distinct,
        goodput=distinct / executed if executed else None,
    )


def segments_of(entries: Iterable[Mapping[str, Any]]) -> tuple[Segment, ...]:
    """The segments that the entries tell of; a beat before any start belongs to nothing and is left out."""
    segments: list[Segment] = []
    for entry in entries:
        if entry.get("kind") == "start":
            step = int(entry["from_step"])
            segments.append(Segment(int(entry["workers"]), entry["usd_per_worker_hour"], step, step))
        elif entry.get("kind") == "beat" and segments:
            segments[-1] = _after_beat(segments[-1], entry["seconds"], entry["step"], entry["tokens"])
    return tuple(segments)


def _after_beat(segment: Segment, seconds: float, step: int, tokens: int) -> Segment:
    """Booked time and steps never shrink."""
    return replace(segment, seconds=max(segment.seconds, seconds), step=max(segment.step, step), tokens=tokens)


def cost_of(segments: Iterable[Segment]) -> float | None:
    """Dollars of all segments, each at its own price; None where any time has no price, or nothing has one."""
    billed = [(each.worker_hours, each.usd_per_worker_hour) for each in segments]
    if any(hours and price is None for hours, price in billed) or all(price is None for _, price in billed):
        return None
    return sum(hours * price for hours, price in billed if price is not None)


def per_million(cost_usd: float | None, tokens: int) -> float | None:
    """Dollars for a million tokens; None without a cost or before the first token."""
    return None if cost_usd is None or not tokens else cost_usd / tokens * 1e6


def _length_of_union(intervals: Iterable[tuple[int, int]]) -> int:
    length, reached = 0, -1
    for start, end in sorted(intervals):
        length += max(0, end - max(start, reached))
        reached = max(reached, end)
    return length


def read_ledger(path: Path) -> Totals:
    """The totals of a ledger file, for readers; a missing file is an empty ledger."""
    return totals(read_json_lines(path))


class Ledger:
    """The books of a run, open for one segment: one life of one worker group."""

    def __init__(
        self,
        path: Path,
        *,
        workers: int,
        usd_per_worker_hour: float | None,
        from_step: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start a new segment in the file at path.

        workers: ranks of this group.  usd_per_worker_hour: the price that this segment keeps; None: not known.
        from_step: optimizer steps that stand already (0, or the step of the checkpoint it resumes from).
        clock: seconds that never go back.  Raises OSError where the file cannot be written."""
        self._clock = clock
        self._started_at = clock()
        self._earlier = segments_of(read_json_lines(path))
        self._current = Segment(workers, usd_per_worker_hour, from_step, from_step)
        self._lines = JsonLines(path)
        self._lines.append(
            {
                "kind": "start",
                "time": time.time(),
                "workers": workers,
                "usd_per_worker_hour": usd_per_worker_hour,
                "from_step": from_step,
            }
        )

    @property
    def restarts(self) -> int:
        """Earlier segments of this run."""
        return len(self._earlier)

    def beat(self, step: int, tokens: int) -> None:
        """Book the segment's time until now.

        step: optimizer steps done, from the run's beginning.  tokens: trained on so far, each once."""
        seconds = round(self._clock() - self._started_at, 3)
        self._lines.append({"kind": "beat", "seconds": seconds, "step": step, "tokens": tokens})
        self._current = _after_beat(self._current, seconds, step, tokens)

    def cost(self, tokens: int) -> Cost:
        """What all segments cost until the last beat: what is booked, so that it never shrinks after a kill."""
        segments = (*self._earlier, self._current)
        cost_usd = cost_of(segments)
        return Cost(sum(each.worker_hours for each in segments), cost_usd, per_million(cost_usd, tokens))

    def totals(self) -> Totals:
        """The sums over all segments, this one until its last beat."""
        return totals_of((*self._earlier, self._current))

    def close(self) -> None:
        self._lines.close()
