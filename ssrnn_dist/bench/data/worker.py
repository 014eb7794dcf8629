"""A fresh process of a benchmark: `python -m ssrnn_dist.bench.data.worker TASK ARGUMENTS`, asked and answering in JSON.

Imports the standard library; a task imports its own needs before it says that it is ready."""

import json
import os
import sys
from importlib import import_module
from typing import IO, Any


def main() -> None:
    """A line of JSON for every line of JSON: {"ask": name, ...arguments}, until there are no more."""
    answers = _stdout_aside()
    task = import_module(f"ssrnn_dist.bench.data.tasks.{sys.argv[1]}")
    asks = task.prepare(**json.loads(sys.argv[2]))
    _answer(answers, {"ready": True})
    for line in sys.stdin:
        wanted: dict[str, Any] = json.loads(line)
        _answer(answers, asks[wanted.pop("ask")](**wanted))


def _stdout_aside() -> IO[str]:
    """The real stdout; what libraries print goes to stderr."""
    real = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return real


def _answer(answers: IO[str], values: dict[str, Any]) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
