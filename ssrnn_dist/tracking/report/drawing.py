"""How every picture of lines looks: one size, one type, a palette for colour-blind readers, labels at the lines.

Imports matplotlib inside functions, its Agg and SVG backends through Figure; no pyplot, no global state."""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssrnn_dist.tracking.report import numbers
from ssrnn_dist.tracking.report.labels import Label, label_ends
from ssrnn_dist.tracking.report.source import Series
from ssrnn_dist.tracking.report.thinning import after_the_beginning, can_be_shown, thinned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#00795B"
LAYER_COLOURS = (BLUE, ORANGE, GREEN)
INK, PALE_INK, RULE = "#1d2733", "#5b6673", "#e3e7ec"
WIDTH_INCHES, HEIGHT_INCHES = 4.8, 2.8
PNG_DOTS_PER_INCH = 220
LEFT, RIGHT, BOTTOM, TOP = 0.115, 0.97, 0.165, 0.88


@dataclass(frozen=True)
class Line:
    """One line of a picture, with the label and the value that stand at its end."""

    series: Series
    label: str
    colour: str
    value: str
    dashed: bool = False
    markers: bool = False
    thin: bool = False

    @property
    def text(self) -> str:
        return " ".join(part for part in (self.label, self.value) if part)


@dataclass(frozen=True)
class Across:
    """The horizontal axis: what it is and how its numbers are written. restart: what a thin vertical line is."""

    label: str = "step"
    tick: Callable[[float], str] = numbers.count
    whole: bool = True
    restart: str = "restart"


STEPS = Across()


@dataclass(frozen=True)
class Band:
    """A pale band between two lines over the same steps."""

    low: Series
    high: Series
    colour: str


def figure(
    lines: Sequence[Line],
    *,
    unit: str,
    across: Across = STEPS,
    bands: Sequence[Band] = (),
    restarts: Sequence[float] = (),
    log_axis: bool = False,
    from_zero: bool = False,
    hug_the_tail: bool = False,
    empty: str = "nothing logged yet",
) -> "Figure":
    """Draw lines, over optimizer steps if not said otherwise; unit stands above the axis, restarts are thin lines.

    hug_the_tail: cut the steep beginning off the vertical axis, so that the long tail can be read."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), facecolor="white")
    axes = drawn.add_axes((LEFT, BOTTOM, RIGHT - LEFT, TOP - BOTTOM), facecolor="none")
    shown = [line for line in lines if can_be_shown(line.series, log_axis)]
    if not shown:
        _say(axes, "not a number" if any(line.series.values for line in lines) and not log_axis else empty)
        return drawn
    _style(axes, unit, across.label)
    if log_axis:
        axes.set_yscale("log")
    for band in bands:
        axes.fill_between(band.low.steps, band.low.values, band.high.values, color=band.colour, alpha=0.16, linewidth=0)
    for line in shown:
        _draw(axes, line, log_axis)
    _scale_across(axes, shown, across)
    _scale(axes, shown, log_axis=log_axis, from_zero=from_zero, hug_the_tail=hug_the_tail)
    _mark_restarts(axes, restarts, across.restart)
    ends = [(line, _height_of_end(axes, line.series, log_axis)) for line in shown if line.text]
    label_ends(axes, [Label(line.text, line.colour, height) for line, height in ends])
    return drawn


def _style(axes: Any, unit: str, across: str) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(PALE_INK)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", which="both", length=0, labelsize=9, labelcolor=PALE_INK, pad=4)
    axes.figure.text(0.004, 0.925, unit, fontsize=9, color=PALE_INK)
    axes.set_xlabel(across, fontsize=9, color=PALE_INK, labelpad=2)


def _say(axes: Any, text: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=10.5, color=PALE_INK)


def _draw(axes: Any, line: Line, log_axis: bool) -> None:
    steps, values = thinned(line.series, log_axis)
    few = len(values) <= 12 and not line.thin
    linewidth = 1.0 if line.thin else 1.6
    axes.plot(
        steps,
        values,
        color=line.colour,
        linewidth=linewidth,
        linestyle=(0, (3.5, 1.6)) if line.dashed else "-",
        marker="o" if few or (line.markers and len(values) <= 40) else None,
        markersize=4.2,
        markeredgewidth=0,
        solid_capstyle="round",
    )


def _scale_across(axes: Any, lines: Sequence[Line], across: Across) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    first = min(min(line.series.steps) for line in lines)
    last = max(max(line.series.steps) for line in lines)
    margin = 0.02 * (last - first) or 0.02 * abs(last) or 1.0
    axes.set_xlim(0 if 0 <= first < 0.1 * last else first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=across.whole))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: across.tick(step)))


def _scale(axes: Any, lines: Sequence[Line], *, log_axis: bool, from_zero: bool, hug_the_tail: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if log_axis:
        _widen_to_a_decade(axes)
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,), numticks=7))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.tick(value)))
        axes.yaxis.set_minor_locator(NullLocator())
        return
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.tick(value)))
    values = [each for line in lines for each in thinned(line.series)[1] if math.isfinite(each)]
    low, high = min(values), max(values)
    if hug_the_tail:
        late = [each for line in lines for each in after_the_beginning(line.series)]
        high = min(high, low + 1.6 * (max(late) - low)) if late and max(late) > low else high
    if from_zero:
        low = min(0.0, low)
    space = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set_ylim(low if from_zero and low == 0 else low - space, high + space)


def _widen_to_a_decade(axes: Any) -> None:
    """A log axis shows at least a factor of ten, so that it has labels to be read by."""
    low, high = axes.get_ylim()
    if high / low < 10:
        spread = math.sqrt(10 * low / high)
        axes.set_ylim(low / spread, high * spread)


def _mark_restarts(axes: Any, restarts: Sequence[float], what: str) -> None:
    low, high = axes.get_xlim()
    inside = sorted({step for step in restarts if low <= step <= high})
    for step in inside:
        axes.axvline(step, color=PALE_INK, linewidth=0.8, linestyle=(0, (1.5, 2)), zorder=1)
    if inside:
        word = what if len(inside) == 1 else f"{what}s"
        late = inside[0] > low + 0.75 * (high - low)
        axes.annotate(
            word,
            (inside[0], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-3 if late else 3, -1),
            textcoords="offset points",
            fontsize=8,
            color=PALE_INK,
            va="top",
            ha="right" if late else "left",
        )


def _height_of_end(axes: Any, series: Series, log_axis: bool) -> float:
    """Where on the axis, from 0 to 1, the line ends."""
    drawable = [each for each in thinned(series, log_axis)[1] if math.isfinite(each)]
    height = axes.transAxes.inverted().transform(axes.transData.transform((0, drawable[-1])))[1]
    return min(1.0, max(0.0, float(height)))


def layer_colour(index: int, layers: int) -> str:
    """A colour of its own for each of a few layers; for more, from light to dark blue with depth."""
    if layers <= len(LAYER_COLOURS):
        return LAYER_COLOURS[index]
    shade = index / max(1, layers - 1)
    light, dark = (122, 178, 219), (0, 40, 84)
    return "#" + "".join(f"{round(a + (b - a) * shade):02x}" for a, b in zip(light, dark, strict=True))


def svg_bytes(drawn: "Figure") -> bytes:
    """The figure as SVG without dates or addresses, its text as outlines: it looks the same everywhere."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "ssrnn"}):
        drawn.savefig(
            buffer,
            format="svg",
            facecolor="none",
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return buffer.getvalue()


def png_bytes(drawn: "Figure") -> bytes:
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=PNG_DOTS_PER_INCH)
    return buffer.getvalue()
