"""What the whole run will cost, from what its steps have cost so far, with an honest width. Pure but for its memory.

Imports the standard library only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MOST_POINTS = 400  # thinned out by half when there are more, so that they reach back to the beginning
WARM_UP = 0.25  # of what was seen is left out: the first steps are slower
MOST_STRETCHES = 8
TAIL = 0.05  # of the run: so many steps with other workers still count after a resize
UNSEEN = 0.05  # of the rate, at the beginning: what a run has not met yet, as a standard deviation
# Student's t of nine times of ten, by the number of stretches less one.
T_NINE_OF_TEN = (6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89)

Curve = Sequence[tuple[int, float]]  # (steps made, what they cost), ascending, from (0, 0) on


@dataclass(frozen=True)
class Forecast:
    """Dollars of the whole run: expected, and the ends of the range that holds nine times of ten."""

    usd: float
    low: float
    high: float

    def plus(self, usd_each: float, expected: float, most: float) -> "Forecast":
        """With what may still happen and costs so much each: how often it is expected, and how often at most."""
        usd, above = self.usd + usd_each * expected, usd_each * (most - expected)
        return Forecast(usd, self.low, usd + math.hypot(self.high - self.usd, above))


@dataclass(frozen=True)
class _Look:
    step: int
    cost_usd: float
    usd_per_second: float
    life: int
    workers: int


class Forecaster:
    """Sees logged steps of one command, and foresees what the whole run will cost.

    It counts in paid seconds, dollars over dollars a second: a price that changes counts from the next step on.
    What an interruption costs (a failure, a resize: start-up, and steps done again) is in no step's cost; as many more
    are expected as there were in so many steps and half a run; for the upper end, even where there was none."""

    def __init__(self, steps: int) -> None:
        """steps: of the whole run."""
        self._steps = steps
        self._curve: list[tuple[int, float]] = [(0, 0.0)]
        self._last: _Look | None = None
        self._made = 0  # steps
        self._interruptions, self._lost_usd = 0, 0.0
        self._start_up_usd = 0.0

    def look(
        self, step: int, cost_usd: float | None, usd_per_second: float | None = None, *, life: int = 0, workers: int = 0
    ) -> Forecast | None:
        """Take note of a step, and foresee; None without a price or with fewer than two steps to go by.

        cost_usd: of the whole run until now.  usd_per_second: what it costs now; None: not known.
        life: of the worker group."""
        if cost_usd is None:
            return None
        now = _Look(step, cost_usd, usd_per_second or 1.0, life, workers)
        self._take(now)
        left = max(0, self._steps - step)
        of_steps = forecast(self._curve, left, cost_usd, now.usd_per_second)
        share = left / (self._made + self._steps / 2)
        seen = self._interruptions
        each = self._lost_usd / seen if seen else self._start_up_usd
        return of_steps and of_steps.plus(each, share * seen, poisson_quantile(share * (seen or 0.5)))

    def _take(self, now: _Look) -> None:
        last = self._last
        if last is not None and (now.life, now.step) == (last.life, last.step):
            return  # told twice
        self._last = now
        if last is None:
            self._start_up_usd = now.cost_usd if now.life == 0 else 0.0
        elif now.life != last.life or now.step < last.step:
            self._note_interruption(last, now)
        else:
            self._extend(last, now)

    def _extend(self, last: _Look, now: _Look) -> None:
        steps, seconds = self._curve[-1]
        paid = (now.cost_usd - last.cost_usd) / ((now.usd_per_second + last.usd_per_second) / 2)
        self._made += now.step - last.step
        self._curve.append((steps + now.step - last.step, seconds + paid))
        if len(self._curve) > MOST_POINTS:
            self._curve = [*self._curve[:-1:2], self._curve[-1]]

    def _note_interruption(self, last: _Look, now: _Look) -> None:
        """What was paid for no new step is lost; with other workers a step costs what it did, until more is known."""
        seen = forecast(self._curve, 1, 0.0, last.usd_per_second)
        if seen is not None:
            self._interruptions += 1
            self._lost_usd += max(0.0, now.cost_usd - last.cost_usd - seen.usd * (now.step - last.step))
        if now.workers != last.workers:
            scale, end = last.usd_per_second / now.usd_per_second, self._curve[-1][0]
            tail = [point for point in self._curve if point[0] >= end - TAIL * self._steps]
            first, began = tail[0]
            self._curve = [(steps - first, scale * (seconds - began)) for steps, seconds in tail]


def forecast(curve: Curve, left: int, spent_usd: float, usd_per_second: float = 1.0) -> Forecast | None:
    """Dollars of the whole run; None where the curve has one point only.

    curve: steps made and the seconds that were paid for them.  left: steps to come.  usd_per_second: from now on.
    The rate is that of the curve without its first quarter. Its error, and the noise of the steps to come, are taken
    from stretches of about equal length, as neighbouring steps resemble each other; what a run has not met yet (a
    drift, failures) widens the range by a part of what is left, less the longer it has run."""
    if len(curve) < 2:
        return None
    marks = _marks(curve)
    (first, began), (last, ended) = marks[0], marks[-1]
    rate = (ended - began) / (last - first)
    rates = [(after[1] - before[1]) / (after[0] - before[0]) for before, after in pairwise(marks)]
    unseen = UNSEEN * rate * left / (last + left)
    deviation = math.hypot(_error_of_rate(rates, rate, left / (last - first)), unseen)
    t = T_NINE_OF_TEN[min(len(rates), len(T_NINE_OF_TEN)) - 1]
    usd, width = rate * left * usd_per_second, t * deviation * left * usd_per_second
    return Forecast(spent_usd + usd, spent_usd + max(0.0, usd - width), spent_usd + usd + width)


def poisson_quantile(mean: float, part: float = 0.95) -> int:
    """How often something happens at most, in so many of all cases, that happens so often on average."""
    count, term = 0, math.exp(-min(mean, 600.0))
    below = term
    while below < part:
        count += 1
        term *= mean / count
        below += term
    return count


def _error_of_rate(rates: Sequence[float], rate: float, left: float) -> float:
    """Standard deviation of the mean of the steps to come from the rate; left: of what was seen.

    Of one stretch the spread is not known: a tenth of the rate, which is wide enough with its t."""
    if len(rates) < 2:
        return rate / 10
    spread = math.sqrt(sum((each - rate) ** 2 for each in rates) / (len(rates) - 1))
    return spread * math.sqrt((1 + 1 / max(left, 1e-9)) / len(rates))


def _marks(curve: Curve) -> Curve:
    """The ends of up to so many stretches of about equal length, after the warm-up."""
    start = max(at for at, (steps, _) in enumerate(curve[:-1]) if steps <= WARM_UP * curve[-1][0])
    count = min(MOST_STRETCHES, len(curve) - 1 - start)
    return [curve[start + round(at * (len(curve) - 1 - start) / count)] for at in range(count + 1)]
