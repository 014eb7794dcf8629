"""Builds a run's report: runs/<name>/report.html, one self-contained file, and runs/<name>/pictures/*.png.

Imports the report's own files; jinja2 and matplotlib inside functions."""

import base64
import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ssrnn_dist.files import write_bytes_atomic, write_text_atomic
from ssrnn_dist.tracking.report import drawing, numbers
from ssrnn_dist.tracking.report.pictures import pictures_of
from ssrnn_dist.tracking.report.source import RunSource, read_run

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


def build_report(run_folder: Path) -> ReportPaths:
    """Read what stands in a run's folder and write its report, also of a run that is under way.

    Raises OSError where the folder cannot be written; what stood there before then stays whole."""
    run = read_run(run_folder)
    (run_folder / "pictures").mkdir(parents=True, exist_ok=True)
    pictures, pngs = [], []
    for picture in pictures_of(run):
        figure = picture.draw(run)
        png = run_folder / "pictures" / f"{picture.name}.png"
        write_bytes_atomic(png, drawing.png_bytes(figure))
        pngs.append(png)
        svg = base64.b64encode(drawing.svg_bytes(figure)).decode()
        pictures.append({"title": picture.title, "text": picture.text, "data": f"data:image/svg+xml;base64,{svg}"})
    html = run_folder / "report.html"
    write_text_atomic(html, _render(run, pictures))
    return ReportPaths(html, tuple(pngs))


def _render(run: RunSource, pictures: list[dict[str, str]]) -> str:
    from jinja2 import Environment, StrictUndefined

    text = resources.files(__package__).joinpath("template.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text).render(
        name=run.name,
        state=state_of(run),
        facts=facts_of(run),
        cards=cards_of(run),
        pictures=pictures,
        sample=run.sample,
        config=run.config_text.strip("\n"),
        mlflow_run_id=run.summary.get("mlflow_run_id"),
    )


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
        layers = _counted(model.get("n_layers"), "layer")
        facts.append(f"{str(model.get('cell', '')).upper()}, {layers} × {model.get('d_model')}")
    if feedback:
        sweeps = feedback.get("refinements")
        decay = f" ({feedback['decay']})" if feedback.get("decay") else ""
        facts.append(f"{feedback.get('kind')} feedback{decay}" + (f", {_counted(sweeps, 'sweep')}" if sweeps else ""))
    workers = run.last_row.get("workers")
    if workers:
        facts.append(_counted(workers, "worker"))
    return facts


def cards_of(run: RunSource) -> list[Card]:
    """The headline numbers, in the order in which they matter."""
    books = run.books
    cost, hours = run.headline("cost_usd"), run.headline("worker_hours")
    per_million = run.headline("usd_per_million_tokens")
    restarts = run.summary.get("restarts", books.restarts)
    goodput = run.summary.get("goodput", books.goodput)
    repeated = books.executed_steps - books.distinct_steps
    return [
        Card("Validation", _number(run.headline("valid_bits_per_byte"), ".3f"), "bits per byte"),
        Card("Perplexity", _number(run.headline("valid_perplexity"), ".4g"), "validation, per token"),
        Card("Tokens", _text(numbers.count(run.headline("tokens"))), "trained on"),
        Card("Speed", _text(numbers.count(_finite(run.headline("tokens_per_second")))), "tokens per second"),
        Card("Worker hours", _number(hours, ".3g"), "over all restarts"),
        Card(
            "Cost",
            numbers.dollars(cost) if cost is not None else "no price given",
            f"{numbers.dollars(per_million)} per million tokens" if per_million is not None else "US dollars",
        ),
        Card("Restarts", f"{restarts:,}", "none" if not restarts else f"{_counted(repeated, 'step')} repeated"),
        Card("Goodput", _number(goodput and 100 * goodput, ".4g", "%"), "steps not repeated"),
    ]


def _counted(number: Any, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s" if isinstance(number, int) else f"{thing}s"


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _number(value: Any, form: str, unit: str = "") -> str:
    finite = _finite(value)
    return ABSENT if finite is None else f"{finite:{form}}{unit}"


def _text(value: str) -> str:
    return value or ABSENT
