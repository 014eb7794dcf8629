"""An outbox that never makes training wait: items are delivered in order by a thread of its own, and tried again.

Imports the standard library only; what delivering means is the caller's."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

MOST_WAITING = 20_000  # the oldest make room: everything stands in metrics.jsonl too


class Outbox(Generic[Item]):
    """Delivers items in batches, oldest first, each until it was delivered or the outbox is closed.

    A batch whose delivery raises is kept and tried again after retry_seconds; on_failure hears of each failure."""

    def __init__(
        self,
        deliver: Callable[[list[Item]], None],
        *,
        on_failure: Callable[[Exception], None],
        retry_seconds: float = 20.0,
        most_in_batch: int = 40,
    ) -> None:
        self._deliver = deliver
        self._on_failure = on_failure
        self._retry_seconds = retry_seconds
        self._most_in_batch = most_in_batch
        self._waiting: deque[Item] = deque(maxlen=MOST_WAITING)
        self._changed = threading.Condition()
        self._closing = False
        self._attempts = 0
        self._thread = threading.Thread(target=self._run, name="ssrnn-tracking", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand over an item; returns at once."""
        with self._changed:
            self._waiting.append(item)
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Items not delivered yet."""
        with self._changed:
            return len(self._waiting)

    def wait_for_first_attempt(self, timeout_seconds: float) -> None:
        """Wait until the first delivery came to an end, well or not."""
        with self._changed:
            self._changed.wait_for(lambda: self._attempts > 0, timeout_seconds)

    def close(self, timeout_seconds: float) -> int:
        """Try to deliver what waits, once more where that failed before; the number of items left undelivered."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        return self.waiting

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                self._deliver(batch)
            except Exception as error:
                self._on_failure(error)
                if not self._pause_after_failure():
                    return
            else:
                self._finish_attempt(delivered=batch)

    def _next_batch(self) -> list[Item]:
        """Wait for items; nothing once the outbox is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return [self._waiting[index] for index in range(min(self._most_in_batch, len(self._waiting)))]

    def _finish_attempt(self, delivered: list[Item]) -> None:
        with self._changed:
            self._attempts += 1
            for item in delivered:
                if self._waiting and self._waiting[0] is item:  # else a full outbox has dropped it already
                    self._waiting.popleft()
            self._changed.notify_all()

    def _pause_after_failure(self) -> bool:
        """Wait before the next attempt; false where there is none, because the outbox was closing already."""
        with self._changed:
            self._attempts += 1
            self._changed.notify_all()
            if self._closing:
                return False
            self._changed.wait_for(lambda: self._closing, self._retry_seconds)
            return True
