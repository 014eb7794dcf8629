"""Outlives a command that is killed: ends, by pid, every process of its session, and removes the session's folder.

Runs as a script of its own (`python guard.py MARK FOLDER`), reads its stdin to the end, imports the standard library
only. Ray's agents stay for a minute and more after their driver was killed; with the guard nothing does."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARK_VARIABLE = "SSRNN_SESSION"
ROUNDS = 20  # a process may start another one just as it is found; a round is a tenth of a second


def marked_processes(mark: str, folder: Path) -> list[int]:
    """The pids, this one left out, of the processes that belong to a session.

    Those whose environment carries the mark; and those that have a file of the folder open, such as their log, because
    processes that set their own title may lose their environment to it."""
    wanted, inside = f"{MARK_VARIABLE}={mark}".encode(), f"{folder}/"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        pid = int(process.name)
        if pid != os.getpid() and (_carries(process, wanted) or _has_open(process, inside)):
            found.append(pid)
    return found


def _carries(process: Path, wanted: bytes) -> bool:
    with contextlib.suppress(OSError):
        return wanted in (process / "environ").read_bytes().split(b"\0")
    return False


def _has_open(process: Path, inside: str) -> bool:
    with contextlib.suppress(OSError):
        for entry in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(entry.readlink()).startswith(inside):
                    return True
    return False


def end_marked(mark: str, folder: Path, spare: frozenset[int] = frozenset()) -> list[int]:
    """SIGKILL to every process of a session until none is left; the pids that would not end."""
    left: list[int] = []
    for _ in range(ROUNDS):
        left = [pid for pid in marked_processes(mark, folder) if pid not in spare]
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    return left


@contextmanager
def guarded(mark: str, folder: Path) -> Iterator[None]:
    """While this stands, the end of this process, however it comes, ends the session's processes."""
    environment = {key: value for key, value in os.environ.items() if key != MARK_VARIABLE}
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, mark, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        yield
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which may go to all processes of a job
    sys.stdin.buffer.read()
    end_marked(sys.argv[1], Path(sys.argv[2]), spare=frozenset({os.getppid()}))  # the command, if it still lives
    shutil.rmtree(sys.argv[2], ignore_errors=True)
