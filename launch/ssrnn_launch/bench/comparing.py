"""What is made of measured runs: seconds a step, ratios, and the refusal where results differ. Pure.

Imports LaunchFailed only."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ssrnn_launch.problems import LaunchFailed

LOSS_TOLERANCE = 1e-4  # relative, of a mean over some steps; float32 sums in another order


@dataclass(frozen=True)
class Timed:
    """One run of one loop: seconds a step in each window of steps, and each window's mean loss (nats per token).

    A window is what lies between two logged steps, so that logging counts in every one of them.
    core_windows: the same of the process's processor time, which other processes hardly change.
    inside_seconds: of a step's seconds, those within it by the loop's own stopwatch; None where it has none."""

    windows: tuple[float, ...]
    core_windows: tuple[float, ...]
    losses: tuple[float, ...]
    inside_seconds: float | None = None

    @property
    def step_seconds(self) -> float:
        return statistics.median(self.windows)

    @property
    def core_seconds(self) -> float:
        return statistics.median(self.core_windows)


def windows_of(ends: Sequence[float], every: int) -> tuple[float, ...]:
    """Seconds a step of each window of `every` steps but the first, which warms up.

    ends: the clock at the end of each step from the first on."""
    marks = list(ends)[every - 1 :: every]
    return tuple((end - start) / every for start, end in pairwise(marks))


def means_of(losses: Sequence[float], every: int) -> tuple[float, ...]:
    """The mean of each whole window."""
    whole = len(losses) // every * every
    return tuple(statistics.fmean(losses[at : at + every]) for at in range(0, whole, every))


def check_equal(what: str, losses: Mapping[str, Sequence[float]]) -> None:
    """LaunchFailed where loops that should learn the same did not: then no time of theirs is told.

    losses: of each loop, the mean of each window; the first loop is what the others are held against."""
    (first, wanted), *others = losses.items()
    if not wanted:
        raise LaunchFailed(f"{what}: {first} logged no loss; nothing is told")
    for name, found in others:
        if len(found) != len(wanted):
            raise LaunchFailed(f"{what}: {name} logged {len(found)} losses, {first} {len(wanted)}; nothing is told")
        for window, (one, other) in enumerate(zip(wanted, found, strict=True), 1):
            if not math.isclose(one, other, rel_tol=LOSS_TOLERANCE):
                raise LaunchFailed(
                    f"{what}: the loss of window {window} is {other:.6f} in {name}, {one:.6f} in {first}; "
                    "nothing is told of loops that don't learn the same"
                )


@dataclass(frozen=True)
class Ratio:
    """The median over the rounds, and its least and most."""

    median: float
    least: float
    most: float


def judged(ratio: Ratio, is_met: bool, resolution: float) -> bool | None:
    """Is the goal met?  None: not known, the rounds differ by more than the resolution: something else runs here."""
    return None if ratio.most - ratio.least > resolution else is_met


def ratio_of(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """over / under, round by round: what drifts from round to round drops out."""
    ratios = [one / other for one, other in zip(over, under, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))
