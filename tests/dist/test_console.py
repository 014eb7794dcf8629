"""The plain lines of a run: what is said, and what is left out where a terminal has no room for it."""

import os
import pty
import struct
from fcntl import ioctl
from termios import TIOCSWINSZ
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_dist.console import Lines, Part, fitted, progress_line
from ssrnn_dist.hooks import StepMetrics

FULL: dict[str, Any] = {
    "step": 120_000, "steps": 123_456, "tokens": 10, "train_loss": 2.5, "learning_rate": 1e-3, "gradient_norm": 1.0,
    "tokens_per_second": 1_234_567.8, "data_wait_fraction": 0.115, "seconds_left": 86_000.0, "feedback_residual": 0.2,
    "feedback_error_estimate": None, "layer_residuals": (0.2,), "layer_error_estimates": (None,), "layer_sweeps": (1,),
    "worker_hours": 0.1, "cost_usd": 12345.67, "usd_per_million_tokens": 1.0, "restarts": 0, "workers": 2,
    "forecast_usd_low": 23456.78, "forecast_usd_high": 34567.89, "probe_cosine": 0.9991, "probe_relative_error": 0.01,
    "valid_loss": 2.6, "valid_bits_per_byte": 1.25,
}  # fmt: skip
MOST = "step 120000/123456  loss 2.5000"


@pytest.mark.parametrize(
    ("columns", "kept", "dropped"),
    [
        (50, ("23h 53m left",), ("tokens/s", "$")),
        (70, ("23h 53m left", "$12,345.67"), ("tokens/s", "of $")),
        (80, ("tokens/s", "left", "$12,345.67"), ("of $", "valid")),
        (120, ("tokens/s", "left", "$12,345.67 of $23,456.78 to $34,567.89"), ("valid", "data wait", "cosine")),
        (None, ("valid 2.6000 nats", "data wait", "cosine", "residual"), ()),
    ],
)
def test_what_does_not_fit_goes_from_the_least_important_on(
    columns: int | None, kept: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    line = progress_line(StepMetrics(**FULL), columns)
    assert line.startswith(MOST)
    assert columns is None or len(line) <= columns
    assert [part for part in kept if part not in line] + [part for part in dropped if part in line] == []


@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=9), st.integers(0, 9)), min_size=1), st.integers(1, 60))
def test_no_line_is_wider_than_its_terminal_and_the_weightiest_part_stays(
    parts: list[tuple[str, int]], columns: int
) -> None:
    made = [Part(text, weight) for text, weight in parts]
    line = fitted(made, columns)
    assert 1 <= len(line) <= columns
    heaviest = max(weight for _, weight in parts)
    assert any(line.find(text[:columns]) >= 0 for text, weight in parts if weight == heaviest)
    assert fitted(made, None) == "  ".join(text for text, _ in parts)


def test_a_terminal_gets_what_fits_and_a_file_all_of_it() -> None:
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        Lines(terminal).metrics(StepMetrics(**FULL))
        shown = os.read(ours, 4096).decode().rstrip()
    os.close(ours)
    assert shown == progress_line(StepMetrics(**FULL), 80)
    assert len(shown) <= 80
