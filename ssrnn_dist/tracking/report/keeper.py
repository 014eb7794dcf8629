"""Keeps cost.html and cost.png of a living run fresh, now and then, in the background.

Imports the overview; matplotlib is loaded when it is first drawn."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from ssrnn_data.background import in_background
from ssrnn_dist.tracking.report.overview import build_overview
from ssrnn_dist.tracking.report.page import ReportPaths

FIRST_SECONDS, EVERY_SECONDS = 60.0, 300.0
LARGEST_FRACTION = 0.005  # of the time may go into drawing


class OverviewKeeper:
    """Draws a run's overview again when it is due and hands its files on. One thread calls it."""

    def __init__(
        self,
        run_folder: Path,
        send: Callable[[Path], None],
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """send: takes cost.html and cost.png.  warn: hears once that it could not be drawn.  clock: seconds."""
        self._folder, self._send, self._warn, self._clock = run_folder, send, warn, clock
        self._due_at = clock() + FIRST_SECONDS
        self._began_at = 0.0
        self._drawing: Future[ReportPaths] | None = None
        self._warned = False

    def tick(self) -> None:
        """Begin to draw where it is time to, and send what was drawn; returns at once."""
        if self._drawing is None:
            if self._clock() >= self._due_at:
                self._begin()
        elif self._drawing.done():
            self._end()

    def finish(self) -> None:
        """Draw it for the last time, and wait for that."""
        if self._drawing is not None:
            self._end()
        self._begin()
        self._end()

    def _begin(self) -> None:
        self._began_at = self._clock()
        self._drawing = in_background(lambda: build_overview(self._folder), "ssrnn-overview")

    def _end(self) -> None:
        """A picture that fails must not end a run."""
        drawing, self._drawing = self._drawing, None
        assert drawing is not None
        error = drawing.exception()
        self._due_at = self._clock() + max(EVERY_SECONDS, (self._clock() - self._began_at) / LARGEST_FRACTION)
        if error is None:
            paths = drawing.result()
            for path in (paths.html, paths.pngs[0]):
                self._send(path)
        elif not self._warned:
            self._warned = True
            self._warn(f"the overview of the cost was not drawn: {type(error).__name__}: {error}")
