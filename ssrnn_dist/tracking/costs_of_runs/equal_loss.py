"""What runs have cost until they came to the same loss. Pure.

Imports the standard library only."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from ssrnn_dist.tracking.costs_of_runs.run_cost import METRICS, RunCost

SMOOTHED = 10  # logged training losses, whose mean counts: one lucky batch reaches nothing


@dataclass(frozen=True)
class Reached:
    """step, cost_usd: at which the loss was reached; None where it was not, or its cost is not known."""

    name: str
    best: float | None
    step: float | None
    cost_usd: float | None


@dataclass(frozen=True)
class EqualLoss:
    """metric: valid_loss, or train_loss as a mean over SMOOTHED logged steps.  loss: nats per token, of all."""

    metric: str
    loss: float
    runs: tuple[Reached, ...]


def compare(costs: Sequence[RunCost], metric: str | None = None, loss: float | None = None) -> EqualLoss | None:
    """The cost of each run until the loss; None where no run has the metric.

    metric: if None, valid_loss where all runs have it, else train_loss.  loss: if None, the best that all reached."""
    if metric is None:
        metric = next((each for each in METRICS if all(cost.losses(each) for cost in costs)), METRICS[-1])
    curves = [curve(cost, metric) for cost in costs]
    bests = [min(value for _, value in points) for points in curves if points]
    if not bests:
        return None
    target = max(bests) if loss is None else loss
    return EqualLoss(
        metric, target, tuple(_reached(cost, points, target) for cost, points in zip(costs, curves, strict=True))
    )


def curve(cost: RunCost, metric: str) -> list[tuple[int, float]]:
    """(step, loss): as it was validated, or the mean of the last SMOOTHED training losses."""
    points = list(cost.losses(metric))
    if metric == "valid_loss":
        return points
    losses = [value for _, value in points]
    return [
        (step, sum(losses[max(0, index + 1 - SMOOTHED) : index + 1]) / min(index + 1, SMOOTHED))
        for index, (step, _) in enumerate(points)
    ]


def _reached(cost: RunCost, points: Sequence[tuple[int, float]], target: float) -> Reached:
    step = step_at(points, target)
    best = min((value for _, value in points), default=None)
    return Reached(cost.name, best, step, None if step is None else value_at(cost.cost_at_step, step))


def step_at(points: Sequence[tuple[int, float]], target: float) -> float | None:
    """The first step at which a curve comes down to the target, between two points on the line through them."""
    before: tuple[int, float] | None = None
    for step, value in points:
        if value <= target:
            if before is None or before[1] == value:
                return float(step)
            return before[0] + (step - before[0]) * (before[1] - target) / (before[1] - value)
        before = (step, value)
    return None


def value_at(points: Sequence[tuple[int, float]], step: float) -> float | None:
    """A curve's value at a step, between two points on the line through them; before the first, on the line from 0.

    None without points or beyond the last."""
    place = bisect_left(points, step, key=lambda point: point[0])
    if place == len(points):
        return None
    after = points[place]
    before = points[place - 1] if place else (0, 0.0)
    if after[0] == before[0]:
        return after[1]
    return before[1] + (after[1] - before[1]) * (step - before[0]) / (after[0] - before[0])
