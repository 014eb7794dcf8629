"""Trains what a study still lacks; every result is on disk as soon as it is there.

Imports the pool; the trial runs inside the processes that it starts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ssrnn_dist.bench.pool import run_jobs
from ssrnn_dist.bench.quality.recipe import Recipe, Row, Trial, missing_trials, next_trial
from ssrnn_dist.bench.quality.results import Results, load_results, loss_of
from ssrnn_dist.bench.quality.trial import run_trial
from ssrnn_dist.bench.results_folder import save_result

Told = Callable[[Trial, dict[str, Any], int], None]


def run_study(recipe: Recipe, folder: Path, wanted: list[Row], *, jobs: int, most: int | None, told: Told) -> Results:
    """Train at most `most` trials of these rows (None: all), `jobs` at a time; returns all results that stand.

    told: called with every trial that is done, its result, and how many are known to be missing."""
    results = load_results(folder, recipe)
    losses = {trial: loss_of(values) for trial, values in results.items()}

    def done(trial: Trial, values: dict[str, Any]) -> None:
        results[trial], losses[trial] = values, loss_of(values)
        save_result(folder, trial, values)
        told(trial, values, sum(len(missing_trials(recipe, row, losses)) for row in wanted))

    run_jobs(partial(next_trial, recipe, wanted, losses), partial(run_trial, recipe), done, at_once=jobs, most=most)
    return results
