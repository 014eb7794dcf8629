"""A folder that appears whole or not at all: built beside its place, renamed into it, removed on failure.

What a killed build left behind is removed by the next one for the same place.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ssrnn_data.errors import data_error

# Inside the folder beside the target: a lock that a living build holds, what is built, and what it replaced.
_LOCK, _NEW, _OLD = "lock", "new", "old"


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder that takes target's place when the block ends without an error.

    A folder that is at target is then replaced, so check first that it may be. Raises DataError where nothing can be
    written there; any other OSError (a full disk) passes through with the unfinished folder removed.
    """
    prefix = f".{target.name}.building-"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_stale(target, prefix)
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise data_error(target, f"can't be written ({error.strerror})", "a folder that can be written") from error
    try:
        with (staging / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            new = staging / _NEW
            new.mkdir()
            yield new
            _sync(new)
            _swap_in(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _clear_stale(target: Path, prefix: str) -> None:
    """Removes what builds that no longer run left behind; one that was killed between its two renames is undone."""
    for staging in target.parent.glob(f"{prefix}*"):
        with suppress(BlockingIOError, FileNotFoundError), (staging / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (staging / _OLD).exists() and not target.exists():
                (staging / _OLD).rename(target)
            shutil.rmtree(staging, ignore_errors=True)


def _swap_in(staging: Path, target: Path) -> None:
    """Renames the new folder to target; what was there goes with the staging folder, after."""
    if target.exists():
        target.rename(staging / _OLD)
    try:
        (staging / _NEW).rename(target)
    except OSError:
        if (staging / _OLD).exists():
            (staging / _OLD).rename(target)
        raise
    _sync(target.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
