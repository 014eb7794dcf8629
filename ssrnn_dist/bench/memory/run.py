"""Trains what the page on long memory still lacks; every result is on disk as soon as it is there.

Imports the pool; the trial runs inside the processes that it starts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ssrnn_dist.bench.memory.recipe import Cell, Recipe, Trial, next_of, next_trial
from ssrnn_dist.bench.memory.results import Results, load_results
from ssrnn_dist.bench.memory.trial import run_trial
from ssrnn_dist.bench.pool import run_jobs
from ssrnn_dist.bench.results_folder import save_result

Told = Callable[[Trial, dict[str, Any], int], None]


def run_memory(recipe: Recipe, folder: Path, wanted: list[Cell], *, jobs: int, most: int | None, told: Told) -> Results:
    """Train at most `most` trials of these cells (None: all), `jobs` at a time; returns all results that stand.

    told: called with every trial that is done, its result, and how many cells are not settled yet."""
    results = load_results(folder, recipe)
    solved = {trial: values["solved"] for trial, values in results.items()}

    def done(trial: Trial, values: dict[str, Any]) -> None:
        results[trial], solved[trial] = values, values["solved"]
        save_result(folder, trial, values)
        told(trial, values, sum(next_of(recipe, cell, solved) is not None for cell in wanted))

    run_jobs(partial(next_trial, recipe, wanted, solved), partial(run_trial, recipe), done, at_once=jobs, most=most)
    return results
