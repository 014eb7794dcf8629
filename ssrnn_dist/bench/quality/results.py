"""The study's results: a JSON file a trial, and the table that they add up to.

Imports the recipe."""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssrnn_dist.bench.quality.recipe import Recipe, Row, Trial, best_rate, rows, sweep
from ssrnn_dist.bench.quality.trial import settings
from ssrnn_dist.bench.results_folder import load_folder
from ssrnn_dist.data import open_index

Results = dict[Trial, dict[str, Any]]
BPTT = "exact"


@dataclass(frozen=True)
class Line:
    """A row of the table, from its whole runs."""

    row: Row
    learning_rate: float
    runs: list[dict[str, Any]]  # in the order of the recipe's seeds
    against_bptt: list[float]  # relative difference of perplexity from the same cell's BPTT, paired by seed

    @property
    def perplexity(self) -> float:
        return statistics.mean(run["perplexity"] for run in self.runs)

    @property
    def core_seconds(self) -> float:
        return statistics.mean(run["core_seconds"] for run in self.runs)


def load_results(folder: Path, recipe: Recipe) -> Results:
    """UserError names a file that was made with other settings than the recipe's."""
    index, known = open_index(recipe.data, recipe.data.sources[0].index), rows(recipe)
    return load_folder(folder, _trial, lambda trial: settings(recipe, trial, index) if trial.row in known else None)


def _trial(values: dict[str, Any]) -> Trial:
    return Trial(Row(values["network"], values["rule"]), values["learning_rate"], values["seed"], values["steps"])


def loss_of(values: dict[str, Any]) -> float:
    """Nats a token; infinite where training failed."""
    return math.inf if values["loss"] is None else float(values["loss"])


def table(recipe: Recipe, results: Results) -> list[Line]:
    """A line for every row that has been trained whole at least once."""
    lines = []
    for row in rows(recipe):
        runs = _whole(recipe, results, row)
        if not runs:
            continue
        bptt = _whole(recipe, results, Row(row.network if row.rule else recipe.cells[0], BPTT))
        pairs = [(run["perplexity"], bptt[seed]["perplexity"]) for seed, run in runs.items() if seed in bptt]
        rate = next(iter(runs.values()))["learning_rate"]
        lines.append(Line(row, rate, list(runs.values()), [ours / theirs - 1 for ours, theirs in pairs]))
    return lines


def _whole(recipe: Recipe, results: Results, row: Row) -> dict[int, dict[str, Any]]:
    """Seed → the run at the best learning rate of the sweep."""
    swept = sweep(recipe, row, {trial: loss_of(values) for trial, values in results.items()})
    if not swept:
        return {}
    found = {seed: results.get(Trial(row, best_rate(swept), seed, recipe.train.steps)) for seed in recipe.seeds}
    return {seed: values for seed, values in found.items() if values is not None and values["loss"] is not None}
