"""Moments that a measured process writes down: what began or ended when, by the machine's clocks, a line each.

Imports the standard library only."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MARKS_VARIABLE = "SSRNN_BENCH_MARKS"  # a file beside which each rank has one of its own


@dataclass(frozen=True)
class Mark:
    """unix: seconds since 1970, comparable between processes.  clock: seconds that never go back, of one process.
    cpu: processor seconds of all its threads until then."""

    what: str
    unix: float
    clock: float
    cpu: float
    step: int = 0


class Marks:
    """Kept in memory until it is known whose they are, then a line each as they come."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._descriptor: int | None = None
        self._seen: set[str] = set()

    def note(self, what: str, step: int = 0) -> None:
        now = {"unix": time.time(), "clock": time.perf_counter(), "cpu": time.process_time()}
        line = json.dumps({"what": what, **now, "step": step}) + "\n"
        if self._descriptor is None:
            self._waiting.append(line)
        else:
            os.write(self._descriptor, line.encode())

    def note_once(self, what: str) -> None:
        """Only the first time counts."""
        if what not in self._seen:
            self._seen.add(what)
            self.note(what)

    def open(self, whose: str) -> None:
        """From now on they are written to this one's file."""
        path = f"{os.environ[MARKS_VARIABLE]}.{whose}"
        self._descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        waiting, self._waiting = self._waiting, []
        os.write(self._descriptor, "".join(waiting).encode())


def read_marks(path: Path, whose: str) -> list[Mark]:
    """What one of the processes wrote down, oldest first."""
    return [Mark(**json.loads(line)) for line in Path(f"{path}.{whose}").read_text().splitlines()]


def step_ends(marks: Sequence[Mark]) -> tuple[list[float], list[float]]:
    """The clock, and the processor seconds, at the end of each optimizer step."""
    steps = [mark for mark in marks if mark.what == "step"]
    return [mark.clock for mark in steps], [mark.cpu for mark in steps]
