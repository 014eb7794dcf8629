"""Time against dollars of a plan's choices, the Pareto front marked. Imports matplotlib inside."""

from typing import TYPE_CHECKING

from ssrnn_dist.tracking.report.drawing import BLUE, INK, ORANGE, PALE_INK, RULE
from ssrnn_launch.plan.forecast import Choice, Forecast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNITS = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0))


def draw_plan(name: str, found: Forecast, source: str) -> "Figure":
    """A point a choice. Where no price is known, time against workers."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(7.2, 4.6), facecolor="white")
    axes = drawn.add_axes((0.12, 0.17, 0.84, 0.68))
    shown = [each for each in found.choices if each.impossible is None and each.run_seconds is not None]
    drawn.text(0.012, 0.945, f"{name}: time against {_other(shown)}", fontsize=12, color=INK, weight="bold")
    drawn.text(0.012, 0.02, source, fontsize=7.5, color=PALE_INK)
    if not shown:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no time is known of any choice that is possible", ha="center", color=PALE_INK)
        return drawn
    _style(axes)
    priced = [each for each in shown if each.cost_usd is not None]
    longest = max(each.run_seconds or 0.0 for each in shown)
    unit, seconds = next(pair for pair in UNITS if longest >= 2 * pair[1] or pair is UNITS[-1])
    places = {each.workers: (_across(each, bool(priced)), (each.run_seconds or 0.0) / seconds) for each in shown}
    _draw(axes, shown, places, found.front)
    axes.set_xlabel("dollars" if priced else "workers", fontsize=9, color=PALE_INK)
    drawn.text(0.012, 0.885, unit, fontsize=9, color=PALE_INK)
    return drawn


def _other(shown: list[Choice]) -> str:
    return "dollars" if any(each.cost_usd is not None for each in shown) else "workers (dollars are not known)"


def _across(choice: Choice, by_dollars: bool) -> float:
    return (choice.cost_usd or 0.0) if by_dollars else float(choice.workers)


def _style(axes: "Axes") -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(PALE_INK)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", which="both", length=0, labelsize=9, labelcolor=PALE_INK)
    axes.margins(0.12)


def _draw(axes: "Axes", shown: list[Choice], places: dict[int, tuple[float, float]], front: tuple[int, ...]) -> None:
    on_front = sorted(places[n] for n in front if n in places)
    if len(on_front) > 1:
        axes.plot(*zip(*on_front, strict=True), color=BLUE, linewidth=1.4, zorder=2, label="Pareto front")
    for each in shown:
        x, y = places[each.workers]
        colour = BLUE if each.workers in front else PALE_INK
        axes.plot([x], [y], "o", color=colour, markersize=7, zorder=3)
        if each.is_given:
            axes.plot([x], [y], "o", markersize=13, markerfacecolor="none", markeredgecolor=ORANGE, zorder=3)
        label = f"{each.workers} worker{'s' * (each.workers != 1)}"
        axes.annotate(label, (x, y), xytext=(8, 6), textcoords="offset points", fontsize=8.5, color=INK)
    axes.set_ylim(bottom=0)
    axes.plot([], [], "o", markersize=9, markerfacecolor="none", markeredgecolor=ORANGE, label="given in the config")
    axes.legend(frameon=False, fontsize=8.5, labelcolor=PALE_INK)
