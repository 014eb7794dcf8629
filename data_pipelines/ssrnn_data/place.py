"""Where a corpus lies: a folder, or a URL whose shards come through a disk cache that the processes of a node share.

A place knows files by name, checksum and size, and nothing of what they hold.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from ssrnn_data.errors import DataError, data_error
from ssrnn_data.remote.retry import Retry
from ssrnn_data.remote.urls import is_url, shown

_FETCHES_AT_ONCE = 4
_DEFAULT_CACHE_GB = 50.0


@dataclass(frozen=True)
class CacheOptions:
    """The disk cache of remote corpora: where, how many bytes it may hold, and how often a fetch is tried."""

    folder: Path
    limit_bytes: int
    retry: Retry = field(default_factory=Retry)

    @classmethod
    def default(cls, folder: str | None = None, limit_gb: float | None = None) -> "CacheOptions":
        """What isn't given comes from SSRNN_CACHE and SSRNN_CACHE_GB, else ~/.cache/ssrnn and 50 GB."""
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
        chosen = Path(folder or os.environ.get("SSRNN_CACHE") or base / "ssrnn").expanduser()
        said = os.environ.get("SSRNN_CACHE_GB") or _DEFAULT_CACHE_GB
        try:
            return cls(chosen, int(1e9 * (float(said) if limit_gb is None else limit_gb)))
        except (ValueError, OverflowError):
            raise data_error("SSRNN_CACHE_GB", f"{said!r} came", "a number of gigabytes is allowed") from None


class Place(Protocol):
    """The files of a corpus. name: for messages."""

    name: str

    def where(self, file: str) -> str:
        """A file's path or URL, for messages."""

    def read(self, file: str) -> bytes:
        """A small file, whole; OSError or DataError where it can't be read."""

    def open(self, file: str, sha256: str, size_bytes: int) -> BinaryIO:
        """A shard, open for reading; DataError where it is missing or can't be had."""

    def prefetch(self, file: str, sha256: str, size_bytes: int) -> None:
        """Says that a shard will be opened soon. Returns at once; a failure shows when it is opened."""


class Folder:
    """A corpus on this machine."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)

    def where(self, file: str) -> str:
        return str(self.path / file)

    def read(self, file: str) -> bytes:
        return (self.path / file).read_bytes()

    def open(self, file: str, sha256: str, size_bytes: int) -> BinaryIO:
        try:
            return (self.path / file).open("rb")
        except FileNotFoundError:
            allowed = "all shards that the index lists are needed"
            raise data_error(self.where(file), "no such shard", allowed) from None
        except OSError as error:
            raise data_error(self.where(file), f"can't be read ({error.strerror})", "a readable file") from None

    def prefetch(self, file: str, sha256: str, size_bytes: int) -> None:
        """The operating system reads ahead."""


class RemoteFolder:
    """A corpus in a store or on a web server."""

    def __init__(self, url: str, cache: CacheOptions) -> None:
        from ssrnn_data.remote.cache import DiskCache

        self.name = shown(url)
        self._url, self._retry = url.rstrip("/"), cache.retry
        self._cache = DiskCache(cache.folder, cache.limit_bytes)
        self._coming: set[str] = set()
        self._lock = threading.Lock()
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def where(self, file: str) -> str:
        return shown(f"{self._url}/{file}")

    def read(self, file: str) -> bytes:
        from ssrnn_data.remote.files import read_bytes

        return read_bytes(f"{self._url}/{file}", self._retry)

    def open(self, file: str, sha256: str, size_bytes: int) -> BinaryIO:
        from ssrnn_data.remote.files import download, stat

        def fetch(out: BinaryIO) -> None:
            found = stat(f"{self._url}/{file}", self._retry)
            if found.size_bytes != size_bytes:
                came = f"the shard has {found.size_bytes:,} bytes"
                raise data_error(self.where(file), came, f"the index says {size_bytes:,}; copy it again")
            download(found, out, self._retry)

        return self._cache.open(sha256, size_bytes, fetch)

    def prefetch(self, file: str, sha256: str, size_bytes: int) -> None:
        with self._lock:
            if sha256 in self._coming or self._cache.contains(sha256, size_bytes):
                return
            if self._pool is None or self._pool[0] != os.getpid():  # threads don't survive a fork
                self._pool = (os.getpid(), ThreadPoolExecutor(_FETCHES_AT_ONCE, "ssrnn-prefetch"))
            self._coming.add(sha256)
            self._pool[1].submit(self._fetch_ahead, file, sha256, size_bytes)

    def _fetch_ahead(self, file: str, sha256: str, size_bytes: int) -> None:
        try:
            self.open(file, sha256, size_bytes).close()
        except (DataError, OSError):
            pass  # whoever opens it is told
        finally:
            with self._lock:
                self._coming.discard(sha256)


def place_of(path: str | Path, cache: CacheOptions | None, index_file: str) -> tuple[Place, str]:
    """The place of a corpus and its index's name there, from the index or its folder, as a path or a URL."""
    text = str(path)
    if is_url(text):
        url, _, last = text.rstrip("/").rpartition("/")
        folder, file = (url, last) if last.endswith(".json") else (text, index_file)
        return RemoteFolder(folder, cache or CacheOptions.default()), file
    path = Path(path)
    return (Folder(path), index_file) if path.is_dir() else (Folder(path.parent), path.name)
