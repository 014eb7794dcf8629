"""Times several things fairly: in turn, in one run, the median of the rounds. Imports the standard library only."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def wall_seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def in_turn(
    runs: Mapping[Name, Callable[[], object]],
    rounds: int,
    seconds_of: Callable[[Callable[[], object]], float] = wall_seconds,
) -> dict[Name, float]:
    """Median seconds of each, all of them once in every round, after a round that is not counted."""
    times: dict[Name, list[float]] = {name: [] for name in runs}
    for round_number in range(rounds + 1):
        for name, run in runs.items():
            seconds = seconds_of(run)
            if round_number:
                times[name].append(seconds)
    return {name: statistics.median(each) for name, each in times.items()}
