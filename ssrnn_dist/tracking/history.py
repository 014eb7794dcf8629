"""Every logged step of a run, in an append-only file that a resumed run goes on with: runs/<name>/metrics.jsonl.

Imports hooks only; rows of steps that were repeated after a resume give way to the later ones."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.tracking.jsonl import JsonLines, parsed, read_json_lines

HISTORY = "metrics.jsonl"
RESUMED_FROM = "resumed_from"
TAIL_BYTES = 65_536


class History:
    """metrics.jsonl, open for one life of the run."""

    def __init__(self, path: Path, from_step: int) -> None:
        """from_step: optimizer steps that stand; rows beyond it, of an earlier life, no longer count.

        Raises OSError where the file cannot be written."""
        self._lines = JsonLines(path)
        self._lines.append({RESUMED_FROM: from_step})

    def append(self, metrics: StepMetrics) -> float:
        """Write one row: the fields of StepMetrics, and `time` in Unix seconds, which is returned.

        Raises OSError on a full disk."""
        now = round(time.time(), 3)
        self._lines.append({**metrics.as_dict(), "time": now})
        return now

    def close(self) -> None:
        self._lines.close()


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows that count, by ascending step; a torn line is left out, a missing file has no rows."""
    return rows_that_count(read_json_lines(path))


def last_step(path: Path) -> int:
    """The step of the newest whole row, 0 where there is none; of a long file only the end is read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").split("\n")
    except OSError:
        return 0
    for line in reversed(lines):
        step = (parsed(line) or {}).get("step")
        if isinstance(step, int):
            return step
    return 0


def rows_that_count(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of a history's lines, oldest first, the last row of each step that no resume has discarded."""
    rows: dict[int, dict[str, Any]] = {}
    for line in lines:
        resumed_from = line.get(RESUMED_FROM)
        if resumed_from is not None:
            rows = {step: row for step, row in rows.items() if step <= resumed_from}
        elif isinstance(line.get("step"), int):
            rows[line["step"]] = dict(line)
    return [rows[step] for step in sorted(rows)]
