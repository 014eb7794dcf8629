"""A folder that appears whole or not at all: built beside its place, renamed into it, removed on failure.

What a killed build left behind is removed by the next one for the same place.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ssrnn_data.errors import data_error

_LOCK_FILE = "build.lock"


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside `target` that takes target's place when the block ends without an error.

    A folder that is at target is then replaced, so check first that it may be. Raises DataError where nothing can be
    written there; any other OSError (a full disk) passes through with the unfinished folder removed.
    """
    parent, prefix = target.parent, f".{target.name}.building-"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(parent, prefix)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise data_error(target, f"can't be written ({error.strerror})", "a folder that can be written") from error
    try:
        with (folder / _LOCK_FILE).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
            (folder / _LOCK_FILE).unlink()
            folder.chmod(0o755)
            _sync(folder)
            _swap_in(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _remove_stale(parent: Path, prefix: str) -> None:
    """Removes folders of builds that no longer run: a live one holds its lock."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError), (folder / _LOCK_FILE).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def _swap_in(folder: Path, target: Path) -> None:
    """Renames folder to target; what was there is removed only after."""
    old = folder.with_name(folder.name + ".replaced")
    if target.exists():
        target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
