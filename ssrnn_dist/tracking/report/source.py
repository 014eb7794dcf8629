"""What a report is made of: everything that stands in a run's folder, read once; what is absent is left empty.

Imports the tracking readers and yaml; writes nothing."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ssrnn_dist.tracking.facts import without_password
from ssrnn_dist.tracking.history import HISTORY, read_history
from ssrnn_dist.tracking.ledger import LEDGER
from ssrnn_dist.tracking.totals import Totals, read_ledger

LONGEST_SAMPLE = 20_000  # characters


@dataclass(frozen=True)
class Series:
    """A measured quantity over optimizer steps; only what was measured, NaN where it was no number."""

    steps: list[float]
    values: list[float]

    def __bool__(self) -> bool:
        return any(math.isfinite(value) for value in self.values)

    @property
    def end(self) -> float | None:
        """The last value, NaN where it was no number; None for an empty series."""
        return self.values[-1] if self.values else None

    @property
    def last(self) -> float | None:
        """The last value that is a number."""
        return next((value for value in reversed(self.values) if math.isfinite(value)), None)


@dataclass(frozen=True)
class RunSource:
    """A run's folder as the report sees it."""

    name: str
    config: dict[str, Any]
    config_text: str
    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    books: Totals
    sample: str

    @property
    def last_row(self) -> dict[str, Any]:
        return self.rows[-1] if self.rows else {}

    def headline(self, key: str) -> Any:
        """The summary's value, else the last one that was logged; None where there is none."""
        if self.summary.get(key) is not None:
            return self.summary[key]
        return next((row[key] for row in reversed(self.rows) if row.get(key) is not None), None)

    def series(self, key: str) -> Series:
        return self._series({row["step"]: row.get(key) for row in self.rows})

    def layers(self, key: str) -> list[Series]:
        """One series a layer of a per-layer key (layer_residuals, layer_error_estimates)."""
        count = max((len(row.get(key) or ()) for row in self.rows), default=0)
        return [
            self._series({row["step"]: (row.get(key) or [None] * count)[layer] for row in self.rows})
            for layer in range(count)
        ]

    def by_source(self, key: str) -> dict[str, Series]:
        """One series a corpus, by its name (epochs, valid_loss)."""
        names = dict.fromkeys(name for row in self.rows for name in row.get("sources") or ())
        return {
            name: self._series({row["step"]: (row.get("sources") or {}).get(name, {}).get(key) for row in self.rows})
            for name in names
        }

    @staticmethod
    def _series(values: Mapping[int, Any]) -> Series:
        measured = {step: value for step, value in values.items() if isinstance(value, int | float)}
        return Series([float(step) for step in measured], [float(value) for value in measured.values()])


def read_run(folder: Path) -> RunSource:
    """Read a run's folder, whatever stands in it already."""
    config_text = without_password(_text(folder / "config.yaml"))
    config = _mapping(config_text)
    return RunSource(
        name=str(config.get("name") or folder.resolve().name),
        config=config,
        config_text=config_text,
        rows=read_history(folder / HISTORY),
        summary=_summary(folder / "summary.json"),
        books=read_ledger(folder / LEDGER),
        sample=printable(_text(folder / "sample.txt"))[:LONGEST_SAMPLE].strip("\n"),
    )


def printable(text: str) -> str:
    """Control characters, which HTML cannot hold, as U+FFFD; line ends and tabs stay."""
    text = text.replace("\r\n", "\n")
    return "".join(
        sign if sign in "\n\t" or (sign >= " " and not "\x7f" <= sign <= "\x9f") else "\ufffd" for sign in text
    )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _mapping(text: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}


def _summary(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(_text(path))
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
