"""Ctrl-C and SIGTERM while a run trains: the first asks it to stop with a checkpoint, a second ends it at once.

Imports the standard library only."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StopSignals:
    """Which signal came, and how often. Handlers stand only inside `watching()`, in the main thread."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.count = 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        self.count += 1

    @property
    def asked(self) -> bool:
        return self.count > 0

    @property
    def insisted(self) -> bool:
        return self.count > 1

    @contextmanager
    def watching(self) -> Iterator["StopSignals"]:
        before: dict[int, Any] = {}
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            before[number] = signal.signal(number, self._note)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
