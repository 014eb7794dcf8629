"""The study's table as Markdown beside its results, and its pictures: perplexity against tokens, seconds and dollars.

Imports matplotlib inside. Written from the results alone, so that it can always be drawn again."""

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssrnn_dist.bench.quality.recipe import Recipe
from ssrnn_dist.bench.quality.results import BPTT, Line, Results, table
from ssrnn_dist.files import write_text_atomic
from ssrnn_dist.tracking.report.drawing import svg_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (  # Okabe and Ito's, and a brown
    "#1d2733", "#999999", "#8c564b", "#E69F00", "#009E73", "#56B4E9", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
SECONDS_PER_HOUR = 3600
COLUMNS = (
    "network, rule",
    "learning rate",
    "perplexity",
    "spread",
    "against the cell's BPTT, seed by seed",
    "bits/byte",
    "core seconds",
    "parameters",
)


def write_page(recipe: Recipe, results: Results, folder: Path) -> list[Path]:
    """README.md and the pictures in the results' folder; returns their paths. Nothing where nothing is trained."""
    lines = table(recipe, results)
    if not lines:
        return []
    written = [folder / "README.md"]
    pictures = []
    for network in dict.fromkeys(line.row.network for line in lines if line.row.rule):
        shown = [line for line in lines if line.row.network == network or not line.row.rule]
        for axis in ("tokens", "core seconds", *(["dollars"] if recipe.usd_per_core_hour is not None else [])):
            path = folder / f"{network}-{axis.replace(' ', '-')}.svg"
            path.write_bytes(svg_bytes(_figure(recipe, shown, axis)))
            pictures.append(path)
    write_text_atomic(written[0], markdown(recipe, lines, [path.name for path in pictures]))
    return [*written, *pictures]


def markdown(recipe: Recipe, lines: list[Line], pictures: list[str]) -> str:
    """The table, and how it was made."""
    machine, train = lines[0].runs[0]["machine"], recipe.train
    head = [
        f"# The study `{recipe.name}`",
        "",
        "Written by `ssrnn bench quality`; the results beside it are its data. "
        f"{machine['processor']}, a core a run, torch {machine['torch']}, {machine['date']}. "
        f"{train.steps:,} steps of {train.tokens_per_batch:,} tokens in windows of {train.sequence_length}; "
        f"learning rates swept on {recipe.sweep_steps:,} steps; seeds {recipe.seeds}.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    shown = [f"![{Path(name).stem}]({name})" for name in pictures]
    return "\n".join([*head, *map(_row, lines), "", *shown, ""])


def _row(line: Line) -> str:
    perplexities = [run["perplexity"] for run in line.runs]
    spread = f"{min(perplexities):.2f} to {max(perplexities):.2f}" if len(perplexities) > 1 else ""
    against = ", ".join(f"{each:+.2%}" for each in line.against_bptt) if line.row.rule != BPTT else ""
    bits = sum(run["bits_per_byte"] for run in line.runs) / len(line.runs)
    cells = [
        line.row.label, f"{line.learning_rate:g}", f"{line.perplexity:.2f}", spread, against, f"{bits:.3f}",
        f"{line.core_seconds:,.0f}", f"{line.runs[0]['parameters']:,}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _figure(recipe: Recipe, lines: list[Line], axis: str) -> "Figure":
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(7.2, 4.2), facecolor="white")
    axes = drawn.add_axes((0.09, 0.13, 0.66, 0.79))
    for line, colour in zip(lines, cycle(COLOURS), strict=False):
        curve = line.runs[0]["curve"]
        points = [_along(axis, point, recipe) for point in curve]
        dashes = "-" if line.row.rule else (0, (3, 2))
        axes.plot(points, [point["perplexity"] for point in curve], color=colour, linestyle=dashes, linewidth=1.5)
    axes.set_yscale("log")
    axes.legend(
        axes.lines, [f"{line.row.rule or line.row.network}  {line.perplexity:.2f}" for line in lines],
        loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9,
        title="at the end, all seeds", title_fontsize=9, alignment="left",
    )  # fmt: skip
    axes.set_xlabel("million tokens" if axis == "tokens" else axis)
    axes.set_title(f"{lines[0].row.network}: validation perplexity, first seed", fontsize=10, loc="left")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(axis="y", which="both", color="#e3e7ec", linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return drawn


def _along(axis: str, point: dict[str, Any], recipe: Recipe) -> float:
    if axis == "tokens":
        return float(point["tokens"]) / 1e6
    seconds = float(point["core_seconds"])
    return seconds if axis == "core seconds" else seconds / SECONDS_PER_HOUR * (recipe.usd_per_core_hour or 0)
