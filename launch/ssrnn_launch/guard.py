"""Outlives a command that is killed: ends, by pid, every process that carries its mark, and removes its folder.

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


def marked_processes(mark: str, proc: Path = Path("/proc")) -> list[int]:
    """The pids of all processes whose environment carries the mark, this one left out."""
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    found = []
    for entry in proc.glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            pid = int(entry.parent.name)
            if pid != os.getpid() and wanted in entry.read_bytes().split(b"\0"):
                found.append(pid)
    return found


def end_marked(mark: str, spare: frozenset[int] = frozenset()) -> list[int]:
    """SIGKILL to every marked process until none is left; the pids that would not end."""
    left: list[int] = []
    for _ in range(ROUNDS):
        left = [pid for pid in marked_processes(mark) if pid not in spare]
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    return left


@contextmanager
def guarded(mark: str, folder: Path) -> Iterator[None]:
    """While this stands, the end of this process, however it comes, ends all that carry the mark."""
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
    sys.stdin.buffer.read()
    end_marked(sys.argv[1])
    shutil.rmtree(sys.argv[2], ignore_errors=True)
