"""The tables on long memory as Markdown beside their results, and a picture: right answers by task, length and rule.

Imports matplotlib inside. Written from the results alone, so that it can always be drawn again."""

from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from ssrnn_dist.bench.memory.recipe import Cell, Recipe
from ssrnn_dist.bench.memory.results import Results, best
from ssrnn_dist.bench.memory.tasks import TASKS
from ssrnn_dist.files import write_text_atomic
from ssrnn_dist.tracking.report.drawing import svg_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE = "accuracy.svg"
Best = dict[tuple[str, int, str], list[dict[str, Any]]]  # task, length and row: the best trial of each seed


def write_page(recipe: Recipe, results: Results, folder: Path) -> list[Path]:
    """README.md and the picture in the results' folder; returns their paths. Nothing where nothing is trained."""
    found = _best_of_all(recipe, results)
    if not found:
        return []
    page, picture = folder / "README.md", folder / PICTURE
    picture.write_bytes(svg_bytes(_figure(recipe, found)))
    write_text_atomic(page, markdown(recipe, found))
    return [page, picture]


def _best_of_all(recipe: Recipe, results: Results) -> Best:
    found: Best = {}
    for task in recipe.tasks:
        for length in recipe.lengths:
            for row in recipe.rows:
                tried = (best(results, Cell(task, length, row, seed)) for seed in recipe.seeds)
                runs = [values for values in tried if values is not None]
                if runs:
                    found[task, length, row] = runs
    return found


def markdown(recipe: Recipe, found: Best) -> str:
    """What was asked, how it was made, and a table a length."""
    first, train = next(iter(found.values()))[0], recipe.train
    machine = first["machine"]
    lines = [
        f"# Long memory: `{recipe.name}`",
        "",
        "Written by `ssrnn bench memory`; the results beside it are its data. "
        f"{machine['processor']}, a core a run, torch {machine['torch']}, {machine['date']}.",
        "",
        "| task | what is asked | an even guess |",
        "|---|---|---|",
        *(f"| {task} | {TASKS[task].asks} | {TASKS[task].chance:.2f} |" for task in recipe.tasks),
        "",
        f"Trained on windows of L tokens filled with episodes of all lengths up to L, {train.tokens_per_batch:,} tokens"
        f" a step, until {recipe.solved_accuracy:.1%} of the answers are right in two looks or {train.steps:,} steps"
        f" are over; learning rates {', '.join(f'{rate:g}' for rate in recipe.learning_rates)} in this order until one"
        f" solves it; seeds {recipe.seeds}. Each number is the fraction of right answers in {recipe.tested_episodes}"
        f" single episodes of {_times(recipe)} tokens. In brackets: steps to the solution.",
    ]
    for length in _trained_lengths(recipe, found):
        lines += _table(recipe, found, length)
    return "\n".join([*lines, "", f"![right answers by task, length and rule]({PICTURE})", ""])


def _trained_lengths(recipe: Recipe, found: Best) -> list[int]:
    return [length for length in recipe.lengths if any(trained == length for _, trained, _ in found)]


def _times(recipe: Recipe) -> str:
    return ", ".join("L" if times == 1 else f"{times} L" for times in recipe.tested_lengths)


def _table(recipe: Recipe, found: Best, length: int) -> list[str]:
    head = ["", f"## L = {length:,}", "", f"| | {' | '.join(recipe.tasks)} |", f"|{'---|' * (len(recipe.tasks) + 1)}"]
    rows = [[row, *(_told(found.get((task, length, row))) for task in recipe.tasks)] for row in recipe.rows]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def _told(runs: list[dict[str, Any]] | None) -> str:
    if runs is None:
        return ""
    solved = [f"{run['steps']:,}" for run in runs if run["solved"]]
    accuracies = ", ".join(f"{mean(run['accuracy'][name] for run in runs):.2f}" for name in runs[0]["accuracy"])
    return f"{accuracies} ({', '.join(solved)})" if solved else accuracies


def _figure(recipe: Recipe, found: Best) -> "Figure":
    from matplotlib.figure import Figure

    shown = [
        times for times in recipe.tested_lengths if times in (min(recipe.tested_lengths), recipe.tested_lengths[-1])
    ]
    drawn = Figure(
        figsize=(1.6 + 0.62 * len(recipe.tasks) * len(recipe.lengths), 3.2 * len(shown)),
        facecolor="white",
        layout="constrained",
    )
    for index, times in enumerate(shown):
        _grid(drawn.add_subplot(len(shown), 1, index + 1), recipe, found, times)
    return drawn


def _grid(axes: "Axes", recipe: Recipe, found: Best, times: int) -> None:
    """A square a cell: from an even guess (pale) to all right (dark)."""
    import numpy as np

    lengths = _trained_lengths(recipe, found)
    columns = [(task, length) for task in recipe.tasks for length in lengths]
    accuracy = np.full((len(recipe.rows), len(columns)), np.nan)
    above_chance = accuracy.copy()
    for x, (task, length) in enumerate(columns):
        for y, row in enumerate(recipe.rows):
            if (task, length, row) in found:
                accuracy[y, x] = mean(run["accuracy"][str(times * length)] for run in found[task, length, row])
                above_chance[y, x] = (accuracy[y, x] - TASKS[task].chance) / (1 - TASKS[task].chance)
    axes.imshow(above_chance, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (y, x), value in np.ndenumerate(accuracy):
        if not np.isnan(value):
            colour = "white" if above_chance[y, x] > 0.6 else "#1d2733"
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(columns)), [f"{length:,}" for _, length in columns], fontsize=8)
    axes.set_yticks(range(len(recipe.rows)), recipe.rows, fontsize=9)
    axes.tick_params(length=0)
    for index, task in enumerate(recipe.tasks):
        middle = (index + 0.5) * len(lengths) - 0.5
        axes.text(middle, -0.65, task, ha="center", va="bottom", fontsize=9)
        axes.axvline((index + 1) * len(lengths) - 0.5, color="white", linewidth=4)
    tested = "as long as in training" if times == 1 else f"{times} times as long as in training"
    axes.set_title(f"right answers, episodes {tested}", fontsize=10, loc="left", pad=22)
    for side in axes.spines.values():
        side.set_visible(False)
