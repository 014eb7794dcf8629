"""What a worker's time goes into: at any moment exactly one phase, so that every second is counted once.

Imports the standard library only."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

START_UP, TRAINING, DATA_WAIT, CHECKPOINTING, VALIDATION = (
    "start_up",
    "training",
    "data_wait",
    "checkpointing",
    "validation",
)
LOST = "lost"  # steps that an earlier life had done already
IDLE = "idle"  # rented without training: waiting for others, winding up, devices with no worker
PHASES = (TRAINING, CHECKPOINTING, VALIDATION, DATA_WAIT, START_UP, LOST, IDLE)


class PhaseClock:
    """Seconds by phase since it was made; begins in start_up. One thread changes the phase, any may read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds that never go back."""
        self._clock, self._lock = clock, threading.Lock()
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._phase, self._since = START_UP, clock()

    def enter(self, phase: str) -> str:
        """From now on time goes into this phase; the phase before. KeyError for one that is none of PHASES."""
        with self._lock:
            before = self._phase
            self._count()
            self._seconds[phase] += 0.0
            self._phase = phase
            return before

    @contextmanager
    def phase(self, phase: str) -> Iterator[None]:
        """A phase for as long as this lasts, then the one before again."""
        before = self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def read(self) -> tuple[str, dict[str, float]]:
        """The phase now, and the seconds of each until now."""
        with self._lock:
            self._count()
            return self._phase, dict(self._seconds)

    def _count(self) -> None:
        now = self._clock()
        self._seconds[self._phase] += now - self._since
        self._since = now
