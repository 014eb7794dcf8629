"""Progress in plain lines, for a log file or a pipe, and the numbers of a summary as people read them.

Imports the standard library only; the bar of a terminal is ssrnn_launch's."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from ssrnn_dist.hooks import StepMetrics

LINE_EVERY_SECONDS = 5.0


def duration(seconds: float) -> str:
    """45s, 3m 20s, 2h 05m, 3d 4h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def dollars(cost_usd: float | None) -> str:
    """$0.0123; 'no price' where none was given."""
    if cost_usd is None:
        return "no price"
    if 0 < cost_usd < 0.00005:
        return f"${cost_usd:.1g}"
    return f"${cost_usd:.4f}" if cost_usd < 1 else f"${cost_usd:,.2f}"


def cost_text(metrics: StepMetrics) -> str:
    """What was spent, and between what the whole run will cost nine times of ten."""
    spent = dollars(metrics.cost_usd)
    if metrics.forecast_usd_low is None or metrics.forecast_usd_high is None:
        return spent
    return f"{spent} of {dollars(metrics.forecast_usd_low)} to {dollars(metrics.forecast_usd_high)}"


@dataclass(frozen=True)
class Part:
    """A part of a progress line. weight: the lightest goes first where there is no room.  short: what stays of it."""

    text: str
    weight: int
    short: "Part | None" = None


def fitted(parts: Sequence[Part], columns: int | None, between: str = "  ") -> str:
    """The parts in one line of at most so many columns (None: of any length), the lightest of them left out."""
    left = list(parts)
    while columns is not None and len(left) > 1 and len(_joined(left, between)) > columns:
        at = min(range(len(left)), key=lambda each: left[each].weight)
        short = left[at].short
        left[at : at + 1] = [] if short is None else [short]
    return _joined(left, between)[:columns]


def _joined(parts: Sequence[Part], between: str) -> str:
    return between.join(part.text for part in parts)


def main_parts(metrics: StepMetrics) -> list[Part]:
    """What a bar and a plain line both say: loss, speed, data wait, time left, money."""
    return [
        Part(f"loss {metrics.train_loss:.4f}", 9),
        Part(f"{metrics.tokens_per_second:,.0f} tokens/s", 6),
        Part(f"data wait {metrics.data_wait_fraction:.1%}", 3),
        Part(f"{duration(metrics.seconds_left)} left", 8),
        Part(cost_text(metrics), 5, Part(dollars(metrics.cost_usd), 7)),
    ]


def progress_line(metrics: StepMetrics, columns: int | None = None) -> str:
    """One line that says where a run is. columns: of the terminal that it is for; None: it may be of any length."""
    parts = [Part(f"step {metrics.step}/{metrics.steps}", 10), *main_parts(metrics)]
    if metrics.feedback_residual is not None:
        parts.insert(2, Part(f"residual {metrics.feedback_residual:.3f}", 2))
    if metrics.probe_cosine is not None:
        cosine = f"cosine with BPTT {metrics.probe_cosine:.4f}, error {metrics.probe_relative_error:.1%}"
        parts.append(Part(cosine, 1))
    if metrics.valid_bits_per_byte is not None:
        parts.append(Part(f"valid {metrics.valid_loss:.4f} nats, {metrics.valid_bits_per_byte:.4f} bits/byte", 4))
    return fitted(parts, columns)


def columns_of(file: TextIO) -> int | None:
    """The width of the terminal that a file is; None where it is none, or does not say."""
    try:
        return (os.get_terminal_size(file.fileno()).columns or None) if file.isatty() else None
    except (OSError, ValueError):
        return None


def event_line(kind: str, fields: dict[str, Any]) -> str:
    """One line for what happened to a run besides its steps."""
    if kind == "worker_failed":
        who = "the workers" if fields["rank"] is None else f"worker {fields['rank']}"
        return f"{who} failed: {fields['error']}"
    if kind == "notice":
        return f"notice at step {fields['step']:,}: {fields['why']}; the run saves a checkpoint and ends"
    if kind == "resize":
        return f"resize at step {fields['step']:,}: {fields['why']}"
    if kind == "stalled":
        return f"worker {fields['rank']} is at {fields['at']}"
    if kind == "warning":
        return f"warning: {fields['message']}"
    told = "  ".join(
        f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in fields.items()
    )
    return f"{kind}  {told}" if told else kind


class Lines:
    """News in plain lines: every validation and the last step, other steps not more often than every few seconds."""

    def __init__(self, file: TextIO, every_seconds: float = LINE_EVERY_SECONDS) -> None:
        self._file, self._every_seconds = file, every_seconds
        self._last = float("-inf")

    def metrics(self, metrics: StepMetrics) -> None:
        now = time.monotonic()
        if metrics.valid_loss is None and metrics.step < metrics.steps and now - self._last < self._every_seconds:
            return
        self._last = now
        self.note(progress_line(metrics, columns_of(self._file)))

    def note(self, text: str) -> None:
        print(text, file=self._file, flush=True)
