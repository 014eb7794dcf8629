"""Loss against dollars, for all runs in one picture. Imports matplotlib through drawing.py."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ssrnn_dist.tracking.costs_of_runs.equal_loss import EqualLoss, curve, value_at
from ssrnn_dist.tracking.costs_of_runs.run_cost import RunCost
from ssrnn_dist.tracking.report import drawing, numbers
from ssrnn_dist.tracking.report.drawing import Across, Line
from ssrnn_dist.tracking.report.source import Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST_NAME = 20


def loss_against_dollars(costs: Sequence[RunCost], equal: EqualLoss) -> "Figure":
    """A line a run, with what it cost to the common loss beside its name; that loss is dashed."""
    lines, dollars = [], [0.0]
    for index, (cost, reached) in enumerate(zip(costs, equal.runs, strict=True)):
        points = [(value_at(cost.cost_at_step, step), loss) for step, loss in curve(cost, equal.metric)]
        known = [(usd, loss) for usd, loss in points if usd is not None]
        series = Series([usd for usd, _ in known], [loss for _, loss in known])
        dollars += series.steps
        colour = drawing.layer_colour(index, len(costs))
        lines.append(Line(series, cost.name[:LONGEST_NAME], colour, numbers.dollars(reached.cost_usd)))
    level = Series([0.0, max(dollars)], [equal.loss, equal.loss])
    lines.append(Line(level, f"loss {numbers.number(equal.loss)}", drawing.PALE_INK, "", dashed=True, thin=True))
    unit = f"{equal.metric.replace('_', ' ')}, nats per token"
    across = Across("US dollars so far", numbers.tick, whole=False)
    return drawing.figure(lines, unit=unit, across=across, hug_the_tail=True)
