"""Which points of a series are drawn: as many as a screen shows, and only those that an axis can have. Pure."""

import math
from collections.abc import Sequence

from ssrnn_dist.tracking.report.source import Series

MOST_POINTS = 600  # of a line; more are averaged


def can_be_shown(series: Series, log_axis: bool) -> bool:
    return any(math.isfinite(value) and (value > 0 or not log_axis) for value in series.values)


def thinned(series: Series, log_axis: bool = False) -> tuple[list[float], list[float]]:
    """At most MOST_POINTS points, each the mean of its neighbours; NaN where nothing can be drawn."""
    values = [each if math.isfinite(each) and (each > 0 or not log_axis) else math.nan for each in series.values]
    size = math.ceil(len(values) / MOST_POINTS)
    if size <= 1:
        return series.steps, values
    starts = range(0, len(values), size)
    return (
        [_mean(series.steps[start : start + size]) for start in starts],
        [_mean([each for each in values[start : start + size] if not math.isnan(each)]) for start in starts],
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def after_the_beginning(series: Series) -> list[float]:
    """The values of all but the first twelfth of the steps, where a loss falls from its start."""
    steps, values = thinned(series)
    edge = steps[0] + (steps[-1] - steps[0]) / 12
    return [value for step, value in zip(steps, values, strict=True) if step > edge and math.isfinite(value)]
