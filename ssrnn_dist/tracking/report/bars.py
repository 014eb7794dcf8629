"""Stacked bars: what a whole is made of, in the style of drawing.py.

Imports matplotlib inside functions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssrnn_dist.tracking.report import drawing
from ssrnn_dist.tracking.report.phase_words import WORDS_AND_COLOURS, colour, word

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEGEND_SIZE, SMALLEST_SHARE = 9, 1e-9


@dataclass(frozen=True)
class Bar:
    """label: left of it.  value: right of it.  parts: by phase, in one unit."""

    label: str
    value: str
    parts: Mapping[str, float]

    @property
    def whole(self) -> float:
        return sum(self.parts.values())


def one_bar(parts: Mapping[str, float], unit: str, written: Callable[[float], str]) -> "Figure":
    """One bar over the whole width, and below it each part with what it is, how much, and its share."""
    drawn = _empty_figure()
    whole = sum(parts.values())
    if whole <= 0:
        return _nothing(drawn)
    drawn.text(0.004, 0.925, unit, fontsize=9, color=drawing.PALE_INK)
    axes = drawn.add_axes((0.012, 0.7, 0.976, 0.17))
    axes.set_axis_off()
    axes.set_xlim(0, whole)
    _stack(axes, 0, parts, height=1.0)
    shown = [phase for phase in WORDS_AND_COLOURS if parts.get(phase, 0.0) > SMALLEST_SHARE * whole]
    for row, phase in enumerate(sorted(shown, key=lambda each: -parts[each])):
        y = 0.6 - 0.085 * row
        drawn.text(0.012, y, "■", color=colour(phase), fontsize=LEGEND_SIZE, va="center")
        drawn.text(0.055, y, word(phase), color=drawing.INK, fontsize=LEGEND_SIZE, va="center")
        drawn.text(0.62, y, written(parts[phase]), color=drawing.INK, fontsize=LEGEND_SIZE, va="center", ha="right")
        share = f"{100 * parts[phase] / whole:.1f} %"
        drawn.text(0.78, y, share, color=drawing.PALE_INK, fontsize=LEGEND_SIZE, va="center", ha="right")
    return drawn


def bars(rows: Sequence[Bar], unit: str) -> "Figure":
    """A bar a row, the first on top, each stacked by phase."""
    drawn = _empty_figure()
    widest = max((row.whole for row in rows), default=0.0)
    if widest <= 0:
        return _nothing(drawn)
    drawn.text(0.004, 0.925, unit, fontsize=9, color=drawing.PALE_INK)
    left = 0.03 + 0.0172 * max(len(row.label) for row in rows)
    right = 0.985 - 0.016 * max(len(row.value) for row in rows)
    axes = drawn.add_axes((left, 0.04, right - left, 0.84))
    axes.set_axis_off()
    axes.set_xlim(0, widest)
    axes.set_ylim(max(len(rows), 4) - 0.4, -0.6)
    for index, row in enumerate(rows):
        _stack(axes, index, row.parts, height=0.62)
        place: dict[str, Any] = {"va": "center", "fontsize": LEGEND_SIZE, "clip_on": False}
        axes.text(-0.012 * widest, index, row.label, color=drawing.INK, ha="right", **place)
        axes.text(row.whole + 0.012 * widest, index, row.value, color=drawing.PALE_INK, ha="left", **place)
    return drawn


def _stack(axes: Any, at: float, parts: Mapping[str, float], height: float) -> None:
    start = 0.0
    for phase in WORDS_AND_COLOURS:
        length = parts.get(phase, 0.0)
        if length > 0:
            axes.barh(at, length, left=start, height=height, color=colour(phase), linewidth=0)
        start += length


def _empty_figure() -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(drawing.WIDTH_INCHES, drawing.HEIGHT_INCHES), facecolor="white")


def _nothing(drawn: "Figure") -> "Figure":
    drawn.text(0.5, 0.5, "nothing spent yet", ha="center", va="center", fontsize=10.5, color=drawing.PALE_INK)
    return drawn
