"""Files in stores and on web servers: sizes, listings, ranges, a file object that reads ahead, parallel downloads.

Every read is of an exact range, checked, and tried again by itself (retry.py).
"""

import functools
import io
import os
import threading
from concurrent.futures import Future
from typing import Any, BinaryIO

from ssrnn_data.background import in_background
from ssrnn_data.errors import data_error
from ssrnn_data.remote.http_store import HttpStore
from ssrnn_data.remote.retry import Retry, with_retries
from ssrnn_data.remote.s3_store import S3Store
from ssrnn_data.remote.stores import RemoteFile, Store
from ssrnn_data.remote.urls import check_url, is_url, shown

__all__ = [
    "RemoteFile",
    "RemoteReader",
    "Retry",
    "check_url",
    "download",
    "find",
    "forget_stores",
    "is_url",
    "read_bytes",
    "read_range",
    "stat",
]

DEFAULT_RETRY = Retry()
BLOCK_BYTES = 8 << 20
PIECE_BYTES = 16 << 20


def store_of(url: str, stall_seconds: float) -> Store:
    """The store of a URL, one for all threads of this process; DataError as of check_url."""
    check_url(url)
    from fsspec import get_filesystem_class

    scheme = url.partition("://")[0]
    options = get_filesystem_class(scheme)._get_kwargs_from_urls(url)
    return _open_store(scheme, tuple(sorted(options.items())), stall_seconds, os.getpid())


@functools.lru_cache(maxsize=64)
def _open_store(scheme: str, options: tuple[tuple[str, Any], ...], stall_seconds: float, pid: int) -> Store:
    """By process, too: connections don't survive a fork."""
    kinds = {"http": HttpStore, "https": HttpStore, "s3": S3Store, "s3a": S3Store}
    return kinds.get(scheme, Store)(scheme, dict(options), stall_seconds)


def forget_stores() -> None:
    """Opens stores anew from here on: for when the keys in the environment are others."""
    _open_store.cache_clear()


def stat(url: str, retry: Retry = DEFAULT_RETRY) -> RemoteFile:
    """The size and version of a file; DataError for none, a folder, no access, a store that doesn't answer."""
    store = store_of(url, retry.stall_seconds)
    return with_retries(url, retry, lambda: store.stat(url))


def find(url: str, retry: Retry = DEFAULT_RETRY) -> list[RemoteFile]:
    """The files that a glob matches, all below a folder, or the file itself, sorted by URL; DataError for none."""
    store = store_of(url, retry.stall_seconds)
    files = with_retries(url, retry, lambda: store.find(url))
    if not files:
        raise data_error(shown(url), "no files found", "a file, a glob or a folder with files is allowed")
    return files


def read_range(url: str, start: int, stop: int, retry: Retry = DEFAULT_RETRY) -> bytes:
    """Exactly the bytes [start, stop) of a file; DataError where it has fewer."""
    if not 0 <= start <= stop:
        raise data_error(shown(url), f"bytes [{start}, {stop}) came", "0 ≤ start ≤ stop is allowed")
    store = store_of(url, retry.stall_seconds)
    return with_retries(url, retry, lambda: store.read(url, start, stop, None)) if start < stop else b""


def read_bytes(url: str, retry: Retry = DEFAULT_RETRY) -> bytes:
    """A whole small file."""
    file = stat(url, retry)
    out = io.BytesIO()
    download(file, out, retry)
    return out.getvalue()


def download(
    file: RemoteFile,
    out: BinaryIO,
    retry: Retry = DEFAULT_RETRY,
    piece_bytes: int = PIECE_BYTES,
    workers: int = 4,
) -> None:
    """Writes a file to out, front to back, by ranges of piece_bytes of which `workers` are on their way at once.

    Each is tried again by itself. Raises DataError where one can't be had or the file changed meanwhile, and what
    out.write raises. Memory: about (workers + 1) · piece_bytes.
    """
    pieces = _Blocks(file, retry, piece_bytes, ahead=workers - 1)
    try:
        for number in range(pieces.count):
            out.write(pieces.get(number))
    finally:
        pieces.stop()


class RemoteReader(io.RawIOBase):
    """A file in a store as a seekable file; `ahead` blocks are fetched before they are needed while it is read on.

    Wrap it in io.BufferedReader for small reads. Memory: about (ahead + 2) · block_bytes. One thread may use it.
    Reading raises DataError where a block can't be had, or the file is no longer the one that stat or find saw.
    """

    def __init__(
        self, file: RemoteFile, retry: Retry = DEFAULT_RETRY, block_bytes: int = BLOCK_BYTES, ahead: int = 2
    ) -> None:
        self.name = file.url
        self._size_bytes, self._block_bytes = file.size_bytes, block_bytes
        self._blocks = _Blocks(file, retry, block_bytes, ahead)
        self._at, self._number, self._block = 0, -1, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._check_open()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}, before the file's start")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fills the buffer, but for the file's end: tarfile takes fewer bytes for a cut archive."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and self._at < self._size_bytes:
            number, offset = divmod(self._at, self._block_bytes)
            if number != self._number:
                self._number, self._block = -1, b""
                self._block = self._blocks.get(number)
                self._number = number
            part = memoryview(self._block)[offset : offset + len(view) - filled]
            view[filled : filled + len(part)] = part
            filled += len(part)
            self._at += len(part)
        return filled

    def close(self) -> None:
        self._blocks.stop()
        self._block = b""
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")


class _Stopped(Exception):
    """Nobody waits for this block any more."""


class _Blocks:
    """The blocks of a file, by number; the next ones are on their way while they are asked for in order."""

    def __init__(self, file: RemoteFile, retry: Retry, block_bytes: int, ahead: int) -> None:
        if block_bytes < 1 or ahead < 0:
            raise data_error(
                shown(file.url), f"blocks of {block_bytes} bytes, {ahead} ahead", "≥ 1 and ≥ 0 are allowed"
            )
        self._file, self._retry, self._block_bytes, self._ahead = file, retry, block_bytes, ahead
        self._store = store_of(file.url, retry.stall_seconds)
        self._coming: dict[int, Future[bytes]] = {}
        self._stopped = threading.Event()
        self._next = 0
        self.count = -(-file.size_bytes // block_bytes)

    def get(self, number: int) -> bytes:
        """A block's bytes; DataError."""
        if number != self._next:
            self.stop()
        if number == self._next:
            for later in range(number + 1, min(number + 1 + self._ahead, self.count)):
                if later not in self._coming:
                    read = functools.partial(self._read, later, self._stopped)
                    self._coming[later] = in_background(read, "ssrnn-read-ahead")
        self._next = number + 1
        coming = self._coming.pop(number, None)
        block = coming.result() if coming else self._read(number, self._stopped)
        if number == self.count - 1:
            with_retries(self._file.url, self._retry, lambda: self._store.check_unchanged(self._file))
        return block

    def stop(self) -> None:
        """Lets go of what is on its way."""
        self._stopped.set()
        self._stopped = threading.Event()
        self._coming.clear()

    def _read(self, number: int, stopped: threading.Event) -> bytes:
        file, start = self._file, number * self._block_bytes
        stop = min(start + self._block_bytes, file.size_bytes)

        def wait(seconds: float) -> None:
            if stopped.wait(seconds):
                raise _Stopped

        return with_retries(file.url, self._retry, lambda: self._store.read(file.url, start, stop, file), wait)
