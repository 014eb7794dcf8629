"""What a job prints for programs: JSON text sequences (RFC 7464) between its plain lines, written and read here.

Imports the standard library and the hooks' metrics only."""

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TextIO

from ssrnn_dist.console import LINE_EVERY_SECONDS, event_line, progress_line
from ssrnn_dist.files import without_non_finite
from ssrnn_dist.hooks import StepMetrics

JOB_VARIABLE = "SSRNN_JOB"  # set in a submitted job's driver: its stdout is read by `ssrnn jobs`
SEPARATOR = "\x1e"
STANDING = ("tracking", "checkpoint")  # events that still say something long after: kept with each metrics record


@dataclass(frozen=True)
class Record:
    """kind: metrics, note, or an event's own.  standing: the newest event of each kind in STANDING."""

    kind: str
    fields: Mapping[str, Any]
    at_seconds: float = 0.0
    standing: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


Item = Record | str  # a plain line is a string


def encode(record: Record) -> str:
    """The record as a line of its own; NaN and infinities become null."""
    values: dict[str, Any] = {"kind": record.kind, "at_seconds": round(record.at_seconds, 3), "fields": record.fields}
    if record.standing:
        values["standing"] = record.standing
    text = json.dumps(without_non_finite(values), ensure_ascii=False, separators=(",", ":"), default=str)
    return f"{SEPARATOR}{text}\n"


def decode(line: str) -> Item:
    """A line without its end; what is no record of ours is a plain line."""
    if not line.startswith(SEPARATOR):
        return line
    try:
        values = json.loads(line[1:])
        standing = {kind: dict(of) for kind, of in values.get("standing", {}).items()}
        return Record(str(values["kind"]), dict(values["fields"]), float(values["at_seconds"]), standing)
    except (ValueError, KeyError, TypeError, AttributeError):
        return line[1:]


class Reader:
    """Turns a stream that comes in pieces into records and plain lines."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> list[Item]:
        *lines, self._rest = (self._rest + text).split("\n")
        return [item for line in lines for item in _split(line)]

    def end(self) -> list[Item]:
        """What is left of a stream that ended within a line."""
        rest, self._rest = self._rest, ""
        return _split(rest) if rest else []


def _split(line: str) -> list[Item]:
    """A record may follow text that had no end of its own."""
    plain, separator, record = line.rstrip("\r").partition(SEPARATOR)
    found: list[Item] = [plain] if plain or not separator else []
    return [*found, decode(separator + record)] if separator else found


def read(text: str) -> list[Item]:
    """All of a log, or of its tail."""
    reader = Reader()
    return [*reader.feed(text), *reader.end()]


class RecordWriter:
    """Writes records, metrics less and less often as a run grows old, so that months of log stay small."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._began, self._last = file, time.monotonic(), float("-inf")
        self._standing: dict[str, Mapping[str, Any]] = {}

    def metrics(self, metrics: StepMetrics) -> None:
        now = time.monotonic()
        rare = metrics.valid_loss is not None or metrics.probe_cosine is not None or metrics.step >= metrics.steps
        if rare or now - self._last >= seconds_between(now - self._began):
            self._last = now
            known = {name: value for name, value in metrics.as_dict().items() if value is not None}
            self.write("metrics", known, self._standing)

    def write(
        self, kind: str, of_record: Mapping[str, Any], standing: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        if kind in STANDING:
            self._standing[kind] = of_record
        self._file.write(encode(Record(kind, of_record, time.time(), standing or {})))
        self._file.flush()


def seconds_between(age_seconds: float) -> float:
    """Between two metrics records: half a second at first, a quarter of a minute from some hours on."""
    return min(max(age_seconds / 600, 0.5), 15.0)


def metrics_of(record: Record) -> StepMetrics | None:
    """The metrics of a record, by whatever version of this project it was written; None where it has none to show."""
    if record.kind != "metrics" or not all(isinstance(record.fields.get(key), int) for key in ("step", "steps")):
        return None
    values = {each.name: record.fields[each.name] for each in fields(StepMetrics) if each.name in record.fields}
    required = [each for each in fields(StepMetrics) if each.default is MISSING and each.default_factory is MISSING]
    for each in required:
        missing = None if each.type is not float else 0.0 if each.name == "seconds_left" else math.nan
        values[each.name] = missing if values.get(each.name) is None else values[each.name]
    return StepMetrics(**values)


class AsLines:
    """Records as the plain lines that `ssrnn train` would print, metrics some seconds apart by the run's clock."""

    def __init__(self, every_seconds: float = LINE_EVERY_SECONDS) -> None:
        self._every_seconds, self._last = every_seconds, float("-inf")

    def line(self, item: Item) -> str | None:
        """None: nothing to show for it."""
        if isinstance(item, str):
            return item
        if item.kind != "metrics":
            return told(item)
        metrics = metrics_of(item)
        if metrics is None:
            return None
        waited = item.at_seconds - self._last >= self._every_seconds
        if not waited and metrics.valid_loss is None and metrics.step < metrics.steps:
            return None
        self._last = item.at_seconds
        return progress_line(metrics)


def as_lines(text: str) -> list[str]:
    """A log, or a part of it, as people read it."""
    lines = AsLines()
    return [line for item in read(text) if (line := lines.line(item)) is not None]


def told(record: Record) -> str:
    """A note or an event in words."""
    if record.kind == "note":
        return str(record.fields.get("text", ""))
    try:
        return event_line(record.kind, dict(record.fields))
    except KeyError:
        return record.kind


def progress_of(items: Iterable[Item]) -> dict[str, Any]:
    """How far a run is, from the last records of its log; null where they do not say.

    updated_seconds: since 1970."""
    progress: dict[str, Any] = dict.fromkeys(PROGRESS_KEYS)
    for item in items:
        if isinstance(item, str):
            continue
        events = {**item.standing, **({item.kind: item.fields} if item.kind in STANDING else {})}
        if (metrics := metrics_of(item)) is not None:
            progress |= {key: getattr(metrics, source) for key, source in _FROM_METRICS.items()}
        if "tracking" in events:
            progress |= {"mlflow_run_id": events["tracking"].get("run_id"), "mlflow_url": events["tracking"].get("url")}
        if "checkpoint" in events:
            progress["saved_step"] = events["checkpoint"].get("step")
        progress["updated_seconds"] = item.at_seconds
    return progress


_FROM_METRICS = {
    "step": "step", "steps": "steps", "loss": "train_loss", "tokens_per_second": "tokens_per_second",
    "seconds_left": "seconds_left", "cost_usd": "cost_usd", "workers": "workers", "restarts": "restarts",
}  # fmt: skip
PROGRESS_KEYS = (*_FROM_METRICS, "saved_step", "mlflow_run_id", "mlflow_url", "updated_seconds")
