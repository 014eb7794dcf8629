"""Runs tasks on several processes: each reads a task a line, does it, and answers a line; no main module is imported.

`python -m ssrnn_data.building.workers FOLDER` is such a process; it ends with its standard input, so with its parent.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssrnn_data.building.tasks import Task, Tasks
from ssrnn_data.building.work_folder import WorkFolder
from ssrnn_data.errors import DataError

OnDone = Callable[[Task, dict[str, Any]], None]


class WorkerDied(RuntimeError):
    """A worker ended without an answer, or failed in a way that is ours to mend."""


class Workers:
    """One process or many, for tasks of one work folder; the processes start with the first tasks that need them."""

    def __init__(self, work: WorkFolder, processes: int) -> None:
        self._work, self._processes = work, processes
        self._started: list[subprocess.Popen[str]] = []

    def run(self, tasks: Sequence[Task], on_done: OnDone) -> None:
        """Does what isn't done yet, in any order; on_done is called here, one at a time, for each task.

        Raises what a task raised (DataError, OSError), after the tasks at hand have ended or were ended.
        """
        open_tasks = []
        for task in tasks:
            result = self._work.result(task["part"])
            if result is None:
                open_tasks.append(task)
            else:
                on_done(task, result)
        if self._processes == 1 or len(open_tasks) <= 1:
            here = Tasks(self._work)
            for task in open_tasks:
                on_done(task, here.do(task))
            return
        self._run_elsewhere(open_tasks, on_done)

    def _run_elsewhere(self, tasks: Sequence[Task], on_done: OnDone) -> None:
        while len(self._started) < min(self._processes, len(tasks)):
            self._started.append(_start(self._work.path, self._processes))
        waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
        answers: queue.SimpleQueue[tuple[Task, dict[str, Any]]] = queue.SimpleQueue()
        for task in tasks:
            waiting.put(task)

        def feed(worker: subprocess.Popen[str]) -> None:
            while True:
                try:
                    task = waiting.get_nowait()
                except queue.Empty:
                    return
                answers.put((task, _ask(worker, task)))

        for worker in self._started:
            threading.Thread(target=feed, args=(worker,), daemon=True).start()
        for _ in tasks:
            task, answer = answers.get()
            if "result" not in answer:
                raise _error_of(answer)
            on_done(task, answer["result"])

    def close(self) -> None:
        """Ends the processes, whatever they do: a part that is not finished is done again by the next build."""
        for worker in self._started:
            worker.kill()
        for worker in self._started:
            worker.communicate()


@contextmanager
def open_workers(work: WorkFolder, processes: int) -> Iterator[Workers]:
    """Workers that end with the block."""
    workers = Workers(work, processes)
    try:
        yield workers
    finally:
        workers.close()


def _start(folder: Path, processes: int) -> subprocess.Popen[str]:
    threads = max(1, (os.cpu_count() or 1) // processes)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
    }
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,  # Ctrl-C is its parent's to deal with
    )


def _ask(worker: subprocess.Popen[str], task: Task) -> dict[str, Any]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(json.dumps(task) + "\n")
        worker.stdin.flush()
        answer: dict[str, Any] = json.loads(worker.stdout.readline())
    except (OSError, ValueError):  # a broken pipe, or half a line
        return {"died": f"the process that did {task['part']} ended with {worker.poll()}"}
    return answer


def _error_of(answer: dict[str, Any]) -> Exception:
    if "data_error" in answer:
        return DataError(answer["data_error"])
    if "os_error" in answer:
        return OSError(*answer["os_error"])
    return WorkerDied(answer.get("traceback", answer.get("died")))


def _answer(tasks: Tasks, task: Task) -> dict[str, Any]:
    try:
        return {"result": tasks.do(task)}
    except DataError as error:
        return {"data_error": str(error)}
    except OSError as error:
        return {"os_error": [error.errno, error.strerror, error.filename]}
    except Exception:
        return {"traceback": traceback.format_exc()}


def main(folder: str) -> None:
    """Answers tasks from standard input until it ends."""
    tasks = Tasks(WorkFolder(Path(folder)))
    for line in sys.stdin:
        answer = _answer(tasks, json.loads(line))
        try:
            print(json.dumps(answer), flush=True)
        except BrokenPipeError:  # its parent was killed
            os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
