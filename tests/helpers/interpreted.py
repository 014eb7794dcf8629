"""pytest in Triton's interpreter: in a process of its own, since the variable counts only before triton is imported."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worlds import ROOT


@contextmanager
def interpreted_tests(path: Path, which: str, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """The file's tests that pytest's -k and options choose, running; whatever is left of them is killed in the end."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", which, *options, str(path)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def assert_passed(process: "subprocess.Popen[str]", seconds: float = 600) -> None:
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, output
    assert "skipped" not in output, output
