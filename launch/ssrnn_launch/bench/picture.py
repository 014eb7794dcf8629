"""A picture of what a start and a recovery are made of: a bar each, its stages one after the other.

Imports matplotlib inside."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ssrnn_dist.tracking.report.drawing import INK, PALE_INK, RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Near Okabe and Ito's, which colour-blind readers tell apart; dark enough for words, too.
COLOURS = ("#0072B2", "#D55E00", "#00795B", "#A3527F", "#8A6D00", "#3D6E8F", "#5b6673")
LINES = 4  # of words below a bar
Bar = tuple[str, list[tuple[str, float]]]


def bars_of(results: Mapping[str, Any]) -> list[Bar]:
    """Name and stages (words, seconds) of each bar, as far as they were measured."""
    starts = [
        (row["way"], [(stage["stage"], stage["seconds"]) for stage in row["stages"]])
        for row in results.get("start", {}).get("rows", [])
    ]
    recoveries = [(row["what"], _stages(row)) for row in results.get("recovery", {}).get("rows", [])]
    return [*starts, *recoveries]


def _stages(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    ends = ("noticed_seconds", "group_asked_for_seconds", "group_ready_seconds", "first_step_seconds")
    words = ("until it is noticed", "saving, or looking which nodes answer", "new group is ready", "first step")
    before = [0.0, *(row[end] for end in ends)]
    return [(word, row[end] - start) for word, end, start in zip(words, ends, before, strict=False)]


def draw(results: Mapping[str, Any]) -> "Figure":
    """All bars over one axis of seconds; the stages are named below them."""
    from matplotlib.figure import Figure

    bars = bars_of(results)
    drawn = Figure(figsize=(9.0, 0.8 + 1.15 * max(1, len(bars))), facecolor="white", layout="constrained")
    axes = drawn.add_subplot()
    if not bars:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "neither start nor recovery was measured", ha="center", color=PALE_INK)
        return drawn
    for place, (name, stages) in enumerate(bars):
        _draw_bar(axes, -place, name, stages)
    axes.set_yticks([])
    axes.set_ylim(-len(bars) + 0.2, 0.5)
    axes.set_xlabel("seconds", color=PALE_INK, fontsize=9)
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=PALE_INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.margins(x=0.08)
    return drawn


def _draw_bar(axes: "Axes", y: float, name: str, stages: Sequence[tuple[str, float]]) -> None:
    """The words stand on lines below the bar in turn, so that neighbours do not run into each other."""
    total = sum(seconds for _, seconds in stages)
    axes.text(0, y + 0.2, f"{name}: {total:.1f} s", fontsize=9.5, color=INK, weight="bold", va="bottom")
    start = 0.0
    for at, ((words, seconds), colour) in enumerate(zip(stages, COLOURS, strict=False)):
        axes.barh(y, seconds, left=start, height=0.3, color=colour, edgecolor="white")
        line = y - 0.2 - 0.13 * (at % LINES)
        axes.text(start, line, f"{words} {seconds:.1f}", fontsize=6.5, color=colour, va="top")
        start += seconds
