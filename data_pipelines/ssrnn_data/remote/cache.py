"""A folder of checksummed files that all processes of a node share, of bounded size: the least recently used go first.

A file appears whole, by a rename, after its SHA-256 was checked; locks are the kernel's: a killed process holds none.
"""

import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ssrnn_data.errors import data_error

Fetch = Callable[[BinaryIO], None]
_NAME = re.compile(r"[0-9a-f]{64}")
_PART, _LOCK, _ROOM = ".part", ".lock", "room.lock"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_POLL_SECONDS = 0.05


class CachedFile(NamedTuple):
    """An entry, or one that is being fetched; that one has its whole size from the start."""

    used_ns: int
    name: str
    size_bytes: int


def to_evict(entries: list[CachedFile], held_bytes: int, wanted_bytes: int, limit_bytes: int) -> list[CachedFile]:
    """The fewest of the least recently used entries without which `wanted` fits beside the rest and what is held."""
    left = held_bytes + wanted_bytes + sum(entry.size_bytes for entry in entries) - limit_bytes
    evicted = []
    for entry in sorted(entries):
        if left <= 0:
            break
        evicted.append(entry)
        left -= entry.size_bytes
    return evicted


class DiskCache:
    """The cache in a folder. Entries are named by their SHA-256; nothing else in the folder is touched.

    limit_bytes bounds the entries and what is being fetched, together. What a process holds open stays readable for it
    when it is evicted, and then takes its space until it is closed.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        if limit_bytes < 1:
            raise data_error(folder, f"a limit of {limit_bytes:,} bytes came", "a positive number is allowed")
        self._folder, self._limit_bytes = Path(folder), limit_bytes
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise data_error(folder, f"can't be written ({error.strerror})", "a folder that can be written") from error

    def contains(self, sha256: str, size_bytes: int) -> bool:
        """Whether the file is there; it may be evicted by the time that it is opened."""
        with suppress(FileNotFoundError):
            return self._path(sha256).stat().st_size == size_bytes
        return False

    def open(self, sha256: str, size_bytes: int, fetch: Fetch) -> BinaryIO:
        """The file, open for reading: from the cache, or as fetch(out) writes it now.

        Of all processes and threads that ask for a file one fetches it, and the others wait. Raises DataError where
        twice other bytes came, the file is larger than the limit, or the disk is full with everything else evicted;
        and what fetch raises.
        """
        path = self._path(sha256)
        if size_bytes > self._limit_bytes:
            came = f"a file of {size_bytes:,} bytes came"
            raise data_error(self._folder, came, f"the cache's limit is {self._limit_bytes:,} bytes; raise it")
        if stream := _open_used(path, size_bytes):
            return stream
        with self._locked(path.name + _LOCK):
            return _open_used(path, size_bytes) or self._fetched(path, size_bytes, fetch)

    def _path(self, sha256: str) -> Path:
        if not _NAME.fullmatch(sha256):
            raise data_error(self._folder, f"the name {sha256!r} came", "64 hexadecimal digits are allowed")
        return self._folder / sha256

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Holds a lock file, which goes with the lock; BlockingIOError without wait where another holds it."""
        path = self._folder / name
        while True:
            handle = self._lock(path, wait)
            try:
                if _is_file(handle, path):  # else it went while we waited
                    try:
                        yield
                    finally:
                        path.unlink(missing_ok=True)
                    return
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)  # a forked child may have the handle, too
                os.close(handle)

    def _lock(self, path: Path, wait: bool) -> int:
        handle = -1
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except OSError as error:
            if handle >= 0:
                os.close(handle)
            if isinstance(error, BlockingIOError) or error.errno in _NO_SPACE:
                raise
            allowed = "a folder on a disk of this machine that can be written"
            raise data_error(self._folder, f"can't be locked ({error.strerror})", allowed) from error

    def _fetched(self, path: Path, size_bytes: int, fetch: Fetch) -> BinaryIO:
        """Fetches under the entry's lock; wrong bytes and a full disk are forgiven once each."""
        wrong, full = 0, False
        while True:
            try:
                stream, sha256 = self._fetch_once(path, size_bytes, fetch)
            except OSError as error:
                if error.errno not in _NO_SPACE:
                    raise
                if full or not self._evict_for(size_bytes):
                    came = f"no space left for {size_bytes:,} bytes"
                    raise data_error(self._folder, came, "free some, or give the cache another disk") from error
                full = True
                continue
            if stream:
                return stream
            wrong += 1
            if wrong == 2:
                came = f"twice other bytes came, the last with SHA-256 {sha256}"
                raise data_error(self._folder, came, f"those of SHA-256 {path.name} are needed")

    def _fetch_once(self, path: Path, size_bytes: int, fetch: Fetch) -> tuple[BinaryIO | None, str]:
        """(the new entry, open for reading, or None for wrong bytes; the SHA-256 of what came)."""
        part = self._reserve(path, size_bytes)
        try:
            sha256 = _write(part, fetch)
            if sha256 != path.name:
                return None, sha256
            stream = part.open("rb")
            os.utime(part)
            part.rename(path)
            return stream, sha256
        finally:
            part.unlink(missing_ok=True)

    def _reserve(self, path: Path, size_bytes: int) -> Path:
        """An empty part file of the whole size, once there is room for it: others may be fetching, too."""
        part = path.with_name(path.name + _PART)
        part.unlink(missing_ok=True)  # of one that was killed: the lock is ours now
        while True:
            with self._locked(_ROOM):
                if self._make_room(size_bytes):
                    with part.open("xb") as stream:
                        stream.truncate(size_bytes)
                    return part
            time.sleep(_POLL_SECONDS)

    def _make_room(self, wanted_bytes: int) -> bool:
        """Evicts what must go for so many bytes; False, and nothing goes, while others' fetches leave no room."""
        self._clear_stale()
        held_bytes = sum(part.size_bytes for part in self._files(_PART))
        if held_bytes + wanted_bytes > self._limit_bytes:
            return False
        self._evict(to_evict(self._files(""), held_bytes, wanted_bytes, self._limit_bytes))
        return True

    def _evict(self, entries: list[CachedFile]) -> None:
        for entry in entries:
            (self._folder / entry.name).unlink(missing_ok=True)

    def _evict_for(self, size_bytes: int) -> bool:
        """Frees so many bytes of a full disk, as far as entries go; whether any went."""
        with self._locked(_ROOM):
            entries = self._files("")
            total_bytes = sum(entry.size_bytes for entry in entries)
            evicted = to_evict(entries, 0, size_bytes, total_bytes)
            self._evict(evicted)
        return bool(evicted)

    def _files(self, suffix: str) -> list[CachedFile]:
        """The entries, or the files beside them that have a suffix."""
        files = []
        with os.scandir(self._folder) as items:
            for item in items:
                if item.name.endswith(suffix) and _NAME.fullmatch(item.name.removesuffix(suffix)):
                    with suppress(FileNotFoundError):
                        status = item.stat(follow_symlinks=False)
                        files.append(CachedFile(status.st_mtime_ns, item.name, status.st_size))
        return files

    def _clear_stale(self) -> None:
        """Removes the parts and locks of processes that are no more: nobody holds their locks."""
        for name in {Path(file.name).stem for file in self._files(_PART) + self._files(_LOCK)}:
            with suppress(BlockingIOError), self._locked(name + _LOCK, wait=False):
                (self._folder / (name + _PART)).unlink(missing_ok=True)


def _open_used(path: Path, size_bytes: int) -> BinaryIO | None:
    """An entry, marked as used now; None where there is none, or one of another size, which a new one will replace."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return None
    if os.fstat(stream.fileno()).st_size != size_bytes:
        stream.close()
        return None
    with suppress(OSError):  # of another user, or on a disk that is only read
        os.utime(stream.fileno())
    return stream


def _write(part: Path, fetch: Fetch) -> str:
    """Has a part file written and brought to the disk; its SHA-256."""
    with part.open("r+b") as out:
        fetch(out)
        out.flush()
        os.fsync(out.fileno())
        out.seek(0)
        return hashlib.file_digest(out, "sha256").hexdigest()


def _is_file(handle: int, path: Path) -> bool:
    """Whether the path still leads to the open file."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False
