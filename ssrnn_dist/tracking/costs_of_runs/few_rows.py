"""What `ssrnn cost` needs of a run's ledger and history, which may have a million lines: read once, few lines parsed.

Imports the readers of their lines. Those that don't look as their writer writes them are parsed whole."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssrnn_dist.tracking.history import RESUMED_FROM
from ssrnn_dist.tracking.jsonl import parsed
from ssrnn_dist.tracking.phases import PHASES

SECONDS_A_DAY = 86_400
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[-+][0-9]+)?"
_PHASES = rf'\{{(?:"(?:{"|".join(PHASES)})": {_NUMBER}(?:, )?)*\}}'
_BEAT = re.compile(  # whole, as Ledger writes it
    (
        rf'\{{"kind": "beat", "life": ([0-9]+), "time": ([0-9]+)(?:\.[0-9]+)?, "step": [0-9]+, "tokens": [0-9]+, '
        rf'"booked": \{{(?:"[0-9]+": {_PHASES}(?:, )?)*\}}, "unoccupied": \{{(?:"[0-9]+": {_NUMBER}(?:, )?)*\}}, '
        rf'"joules": (?:null|{_NUMBER})\}}\n'
    ).encode()
)
_STEP = re.compile(rb'\{"step": (\d+), ')
TRAIN_LOSS, VALID_LOSS, COST, SOURCES = b'"train_loss": ', b'"valid_loss": ', b'"cost_usd": ', b'"sources": '


def few_ledger_rows(path: Path) -> list[dict[str, Any]]:
    """A ledger's rows, oldest first: of its beats the last one of each life on each day (UTC).

    A beat tells all of its life until then, so that these rows add up to the same as all of them, on each day, too.
    Rows of another shape are kept: lives.py leaves them out."""
    kept: dict[int, bytes] = {}
    last: dict[tuple[bytes, int], tuple[int, bytes]] = {}
    for number, line in enumerate(_lines(path)):
        beat = _BEAT.fullmatch(line)
        if beat is not None:
            last[beat[1], int(beat[2]) // SECONDS_A_DAY] = (number, line)
        else:
            kept[number] = line
    kept |= dict(last.values())
    rows = (_parsed(kept[number]) for number in sorted(kept))
    return [row for row in rows if row is not None]


@dataclass
class Curves:
    """A history's losses by step, of the rows that count, and the cost when a step was first reached.

    latest_*: (step, loss) of the furthest step, as it was logged last, NaN too: as MLflow has it."""

    train_losses: dict[int, float] = field(default_factory=dict)
    valid_losses: dict[int, float] = field(default_factory=dict)
    cost_usd: dict[int, float] = field(default_factory=dict)
    furthest: int = 0
    latest_train_loss: tuple[int, float] | None = None
    latest_valid_loss: tuple[int, float] | None = None

    def add(self, step: int, train_loss: float | None, valid_loss: float | None, cost_usd: float | None) -> None:
        """A later row of the same step replaces an earlier one, but for its cost."""
        self.furthest = max(self.furthest, step)
        for losses, loss in ((self.train_losses, train_loss), (self.valid_losses, valid_loss)):
            if loss is not None and math.isfinite(loss):
                losses[step] = loss
            elif step in losses:
                del losses[step]
        self.latest_train_loss = _later(self.latest_train_loss, step, train_loss)
        self.latest_valid_loss = _later(self.latest_valid_loss, step, valid_loss)
        if cost_usd is not None and math.isfinite(cost_usd):
            self.cost_usd.setdefault(step, cost_usd)

    def go_back(self, step: int) -> None:
        """A command went on from there: the losses beyond no longer count."""
        for beyond in range(step + 1, self.furthest + 1):
            self.train_losses.pop(beyond, None)
            self.valid_losses.pop(beyond, None)
        self.furthest = min(self.furthest, step)


def read_curves(path: Path) -> Curves:
    """The curves of a metrics.jsonl; empty ones where there is none."""
    curves = Curves()
    for line in _lines(path):
        found = _quickly(line)
        if found is not None:
            curves.add(*found)
        elif (row := _parsed(line)) is not None:
            if isinstance(resumed_from := row.get(RESUMED_FROM), int):
                curves.go_back(resumed_from)
            elif isinstance(step := row.get("step"), int):
                curves.add(step, *(_number(row, key) for key in ("train_loss", "valid_loss", "cost_usd")))
    return curves


def _lines(path: Path) -> Iterator[bytes]:
    """No file: no lines."""
    try:
        with path.open("rb") as file:
            yield from file
    except FileNotFoundError:
        return


def _is_whole(line: bytes) -> bool:
    """Not torn: all that was opened is closed."""
    return line.endswith(b"}\n") and line.count(b"{") == line.count(b"}")


def _quickly(line: bytes) -> tuple[int, float | None, float | None, float | None] | None:
    """Step, losses and cost of a row as History writes it; None: it must be parsed.

    A mixture's corpora have a valid_loss each, further on in the row than the run's own."""
    step = _STEP.match(line)
    if step is None or not _is_whole(line) or 0 <= line.find(SOURCES) < line.find(VALID_LOSS):
        return None
    try:
        return int(step[1]), _after(line, TRAIN_LOSS), _after(line, VALID_LOSS), _after(line, COST)
    except ValueError:  # not a plain number, such as "NaN"
        return None


def _after(line: bytes, key: bytes) -> float | None:
    """The number after a key; None: null, or no such key. ValueError: something else."""
    at = line.find(key)
    if at < 0:
        return None
    at += len(key)
    end = line.find(b",", at)
    text = line[at : end if end >= 0 else line.index(b"}", at)]
    return None if text == b"null" else float(text)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """As read_json_lines does it."""
    return parsed(line.decode("utf-8", errors="replace"))


def _number(row: Mapping[str, Any], key: str) -> float | None:
    """None where there is none; NaN is one."""
    value = row.get(key)
    return float(value) if isinstance(value, int | float) else None


def _later(known: tuple[int, float] | None, step: int, loss: float | None) -> tuple[int, float] | None:
    return known if loss is None or (known is not None and known[0] > step) else (step, loss)
