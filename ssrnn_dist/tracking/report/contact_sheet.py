"""Several figures on one sheet, with a headline: for places that show one picture and no page.

Imports matplotlib and numpy inside functions."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ssrnn_dist.tracking.report import drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
HEAD_INCHES, MARGIN_INCHES = 0.95, 0.2


def png_bytes(title: str, headline: Sequence[tuple[str, str]], figures: Sequence["Figure"]) -> bytes:
    """A sheet with two figures a row, below a title and a few named numbers."""
    from matplotlib.figure import Figure

    rows = -(-len(figures) // 2)
    width = 2 * drawing.WIDTH_INCHES + 3 * MARGIN_INCHES
    height = HEAD_INCHES + rows * (drawing.HEIGHT_INCHES + MARGIN_INCHES)
    sheet = Figure(figsize=(width, height), facecolor="white")
    sheet.text(MARGIN_INCHES / width, 1 - 0.3 / height, title, fontsize=13, color=drawing.INK, va="center")
    for index, (name, value) in enumerate(headline):
        left = MARGIN_INCHES / width + index / max(1, len(headline)) * (1 - 2 * MARGIN_INCHES / width)
        sheet.text(left, 1 - 0.72 / height, f"{name}  ", fontsize=9, color=drawing.PALE_INK, va="center")
        inches = 0.075 * len(name) + 0.15
        sheet.text(left + inches / width, 1 - 0.72 / height, value, fontsize=12, color=drawing.BLUE, va="center")
    for index, figure in enumerate(figures):
        left = MARGIN_INCHES + index % 2 * (drawing.WIDTH_INCHES + MARGIN_INCHES)
        bottom = height - HEAD_INCHES - (index // 2 + 1) * (drawing.HEIGHT_INCHES + MARGIN_INCHES) + MARGIN_INCHES / 2
        box = (left / width, bottom / height, drawing.WIDTH_INCHES / width, drawing.HEIGHT_INCHES / height)
        axes = sheet.add_axes(box)
        axes.set_axis_off()
        axes.imshow(_pixels(figure), interpolation="none", aspect="auto")
    buffer = io.BytesIO()
    sheet.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def _pixels(figure: "Figure") -> Any:
    import numpy
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return numpy.asarray(canvas.buffer_rgba())
