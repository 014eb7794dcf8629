"""The report's pictures, as matplotlib figures: what each one shows, and from which of the run's numbers.

Imports matplotlib through drawing.py; decides what is drawn, never how it looks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssrnn_dist.feedback.fidelity import BY_BPTT
from ssrnn_dist.tracking.report import drawing, numbers
from ssrnn_dist.tracking.report.drawing import Line
from ssrnn_dist.tracking.report.source import RunSource

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """name: of its PNG file.  text: what it shows, for those who cannot see it and as its caption."""

    name: str
    title: str
    text: str
    draw: Callable[[RunSource], "Figure"]


def loss(run: RunSource) -> "Figure":
    train, valid = run.series("train_loss"), run.series("valid_loss")
    lines = [
        Line(train, "training", drawing.BLUE, numbers.number(train.end)),
        Line(valid, "validation", drawing.ORANGE, numbers.number(valid.end), markers=True),
    ]
    return drawing.figure(lines, unit="nats per token", restarts=run.books.restart_steps, hug_the_tail=True)


def learning_rate(run: RunSource) -> "Figure":
    series = run.series("learning_rate")
    lines = [Line(series, "", drawing.BLUE, numbers.scientific(series.last))]
    return drawing.figure(lines, unit="AdamW's step size", restarts=run.books.restart_steps, from_zero=True)


def tokens_per_second(run: RunSource) -> "Figure":
    series = run.series("tokens_per_second")
    lines = [Line(series, "", drawing.BLUE, numbers.count(series.last))]
    return drawing.figure(lines, unit="tokens/s, all workers", restarts=run.books.restart_steps, from_zero=True)


def gradient_norm(run: RunSource) -> "Figure":
    series = run.series("gradient_norm")
    lines = [Line(series, "", drawing.BLUE, numbers.number(series.end))]
    return drawing.figure(lines, unit="norm before clipping", restarts=run.books.restart_steps, from_zero=True)


def fidelity(run: RunSource) -> "Figure":
    """Residual (solid) and estimated error (dashed) of each layer's feedback; the whole gradient's probed error."""
    lines = []
    if probed := run.series("probe_relative_error"):
        lines.append(Line(probed, "measured", drawing.INK, numbers.number(probed.last), markers=True))
    for key, what, dashed in (("layer_residuals", "residual", False), ("layer_error_estimates", "error", True)):
        layers = run.layers(key)
        for index, series in enumerate(layers):
            many = len(layers) > len(drawing.LAYER_COLOURS)
            label = "" if many and index not in (0, len(layers) - 1) else f"{what}, layer {index}"
            colour = drawing.layer_colour(index, len(layers))
            lines.append(Line(series, label, colour, "", dashed=dashed, thin=many))
    exact = (run.config.get("feedback") or {}).get("kind") == "exact"
    empty = "exact: the gradient is BPTT's own" if exact else "not measured yet"
    return drawing.figure(
        lines, unit="relative to the gradient", restarts=run.books.restart_steps, log_axis=True, empty=empty
    )


def sweeps(run: RunSource) -> "Figure":
    """What `refinements: auto` chose, layer by layer."""
    layers = run.layers("layer_sweeps")
    lines = [
        Line(series, f"layer {index}", drawing.layer_colour(index, len(layers)), _sweeps(series.last))
        for index, series in enumerate(layers)
    ]
    return drawing.figure(
        lines, unit=f"sweeps; {BY_BPTT}: BPTT itself", restarts=run.books.restart_steps, from_zero=True
    )


def _sweeps(count: float | None) -> str:
    return "BPTT" if count == BY_BPTT else numbers.count(count)


def epochs(run: RunSource) -> "Figure":
    """How often each corpus of a mixture was read."""
    return drawing.figure(
        _of_sources(run, "epochs"), unit="times read", restarts=run.books.restart_steps, from_zero=True
    )


def source_losses(run: RunSource) -> "Figure":
    """The held-out text of each corpus of a mixture by itself."""
    lines = _of_sources(run, "valid_loss")
    return drawing.figure(lines, unit="nats per token", restarts=run.books.restart_steps, hug_the_tail=True)


def _of_sources(run: RunSource, key: str) -> list[Line]:
    known = run.by_source(key)
    return [
        Line(series, name[:LONGEST_NAME], drawing.layer_colour(index, len(known)), numbers.number(series.end))
        for index, (name, series) in enumerate(known.items())
    ]


def money(run: RunSource) -> "Figure":
    """Dollars spent, or worker hours where no price is known."""
    cost, hours = run.series("cost_usd"), run.series("worker_hours")
    priced = bool(cost)
    line = (
        Line(cost, "", drawing.GREEN, numbers.dollars(cost.last))
        if priced
        else Line(hours, "", drawing.GREEN, numbers.hours(hours.last))
    )
    unit = "US dollars so far" if priced else "worker hours so far (no price given)"
    return drawing.figure([line], unit=unit, restarts=run.books.restart_steps, from_zero=True)


PICTURES = (
    Picture("loss", "Loss", "Cross-entropy on training and held-out text.", loss),
    Picture("learning_rate", "Learning rate", "Warm-up and decay, as scheduled.", learning_rate),
    Picture("tokens_per_second", "Speed", "Tokens trained on per second, by all workers together.", tokens_per_second),
    Picture(
        "fidelity",
        "Fidelity of the gradient",
        "Distance from BPTT by layer: residual solid, estimated error dashed; black: measured by probes.",
        fidelity,
    ),
    Picture("cost", "Cost", "What was spent by each step, repeated steps included.", money),
    Picture("gradient_norm", "Gradient norm", "Of the whole gradient, before it is clipped.", gradient_norm),
)


LONGEST_NAME = 16  # characters of a corpus's name beside its line
OF_A_MIXTURE = (
    Picture("sources", "Loss by corpus", "Cross-entropy on the held-out text of each corpus.", source_losses),
    Picture("epochs", "Epochs", "How often each corpus of the mixture was read.", epochs),
)
SWEEPS = Picture("sweeps", "Sweeps", "How many refinement sweeps each layer needed to keep its tolerance.", sweeps)


def pictures_of(run: RunSource) -> tuple[Picture, ...]:
    """All pictures that say something about this run."""
    adapts = (run.config.get("feedback") or {}).get("refinements") == "auto"
    is_mixed = len(run.by_source("epochs")) > 1
    return (*PICTURES, *(OF_A_MIXTURE if is_mixed else ()), *((SWEEPS,) if adapts else ()))
