"""What the pages of a run share: headline cards, pictures as files and inside the page, the rendering.

Imports the report's own files; jinja2 and matplotlib inside functions."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssrnn_dist.files import write_bytes_atomic
from ssrnn_dist.tracking.report import drawing
from ssrnn_dist.tracking.report.pictures import Picture
from ssrnn_dist.tracking.report.source import RunSource

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABSENT = "–"


@dataclass(frozen=True)
class ReportPaths:
    html: Path
    pngs: tuple[Path, ...]


@dataclass(frozen=True)
class Card:
    """A headline number with its name above and a remark below."""

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Drawn:
    """Pictures, as figures, as files, and as the page shows them."""

    figures: tuple["Figure", ...]
    pngs: tuple[Path, ...]
    for_page: tuple[dict[str, str], ...]


def draw(run: RunSource, pictures: Sequence[Picture], folder: Path) -> Drawn:
    """Draw the pictures into a folder, and for a page. OSError where it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    figures, pngs, for_page = [], [], []
    for picture in pictures:
        figure = picture.draw(run)
        png = folder / f"{picture.name}.png"
        write_bytes_atomic(png, drawing.png_bytes(figure))
        svg = base64.b64encode(drawing.svg_bytes(figure)).decode()
        figures.append(figure)
        pngs.append(png)
        for_page.append({"title": picture.title, "text": picture.text, "data": f"data:image/svg+xml;base64,{svg}"})
    return Drawn(tuple(figures), tuple(pngs), tuple(for_page))


def render(template: str, **values: Any) -> str:
    """One of this package's templates, filled in; every value is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ssrnn_dist.tracking", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def state_of(run: RunSource) -> str:
    """`finished`, `stopped` or `under way`, and how far it came."""
    step, steps = run.summary.get("steps") or run.last_row.get("step", 0), run.last_row.get("steps")
    word = "under way" if not run.summary else "stopped" if run.summary.get("stopped") else "finished"
    return f"{word}, step {step:,} of {steps:,}" if steps else word


def facts_of(run: RunSource) -> list[str]:
    """One short line about the model, its learning rule and its workers."""
    model, feedback = run.config.get("model") or {}, run.config.get("feedback") or {}
    facts = []
    if model:
        layers = counted(model.get("n_layers"), "layer")
        facts.append(f"{str(model.get('cell', '')).upper()}, {layers} × {model.get('d_model')}")
    if feedback:
        sweeps = feedback.get("refinements")
        decay = f" ({feedback['decay']})" if feedback.get("decay") else ""
        facts.append(f"{feedback.get('kind')} feedback{decay}" + (f", {counted(sweeps, 'sweep')}" if sweeps else ""))
    workers = run.last_row.get("workers")
    if workers:
        facts.append(counted(workers, "worker"))
    return facts


def counted(number: Any, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s" if isinstance(number, int) else f"{thing}s"


def finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def number(value: Any, form: str, unit: str = "") -> str:
    known = finite(value)
    return ABSENT if known is None else f"{known:{form}}{unit}"


def text_or_absent(value: str) -> str:
    return value or ABSENT
