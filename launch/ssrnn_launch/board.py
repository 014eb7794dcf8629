"""What a run's workers and its driver tell each other: rank 0 posts progress, the driver posts that it wants to stop.

Board is a plain class; run_training makes it a Ray actor. Imports ray only inside BoardHooks' methods."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ssrnn_dist.hooks import RunHooks, StepMetrics

LARGEST_BACKLOG = 10_000
ASK_EVERY_SECONDS = 0.3


@dataclass
class News:
    """What came since the driver last looked."""

    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    summary: dict[str, Any] | None = None
    failure: tuple[bool, list[str]] | None = None


class Board:
    """Holds posts until the driver takes them; the newest stay where the driver is slow."""

    def __init__(self) -> None:
        self._posts: deque[tuple[str, dict[str, Any]]] = deque(maxlen=LARGEST_BACKLOG)
        self._stop = False
        self._summary: dict[str, Any] | None = None
        self._failure: tuple[bool, list[str]] | None = None

    def post(self, kind: str, fields: dict[str, Any]) -> None:
        self._posts.append((kind, fields))

    def finish(self, summary: dict[str, Any]) -> None:
        self._summary = summary

    def fail(self, user_is_at_fault: bool, lines: list[str]) -> None:
        """A failure that trying again would not mend; the first one counts."""
        self._failure = self._failure or (user_is_at_fault, lines)

    def take(self) -> News:
        news = News(list(self._posts), self._summary, self._failure)
        self._posts.clear()
        return news

    def request_stop(self) -> None:
        self._stop = True

    def stop_requested(self) -> bool:
        return self._stop


class BoardHooks(RunHooks):
    """Rank 0's hooks: posts are sent and forgotten; the question whether to stop is always already on its way."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._asked: Any = None
        self._asked_at = float("-inf")
        self._stop = False

    def report(self, metrics: StepMetrics) -> None:
        self._board.post.remote("metrics", metrics.as_dict())

    def event(self, kind: str, **fields: Any) -> None:
        self._board.post.remote(kind, fields)

    def should_stop(self) -> bool:
        import ray

        if self._stop:
            return True
        if self._asked is not None:
            ready, _ = ray.wait([self._asked], timeout=0)
            if not ready:
                return False
            try:
                self._stop = bool(ray.get(self._asked))
            except ray.exceptions.RayError:
                self._stop = False  # the board is gone; whoever took it away ends the workers, too
            self._asked = None
        if not self._stop and time.monotonic() - self._asked_at >= ASK_EVERY_SECONDS:
            self._asked, self._asked_at = self._board.stop_requested.remote(), time.monotonic()
        return self._stop
