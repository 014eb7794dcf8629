"""One command a run: who holds the lock trains it. The lock is the kernel's, and ends with its process.

Imports the words of errors only; touches a run folder's .lock."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssrnn_dist.problems import UserError, user_error

LOCK = ".lock"


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold a run, whose folder stands. UserError where another command does."""
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(folder) from None
        yield


def check_unlocked(folder: Path) -> None:
    """UserError where a command trains this run now."""
    if is_locked(folder):
        raise _held(folder)


def is_locked(folder: Path) -> bool:
    """Does a command train this run now?  False where nobody can tell: there is no lock, or it can't be opened."""
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _held(folder: Path) -> UserError:
    allowed = "wait for it, stop it, or start another run with another name"
    return user_error(str(folder), "another command trains this run now", allowed)
