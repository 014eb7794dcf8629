"""What was trained for the page on long memory: a JSON file a trial, and the best of each cell of the table.

Imports the recipe; reads and writes one folder."""

import json
from pathlib import Path
from typing import Any

from ssrnn_dist.bench.memory.recipe import Cell, Recipe, Trial, cells
from ssrnn_dist.bench.memory.trial import settings
from ssrnn_dist.files import write_json_atomic
from ssrnn_dist.problems import user_error

Results = dict[Trial, dict[str, Any]]


def load_results(folder: Path, recipe: Recipe) -> Results:
    """UserError names a file that was made with other settings than the recipe's."""
    known, found = set(cells(recipe)), {}
    for path in sorted(folder.glob("*.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        trial = Trial(
            Cell(values["task"], values["length"], values["rule"], values["seed"]), values["learning_rate"]
        )  # fmt: skip
        if trial.cell not in known:
            continue
        if values["settings"] != settings(recipe, trial):
            raise user_error(str(path), "made with other settings", "another --out, or the recipe it was made with")
        found[trial] = values
    return found


def save_result(folder: Path, trial: Trial, values: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json_atomic(folder / f"{trial.name}.json", values)


def best(results: Results, cell: Cell) -> dict[str, Any] | None:
    """The trial that solved a cell, else the one with the most right answers at the first tested length; None: none."""
    tried = [values for trial, values in results.items() if trial.cell == cell]
    return max(tried, key=lambda values: (values["solved"], next(iter(values["accuracy"].values()))), default=None)
