"""A folder that appears whole or not at all: built beside its place, renamed into it.

What a killed or interrupted build finished stays beside it for the next build of the same; any other clears it away.
"""

import errno
import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ssrnn_data.building.work_folder import WorkFolder
from ssrnn_data.errors import DataError, data_error

# Inside the folder beside the target: a lock that a living build holds, what is built, and what it replaced.
_LOCK, _NEW, _OLD = "lock", "new", "old"


@contextmanager
def staged_folder(target: Path, identity: str) -> Iterator[tuple[WorkFolder, Path]]:
    """Yields a work folder, which may hold finished parts of the same identity, and where to put what is built.

    That takes target's place when the block ends without an error; a folder that is at target is then replaced, so
    check first that it may be. Raises DataError where nothing can be written there or another process builds it now.
    After a DataError nothing is left; after any other error (a full disk, Ctrl-C) the finished parts are.
    """
    staging = target.parent / f"{_prefix(target)}{identity[:16]}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_stale(target, staging)
        staging.mkdir(exist_ok=True)
        lock = (staging / _LOCK).open("w")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise data_error(target, f"can't be written ({error.strerror})", "a folder that can be written") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise data_error(target, "another process builds it now", "wait for it, or choose another folder") from None
        work, new = WorkFolder(staging), staging / _NEW
        try:
            new.mkdir(exist_ok=True)
            yield work, new
            _sync(new)
            _swap_in(staging, target)
        except BaseException as error:
            if isinstance(error, DataError) or not work.has_parts():
                shutil.rmtree(staging, ignore_errors=True)
            raise
        shutil.rmtree(staging, ignore_errors=True)


def unfinished_builds(target: Path) -> list[Path]:
    """What builds of a folder keep beside it until they are done."""
    return sorted(target.parent.glob(f"{glob.escape(_prefix(target))}*"))


def _prefix(target: Path) -> str:
    return f".{target.name}.building-"


def _clear_stale(target: Path, own: Path) -> None:
    """Removes what builds of something else left behind; one that was killed between its two renames is undone."""
    for staging in unfinished_builds(target):
        with suppress(BlockingIOError, FileNotFoundError), (staging / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (staging / _OLD).exists() and not target.exists():
                (staging / _OLD).rename(target)
            if staging != own:
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
