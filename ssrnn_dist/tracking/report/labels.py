"""Labels at the ends of lines: pushed apart where they would touch, with room made for them beside the axes.

Imports the standard library only; the axes are matplotlib's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LABEL_HEIGHT = 0.085  # of the axis: the least distance between two labels
LETTER_INCHES = 0.165 / 2.54


@dataclass(frozen=True)
class Label:
    """height: where on the axis, from 0 to 1, its line ends."""

    text: str
    colour: str
    height: float


def label_ends(axes: Any, labels: Sequence[Label]) -> None:
    """Write each label right of its line's end, and make the axes as much narrower as they need."""
    if not labels:
        return
    box = axes.get_position()
    longest = max(len(label.text) for label in labels)
    right = 1 - (LETTER_INCHES * longest / axes.figure.get_figwidth() + 0.035)
    axes.set_position((box.x0, box.y0, right - box.x0, box.height))
    labels = sorted(labels, key=lambda label: label.height)
    for label, height in zip(labels, spread([label.height for label in labels], LABEL_HEIGHT), strict=True):
        place = {"transform": axes.transAxes, "va": "center", "clip_on": False}
        axes.text(1.015, height, label.text, color=label.colour, fontsize=9, **place)


def spread(heights: Sequence[float], distance: float) -> list[float]:
    """Ascending heights, moved until neighbours are a distance apart, below 1 where they fit there."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + distance) if moved else height)
    top = max(1.0, distance * (len(moved) - 1))
    for index in reversed(range(len(moved))):
        limit = moved[index + 1] - distance if index + 1 < len(moved) else top
        moved[index] = min(moved[index], limit)
    return moved
