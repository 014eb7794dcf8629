"""What is shown while a run goes on: a bar on a terminal, a plain line every few seconds elsewhere."""

import io

from rich.console import Console

from ssrnn_dist.console import event_line
from ssrnn_dist.hooks import StepMetrics
from ssrnn_launch.board import Board, News
from ssrnn_launch.progress import BarView, LineView, bar_text


def metrics(step: int, **changes: object) -> StepMetrics:
    values = {
        "step": step, "steps": 100, "tokens": step * 10, "train_loss": 2.5, "learning_rate": 1e-3, "gradient_norm": 1.0,
        "tokens_per_second": 12345.6, "data_wait_fraction": 0.015, "seconds_left": 125.0, "feedback_residual": 0.2,
        "feedback_error_estimate": None, "layer_residuals": (0.2,), "layer_error_estimates": (None,),
        "layer_sweeps": (1,),
        "worker_hours": 0.1, "cost_usd": 0.25, "usd_per_million_tokens": 1.0, "restarts": 0, "workers": 2,
    }  # fmt: skip
    return StepMetrics(**{**values, **changes})  # type: ignore[arg-type]


def test_the_bar_has_all_that_is_asked_for() -> None:
    text = bar_text(metrics(5), valid_bits_per_byte=1.5, probe_cosine=0.99912)
    assert text == (
        "loss 2.5000 · valid 1.5000 bits/byte · cosine with BPTT 0.9991"
        " · 12,346 tokens/s · data wait 1.5% · 2m 05s left · $0.2500"
    )
    assert "valid" not in bar_text(metrics(5), None, None)
    assert "no price" in bar_text(metrics(5, cost_usd=None), None, None)


def test_the_bar_draws_on_a_terminal_and_keeps_the_last_validation() -> None:
    file = io.StringIO()
    view = BarView(Console(file=file, force_terminal=True, width=120), steps=100)
    with view.live:
        view.metrics(metrics(10, valid_loss=1.0, valid_bits_per_byte=1.25, probe_cosine=0.75))
        view.metrics(metrics(20))
        view.event("checkpoint", {"step": 20})
    shown = file.getvalue()
    assert "20/100" in shown
    assert "valid 1.2500 bits/byte · cosine with BPTT 0.7500" in shown.rpartition("20/100")[2]
    assert "checkpoint  step 20" in shown


def test_plain_lines_come_every_few_seconds_and_for_each_validation_and_the_last_step() -> None:
    file = io.StringIO()
    view = LineView(file, every_seconds=1000)
    for step in (1, 2, 3):
        view.metrics(metrics(step))
    view.metrics(metrics(4, valid_loss=1.0, valid_perplexity=2.7, valid_bits_per_byte=1.25))
    view.metrics(metrics(100))
    lines = file.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 1/100", "step 4/100", "step 100/100"]
    assert "1.2500 bits/byte" in lines[1]


def test_events_are_lines() -> None:
    assert event_line("resumed", {"step": 1200, "workers": 2}) == "resumed  step 1,200  workers 2"
    assert event_line("warning", {"message": "no price"}) == "warning: no price"
    assert event_line("worker_failed", {"rank": 3, "error": "gone"}) == "worker 3 failed: gone"


def test_the_board_keeps_posts_until_they_are_taken() -> None:
    board = Board()
    board.post("checkpoint", {"step": 1})
    board.fail(True, ["a: b; c"])
    board.fail(False, ["later"])
    assert board.take() == News([("checkpoint", {"step": 1})], None, (True, ["a: b; c"]))
    assert board.take().posts == []
    assert not board.stop_requested()
    board.request_stop()
    assert board.stop_requested()
