"""Processes of ours that work together on this machine: started, watched, and ended by their pids.

Imports the standard library only."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ssrnn_launch.problems import LaunchFailed

POLL_SECONDS = 0.05


def free_port() -> int:
    """On 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_together(
    what: str,
    arguments: Sequence[Sequence[str]],
    environments: Sequence[Mapping[str, str]],
    folder: Path,
    most_seconds: float,
    watch: Callable[[list[int]], None] | None = None,
) -> None:
    """Run Python with each of the arguments until all are done; watch(pids) is called as they run.

    arguments: of Python.  environments: beside this process's own.  folder: of their logs, rank-N.log.
    LaunchFailed as soon as one fails, or too much time has passed; none of them is left in the end."""
    started: list[subprocess.Popen[bytes]] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's stop is Ctrl-C
    try:
        for rank, (words, extra) in enumerate(zip(arguments, environments, strict=True)):
            with (folder / f"rank-{rank}.log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, *words], env=_environment(extra), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            started.append(process)
        _wait(what, started, folder, most_seconds, watch)
    finally:
        for process in started:
            with suppress(OSError):
                process.kill()
            process.wait()
        signal.signal(signal.SIGTERM, before)


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Ours, without a group's that we may be a rank of; our modules are found as we found them."""
    group = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
    kept = {name: value for name, value in os.environ.items() if name not in group}
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**kept, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore", **extra}


def _wait(
    what: str,
    started: Sequence[subprocess.Popen[bytes]],
    folder: Path,
    most_seconds: float,
    watch: Callable[[list[int]], None] | None,
) -> None:
    deadline = time.monotonic() + most_seconds
    while time.monotonic() < deadline:
        if watch is not None:
            watch([process.pid for process in started])
        codes = [process.poll() for process in started]
        if any(codes):
            log = folder / f"rank-{next(rank for rank, code in enumerate(codes) if code)}.log"
            raise LaunchFailed(f"{what} failed: {_last_line(log)}", str(log))
        if all(code == 0 for code in codes):
            return
        time.sleep(POLL_SECONDS)
    raise LaunchFailed(f"{what} took more than {most_seconds:.0f} s", str(folder))


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "a process ended without a word"
