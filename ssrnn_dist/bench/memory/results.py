"""What was trained for the page on long memory: a JSON file a trial, and the best of each cell of the table.

Imports the recipe."""

from pathlib import Path
from typing import Any

from ssrnn_dist.bench.memory.recipe import Cell, Recipe, Trial, cells
from ssrnn_dist.bench.memory.trial import settings
from ssrnn_dist.bench.results_folder import load_folder

Results = dict[Trial, dict[str, Any]]


def load_results(folder: Path, recipe: Recipe) -> Results:
    """UserError names a file that was made with other settings than the recipe's."""
    known = set(cells(recipe))
    return load_folder(folder, _trial, lambda trial: settings(recipe, trial) if trial.cell in known else None)


def _trial(values: dict[str, Any]) -> Trial:
    return Trial(Cell(values["task"], values["length"], values["rule"], values["seed"]), values["learning_rate"])


def best(results: Results, cell: Cell) -> dict[str, Any] | None:
    """The trial that solved a cell, else the one with the most right answers at the first tested length; None: none."""
    tried = [values for trial, values in results.items() if trial.cell == cell]
    return max(tried, key=lambda values: (values["solved"], next(iter(values["accuracy"].values()))), default=None)
