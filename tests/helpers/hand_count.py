"""A hand count of a run's worker time: how long each worker's process lives, by the operating system's own clocks."""

import threading
import time

import psutil

from tests.helpers.launching import Running, title

LOOK_SECONDS = 0.03


class HandCount:
    """Looks at a command's processes in a thread until it has ended; then seconds() is all that its workers lived."""

    def __init__(self, run: Running) -> None:
        self._run = run
        self._lived: dict[psutil.Process, tuple[float, float]] = {}  # Unix seconds: created, last seen alive
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while self._run.process.poll() is None:
            try:
                for each in self._run.tree():
                    self._note(each)
            except psutil.NoSuchProcess:
                continue
            time.sleep(LOOK_SECONDS)

    def _note(self, process: psutil.Process) -> None:
        try:
            if "TrainWorker" in title(process) and process.status() != psutil.STATUS_ZOMBIE:
                self._lived[process] = process.create_time(), time.time()
        except psutil.NoSuchProcess:
            pass

    def seconds(self) -> float:
        self._thread.join()
        return sum(end - start for start, end in self._lived.values())
