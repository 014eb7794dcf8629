"""Trains one thing after another, a process each, several at once; what is done is told as soon as it is there.

Imports the standard library. Nothing outlives who started it."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, TypeVar

Job = TypeVar("Job")


def run_jobs(
    next_job: Callable[[set[Job]], Job | None],
    work: Callable[[Job], dict[str, Any]],
    done: Callable[[Job, dict[str, Any]], None],
    *,
    at_once: int,
    most: int | None,
) -> None:
    """Work until next_job has none, on at most `most` (None: all).

    next_job: given those that run, one that can begin now, or None.  done: called here with a job and its result."""
    started = 0
    running: dict[Future[dict[str, Any]], Job] = {}
    context = multiprocessing.get_context("spawn")  # a fresh process each: DeepSpeed keeps its groups for good
    with ProcessPoolExecutor(at_once, context, initializer=_end_with_the_parent, max_tasks_per_child=1) as pool:
        try:
            while True:
                while len(running) < at_once and (most is None or started < most):
                    job = next_job(set(running.values()))
                    if job is None:
                        break
                    running[pool.submit(work, job)] = job
                    started += 1
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    done(running.pop(future), future.result())
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
    """Leave nothing running behind an error or Ctrl-C; what was finished has been told."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
