"""Trains what a study still lacks, a process a trial, several at once; every result is on disk as soon as it is there.

Imports the trial inside the processes that it starts."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from ssrnn_dist.bench.quality.recipe import Recipe, Row, Trial, missing_trials, next_trial
from ssrnn_dist.bench.quality.results import Results, load_results, loss_of, save_result
from ssrnn_dist.bench.quality.trial import run_trial

Told = Callable[[Trial, dict[str, Any], int], None]


def run_study(recipe: Recipe, folder: Path, wanted: list[Row], *, jobs: int, most: int | None, told: Told) -> Results:
    """Train at most `most` trials of these rows (None: all), `jobs` at a time; returns all results that stand.

    told: called with every trial that is done, its result, and how many are known to be missing."""
    results = load_results(folder, recipe)
    losses = {trial: loss_of(values) for trial, values in results.items()}
    started = 0
    running: dict[Future[dict[str, Any]], Trial] = {}
    context = multiprocessing.get_context("spawn")  # a fresh process each: DeepSpeed keeps its groups for good
    with ProcessPoolExecutor(jobs, context, initializer=_end_with_the_parent, max_tasks_per_child=1) as pool:
        try:
            while True:
                while len(running) < jobs and (most is None or started < most):
                    trial = next_trial(recipe, wanted, losses, set(running.values()))
                    if trial is None:
                        break
                    running[pool.submit(run_trial, recipe, trial)] = trial
                    started += 1
                if not running:
                    return results
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    trial = running.pop(future)
                    results[trial] = future.result()
                    save_result(folder, trial, results[trial])
                    losses[trial] = loss_of(results[trial])
                    told(trial, results[trial], sum(len(missing_trials(recipe, row, losses)) for row in wanted))
        except BaseException:
            _end(pool)
            raise


def _end_with_the_parent() -> None:
    """A training does not outlive who started it, however that ended (kill -9, too)."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end(pool: ProcessPoolExecutor) -> None:
    """Leave nothing running behind an error or Ctrl-C; what was finished is on disk."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
