"""Ctrl-C and SIGTERM while a run trains: the first asks it to stop with a checkpoint, a second ends it at once.

Imports the standard library only."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
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


class Patience:
    """How long a signal leaves the process to end by itself."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


@contextmanager
def last_resort(end: Callable[[], object], seconds: float) -> Iterator[Patience]:
    """While this stands, a SIGINT or SIGTERM ends the process after so many seconds, if it has not ended by itself.

    A thread waits for the signal, so that it works while the main thread is stuck in native code.
    end: what to do before the process exits with 128 + the signal's number."""
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    over, patience = threading.Event(), Patience(seconds)

    def wait() -> None:
        while number := reading.recv(1):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                if not over.wait(patience.seconds):
                    end()
                    os._exit(128 + number[0])
                return

    before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=wait, name="last-resort", daemon=True)
    thread.start()
    try:
        yield patience
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        writing.close()
        thread.join()
        reading.close()
