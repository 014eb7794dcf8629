"""Progress in plain lines, for a log file or a pipe, and the numbers of a summary as people read them.

Imports the standard library only; the bar of a terminal is ssrnn_launch's."""

import time
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
    return "no price" if cost_usd is None else f"${cost_usd:.4f}" if cost_usd < 1 else f"${cost_usd:,.2f}"


def cost_text(metrics: StepMetrics) -> str:
    """What was spent, and between what the whole run will cost nine times of ten."""
    spent = dollars(metrics.cost_usd)
    if metrics.forecast_usd_low is None or metrics.forecast_usd_high is None:
        return spent
    return f"{spent} of {dollars(metrics.forecast_usd_low)} to {dollars(metrics.forecast_usd_high)}"


def progress_line(metrics: StepMetrics) -> str:
    """One line that says where a run is."""
    parts = [
        f"step {metrics.step}/{metrics.steps}",
        f"loss {metrics.train_loss:.4f}",
        f"{metrics.tokens_per_second:,.0f} tokens/s",
        f"data wait {metrics.data_wait_fraction:.1%}",
        f"{duration(metrics.seconds_left)} left",
        cost_text(metrics),
    ]
    if metrics.feedback_residual is not None:
        parts.insert(2, f"residual {metrics.feedback_residual:.3f}")
    if metrics.probe_cosine is not None:
        parts.append(f"cosine with BPTT {metrics.probe_cosine:.4f}, error {metrics.probe_relative_error:.1%}")
    if metrics.valid_bits_per_byte is not None:
        parts.append(f"valid {metrics.valid_loss:.4f} nats, {metrics.valid_bits_per_byte:.4f} bits/byte")
    return "  ".join(parts)


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
        self.note(progress_line(metrics))

    def note(self, text: str) -> None:
        print(text, file=self._file, flush=True)
