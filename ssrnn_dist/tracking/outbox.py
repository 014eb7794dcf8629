"""An outbox in a file: what is put in is delivered in order by a thread of its own, tried again, and outlives a kill.

Imports the standard library only; what delivering means is the caller's. Training never waits for it."""

import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Item = Mapping[str, Any]


class Outbox:
    """Delivers items in batches, oldest first, each until it was delivered; what an earlier process left goes first.

    A batch whose delivery raises is tried again after retry_seconds; on_failure hears of each failure. An item may be
    delivered twice where a process was killed in between. One process at a time may have the file open."""

    def __init__(
        self,
        path: Path,
        deliver: Callable[[list[dict[str, Any]]], None],
        *,
        on_failure: Callable[[Exception], None],
        retry_seconds: float = 20.0,
        most_in_batch: int = 40,
    ) -> None:
        """Raises OSError where the file cannot be written."""
        self._path, self._deliver, self._on_failure = path, deliver, on_failure
        self.retry_seconds, self._most_in_batch = retry_seconds, most_in_batch
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._there = path.open("ab"), path.open("rb")  # it can be read where its folder is removed
        if path.stat().st_size:
            self._write(b"\n")  # closes a line that a kill tore; an empty one is no item
        self._changed = threading.Condition()
        self._closing = False
        self._attempts = 0
        self._offset = 0  # bytes of the file that were delivered
        self._waiting = _lines_in(path)
        self._thread = threading.Thread(target=self._run, name="ssrnn-tracking", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand over an item, which JSON can hold; returns at once. OSError on a full disk."""
        with self._changed:
            self._write(json.dumps(item, ensure_ascii=False).encode(errors="replace") + b"\n")
            self._waiting += 1
            self._changed.notify_all()

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()

    @property
    def waiting(self) -> int:
        """Items not delivered yet."""
        with self._changed:
            return self._waiting

    def wait_for_attempts(self, attempts: int, timeout_seconds: float) -> None:
        """Wait until so many deliveries came to an end since the beginning, well or not."""
        with self._changed:
            self._changed.wait_for(lambda: self._attempts >= attempts, timeout_seconds)

    def close(self, timeout_seconds: float) -> int:
        """Try to deliver what waits, once more where that failed before; the number of items that stay in the file."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        left = self.waiting
        if not self._thread.is_alive():
            self._file.close()
            self._there.close()
            if not left:
                self._path.unlink(missing_ok=True)
        return left

    def _run(self) -> None:
        while True:
            items, size_bytes, lines = self._next_batch()
            if not lines:
                return
            try:
                self._deliver(items)
            except Exception as error:
                self._on_failure(error)
                if not self._pause_after_failure():
                    return
            else:
                self._note_delivered(size_bytes, lines)

    def _next_batch(self) -> tuple[list[dict[str, Any]], int, int]:
        """Wait for items: they, the bytes and the lines they take in the file; none once it is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            lines = self._read(min(self._most_in_batch, self._waiting))
        items = (_item(line) for line in lines)
        return [item for item in items if item is not None], sum(map(len, lines)), len(lines)

    def _read(self, count: int) -> list[bytes]:
        with os.fdopen(os.dup(self._there.fileno()), "rb") as file:  # no buffer stays: the file is truncated
            file.seek(self._offset)
            return [file.readline() for _ in range(count)]

    def _note_delivered(self, size_bytes: int, lines: int) -> None:
        with self._changed:
            self._attempts += 1
            self._offset += size_bytes
            self._waiting -= lines
            if not self._waiting:  # the file never grows while the other side is there
                self._file.truncate(0)
                self._offset = 0
            self._changed.notify_all()

    def _pause_after_failure(self) -> bool:
        """Wait before the next attempt; false where there is none, because the outbox was closing already."""
        with self._changed:
            self._attempts += 1
            self._changed.notify_all()
            if self._closing:
                return False
            self._changed.wait_for(lambda: self._closing, self.retry_seconds)
            return True


def _item(line: bytes) -> dict[str, Any] | None:
    """None for a torn line."""
    try:
        item = json.loads(line)
    except ValueError:
        return None
    return item if isinstance(item, dict) else None


def _lines_in(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
