"""Starts fresh processes for a benchmark's tasks and asks them, several at once where they are ranks of one world.

Imports the standard library. Nothing outlives who started it."""

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ssrnn_dist.problems import RunFailed

ROOT = Path(__file__).resolve().parents[3]
MOST_SECONDS = 180.0  # of one answer: far more than any takes
_GOODBYE_SECONDS = 5.0


class Fresh:
    """One process of worker.py. RunFailed where it fails, or answers later than in most_seconds."""

    def __init__(
        self,
        python: str,
        task: str,
        arguments: Mapping[str, Any],
        environment: Mapping[str, str],
        most_seconds: float = MOST_SECONDS,
    ) -> None:
        self._name, self._most_seconds = task, most_seconds
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed with the process)
        command = [python, "-m", f"{__package__}.worker", task, json.dumps(arguments)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONPATH": _path(), **environment},
            start_new_session=True,  # so that its loader processes end with it
        )

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    def ask(self, name: str, **arguments: Any) -> None:
        """Ask without waiting: answer() has what comes."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # answer() then tells why
            self._process.stdin.write(json.dumps({"ask": name, **arguments}) + "\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The next answer; the first is of a process that is ready."""
        assert self._process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            self._kill()

        timer = threading.Timer(self._most_seconds, end)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if line:
            values: dict[str, Any] = json.loads(line)
            return values
        why = f"no answer in {self._most_seconds:g} s" if late.is_set() else self._last_error()
        raise RunFailed(f"{self._name}, in a process of its own: {why}")

    def close(self) -> None:
        """Let it end, or end it, with all that it started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill()
            self._process.wait()
            self._process.stdout.close()
            self._errors.close()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # the whole group: also what a loader left
            os.killpg(self._process.pid, signal.SIGKILL)

    def _last_error(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GOODBYE_SECONDS)
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        return lines[-1] if lines else f"it ended with exit code {self._process.returncode}"


def _path() -> str:
    """This package's home first: a peer's own Python need not have it installed."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


@contextmanager
def started(
    python: str, task: str, arguments: list[dict[str, Any]], environments: list[dict[str, str]] | None = None
) -> Iterator[list[Fresh]]:
    """A process for each of the arguments, all of them ready; they end with the block."""
    processes: list[Fresh] = []
    try:
        for place, each in enumerate(arguments):
            processes.append(Fresh(python, task, each, environments[place] if environments else {}))
        for process in processes:
            process.answer()
        yield processes
    finally:
        for process in processes:
            process.close()


def asked(processes: list[Fresh], name: str, **arguments: Any) -> list[dict[str, Any]]:
    """Ask all of them at once; their answers."""
    for process in processes:
        process.ask(name, **arguments)
    return [process.answer() for process in processes]


def once(
    python: str, task: str, arguments: dict[str, Any], environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """What a process of its own answers to "run"."""
    with started(python, task, [arguments], [environment or {}]) as processes:
        return asked(processes, "run")[0]
