"""A folder in a store: files that appear whole, sizes, reads and removals, each tried again when the store fails.

Reads by ssrnn_data.remote, writes by fsspec; keys come from the environment, and no message holds one."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from ssrnn_data import DataError
from ssrnn_data.remote.files import Retry, check_url, download, find, read_bytes, stat
from ssrnn_data.remote.retry import Verdict, judge, reason, wait_seconds
from ssrnn_data.remote.urls import shown
from ssrnn_dist.files import write_bytes_atomic
from ssrnn_dist.problems import user_error
from ssrnn_dist.tracking.facts import without_password

T = TypeVar("T")
_log = logging.getLogger(__name__)
_FOLDERS = ("file", "local")  # schemes that mean a folder of this node
_PIECE_BYTES = 32 << 20  # what is larger than two is sent piece by piece
_PARTS_AT_ONCE = 4
PATIENT = Retry(attempts=9, first_seconds=1.0, most_seconds=60.0)  # about three minutes of waits


class RemoteFailed(OSError):
    """A store did not take or give a file, however often it was asked: one line with the URL and the last reason."""


@dataclass(frozen=True)
class RemoteFolder:
    """The folder at url. Every method may be called from any thread.

    RemoteFailed: the store does not answer.  What is refused, or not there, is DataError of a read, UserError of a
    write; a disk's OSErrors keep their errno."""

    url: str
    retry: Retry = PATIENT

    def at(self, name: str) -> str:
        """The URL of a file in it."""
        return f"{self.url.rstrip('/')}/{name}"

    def below(self, name: str) -> "RemoteFolder":
        return RemoteFolder(self.at(name), self.retry)

    @property
    def shown(self) -> str:
        """The URL as messages show it."""
        return shown(self.url.rstrip("/"))

    def sizes(self) -> dict[str, int]:
        """Bytes of each file below it, by its path from here; {} where there is no such folder."""
        check_url(self.url)
        try:
            with _answering():
                files = find(self.url.rstrip("/"), self.retry)
        except DataError as error:
            if error.__cause__ is None or isinstance(error.__cause__, FileNotFoundError):
                return {}
            raise
        root = len(self._path("")) + 1
        return {self._fs._strip_protocol(file.url)[root:]: file.size_bytes for file in files}

    def read(self, name: str) -> bytes:
        """A whole small file."""
        with _answering():
            return read_bytes(self.at(name), self.retry)

    def download(self, name: str, out: BinaryIO) -> None:
        """Write a file to out, front to back, by ranges of which several are on their way at once."""
        with _answering():
            download(stat(self.at(name), self.retry), out, self.retry)

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Make a file, or replace it: readers see the old one or the new one, whole."""
        if self._scheme in _FOLDERS:
            path = Path(self._path(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(path, data)
        else:
            self._tried(name, "written", lambda: self._put(self._path(name), data))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

        def attempt() -> None:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._path(name))

        self._tried(name, "removed", attempt)

    @property
    def _scheme(self) -> str:
        return self.url.partition("://")[0]

    @cached_property
    def _fs(self) -> Any:
        """An instance of our own: the one that reads repeats nothing, here each part of a large file is repeated."""
        check_url(self.url)
        import fsspec

        options = fsspec.get_filesystem_class(self._scheme)._get_kwargs_from_urls(self.url)
        if self._scheme in ("s3", "s3a"):
            seconds = self.retry.stall_seconds
            timeouts = {"connect_timeout": seconds, "read_timeout": seconds}
            options["config_kwargs"] = {**timeouts, "retries": {"total_max_attempts": 1}}
        return fsspec.filesystem(self._scheme, skip_instance_cache=True, **options)

    def _path(self, name: str) -> str:
        path: str = self._fs._strip_protocol(self.at(name))
        return path.rstrip("/")

    def _put(self, path: str, data: bytes | memoryview) -> None:
        if len(data) <= 2 * _PIECE_BYTES:
            self._fs.pipe_file(path, bytes(data))
        elif self._scheme in ("s3", "s3a"):
            self._fs.pipe_file(path, _Parts(data), chunksize=_PIECE_BYTES, max_concurrency=_PARTS_AT_ONCE)
        else:
            file = self._fs.open(path, "wb", autocommit=False)
            try:
                for start in range(0, len(data), _PIECE_BYTES):
                    file.write(data[start : start + _PIECE_BYTES])
                file.close()
                file.commit()
            except BaseException:
                file.discard()
                raise

    def _tried(self, name: str, what: str, attempt: Callable[[], T]) -> T:
        url, attempts = shown(self.at(name)), self.retry.attempts
        for number in range(1, attempts + 1):
            try:
                return attempt()
            except Exception as error:
                verdict, said = _judge_write(error), without_password(reason(error))
                if verdict == "foreign":
                    raise
                if verdict == "final":
                    allowed = "a bucket that exists and write access are wanted; keys come from the environment"
                    raise user_error(url, f"cannot be {what} ({said})", allowed) from error
                if number == attempts:
                    message = f"{url}: cannot be {what}: {number} attempts failed, the last one so: {said}"
                    raise RemoteFailed(message) from error
            wait = wait_seconds(self.retry, number + 1, random.random())
            _log.warning("%s: %s; attempt %d of %d in %.1f s", url, said, number + 1, attempts, wait)
            time.sleep(wait)
        raise AssertionError("unreachable: attempts is at least 1")


@contextmanager
def _answering() -> Iterator[None]:
    """A read that was tried again to the end failed by the store, not by what the user gave: RemoteFailed."""
    try:
        yield
    except DataError as error:
        if error.__cause__ is not None and judge(error.__cause__) == "again":
            raise RemoteFailed(str(error)) from error.__cause__
        raise


def _judge_write(error: Exception) -> Verdict:
    """As of a read; but an endpoint that cannot be reached, which botocore calls so, is waited for as well."""
    unreachable = any(kind.__name__ == "ConnectionError" for kind in type(error).__mro__)
    return "again" if unreachable else judge(error)


class _Parts:
    """A large file for s3fs, which cuts it: botocore takes bytes only, and each part becomes that when it is sent."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, part: slice) -> bytes:
        return bytes(self._data[part])
