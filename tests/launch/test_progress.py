"""What is shown while a run goes on: a bar on a terminal, a plain line every few seconds elsewhere."""

import io
import json
import time
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ssrnn_dist.config import RunConfig
from ssrnn_dist.console import event_line, progress_line
from ssrnn_dist.hooks import StepMetrics
from ssrnn_launch import records
from ssrnn_launch.board import Board
from ssrnn_launch.progress import BarView, LineView, RecordView, bar_text, open_view, show_item
from ssrnn_launch.records import AsLines, Item, Record


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
    view = BarView(Console(file=file, force_terminal=True, width=160), steps=100)
    with view.live:
        view.metrics(metrics(10, valid_loss=1.0, valid_bits_per_byte=1.25, probe_cosine=0.75))
        view.metrics(metrics(20))
        view.event("checkpoint", {"step": 20})
    shown = file.getvalue()
    assert "20/100" in shown
    assert "valid 1.2500 bits/byte · cosine with BPTT 0.7500" in shown.rpartition("20/100")[2]
    assert "checkpoint  step 20" in shown


@pytest.mark.parametrize("columns", [80, 100, 120, 200])
def test_the_bar_is_two_lines_at_any_width(columns: int) -> None:
    """With money, its forecast, a validation and a probe; a third line would stay behind at each redraw."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=columns)
    view = BarView(console, steps=100)
    known = metrics(20, cost_usd=1234.5, forecast_usd_low=2345.6, forecast_usd_high=3456.7)
    view.metrics(replace(known, valid_loss=1.0, valid_bits_per_byte=1.25, probe_cosine=0.75))
    drawn = console.render_lines(view._draw(), pad=False)
    texts = ["".join(segment.text for segment in line).rstrip() for line in drawn]
    assert len(texts) == 2
    assert all(len(text) <= columns for text in texts)
    assert ("cosine" in texts[1]) == (columns == 200)
    for part in ("loss 2.5000", "2m 05s left", "$1,234.50"):
        assert part in texts[1]


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
    news = board.take()
    assert (news.posts, news.failure) == ([("checkpoint", {"step": 1})], (True, ["a: b; c"]))
    assert board.take().posts == []


def written(*calls: tuple[str, object]) -> str:
    file = io.StringIO()
    view = RecordView(file)
    for kind, value in calls:
        if kind == "metrics":
            assert isinstance(value, StepMetrics)
            view.metrics(value)
        elif kind == "note":
            view.note(str(value))
        else:
            assert isinstance(value, dict)
            view.event(kind, value)
    return file.getvalue()


def shown_as_lines(items: list[Item]) -> list[str]:
    lines = AsLines()
    return [line for item in items if (line := lines.line(item)) is not None]


def test_a_job_prints_one_record_a_line_which_are_read_back_as_they_were() -> None:
    text = written(
        ("note", "starting"), ("checkpoint", {"step": 4}), ("metrics", metrics(5, sources={"a": {"x": 1.0}}))
    )
    lines = text.removesuffix("\n").split("\n")
    assert [line[0] for line in lines] == ["\x1e"] * 3
    assert [json.loads(line[1:])["kind"] for line in lines] == ["note", "checkpoint", "metrics"]
    note, checkpoint, last = records.read(text)
    assert isinstance(note, Record)
    assert isinstance(checkpoint, Record)
    assert isinstance(last, Record)
    assert (note.fields["text"], checkpoint.fields["step"]) == ("starting", 4)
    again = records.metrics_of(last)
    assert again is not None
    assert json.loads(json.dumps(again.as_dict())) == json.loads(
        json.dumps(metrics(5, sources={"a": {"x": 1.0}}).as_dict())
    )
    assert shown_as_lines([note, checkpoint, last]) == ["starting", "checkpoint  step 4", progress_line(metrics(5))]


@given(data=st.data())
def test_a_stream_in_pieces_is_read_as_the_whole(data: st.DataObject) -> None:
    plain = st.text(st.characters(exclude_characters="\x1e\r\n", exclude_categories=["Cs"]), max_size=9)
    record = st.builds(lambda text: records.encode(Record("note", {"text": text}, 1.5)), st.text(max_size=9))
    text = "".join(data.draw(st.lists(st.one_of(plain.map(lambda line: line + "\n"), record, plain), max_size=8)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    reader, items = records.Reader(), []
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        items += reader.feed(text[begin:end])
    assert [*items, *reader.end()] == records.read(text)


def test_a_record_after_an_unfinished_line_and_a_broken_record_lose_nothing() -> None:
    good = records.encode(Record("note", {"text": "good"}))
    items = records.read(f"half a line{good}\x1e{{broken\n{good[:-3]}\nend")
    assert shown_as_lines(items) == ["half a line", "good", "{broken", good[1:-3], "end"]


@pytest.mark.parametrize(
    "line", ["\x1e[1]", '\x1e{"kind":"metrics","fields":3,"at_seconds":1}', "\x1e", "\x1e{}", "\x1enull"]
)
def test_no_line_breaks_the_reader(line: str) -> None:
    assert shown_as_lines(records.read(line + "\n")) == [line[1:]]


def test_numbers_that_json_has_not_are_read_as_not_a_number() -> None:
    text = written(("metrics", metrics(100, train_loss=float("nan"), seconds_left=float("inf"))))
    assert "NaN" not in text
    assert "Infinity" not in text
    (record,) = records.read(text)
    assert isinstance(record, Record)
    again = records.metrics_of(record)
    assert again is not None
    assert again.train_loss != again.train_loss
    assert "loss nan" in shown_as_lines([record])[0]


def test_records_of_another_version_are_shown_as_far_as_they_are_known() -> None:
    (record,) = records.read(written(("metrics", metrics(5))))
    assert isinstance(record, Record)
    newer = replace(record, fields={**record.fields, "of_tomorrow": 1})
    assert records.metrics_of(newer) == records.metrics_of(record)
    older = replace(record, fields={key: value for key, value in record.fields.items() if key != "step"})
    assert records.metrics_of(older) is None
    assert shown_as_lines([older, Record("worker_failed", {}), Record("note", {})]) == ["worker_failed", ""]


def test_metrics_become_rarer_with_the_runs_age_but_validations_and_the_end_are_always_there() -> None:
    assert [records.seconds_between(age) for age in (0, 300, 3000, 1e6)] == [0.5, 0.5, 5.0, 15.0]
    text = written(*(("metrics", metrics(step)) for step in range(1, 50)), ("metrics", metrics(60, valid_loss=1.0)),
                   ("metrics", metrics(61)), ("metrics", metrics(100)))  # fmt: skip
    steps = [item.fields["step"] for item in records.read(text) if isinstance(item, Record)]
    assert steps[0] == 1
    assert steps[-2:] == [60, 100]
    assert len(steps) < 10


def test_lines_of_a_log_are_seconds_apart_by_the_runs_own_clock() -> None:
    items: list[Item] = [Record("metrics", metrics(step).as_dict(), at_seconds=step) for step in range(1, 13)]
    assert [line.split()[1] for line in shown_as_lines(items)] == ["1/100", "6/100", "11/100"]


def test_the_tail_of_a_log_tells_how_far_a_run_is_and_where_mlflow_has_it() -> None:
    text = written(
        ("tracking", {"run_id": "abc", "url": "http://m/1"}), ("checkpoint", {"step": 4}), ("metrics", metrics(5))
    )
    tail = text.split("\n")[-2]
    told = records.progress_of(records.read(f"noise\n{tail}\n"))
    expected = {"step": 5, "steps": 100, "loss": 2.5, "cost_usd": 0.25, "workers": 2, "saved_step": 4}
    assert told | expected | {"mlflow_run_id": "abc", "mlflow_url": "http://m/1"} == told
    later = records.progress_of(records.read(text + written(("checkpoint", {"step": 9}))))
    assert (later["step"], later["saved_step"]) == (5, 9)
    assert set(records.progress_of(["nothing"]).values()) == {None}


def test_a_followed_job_draws_the_bar_of_a_local_run_and_counts_its_time() -> None:
    file = io.StringIO()
    view = BarView(Console(file=file, force_terminal=True, width=120), steps=None)
    view.began(time.time() - 3725)
    with view.live:
        for item in records.read("code from /here\n" + written(("note", "hello"), ("metrics", metrics(20)))):
            show_item(item, view)
    shown = file.getvalue()
    for words in ("code from /here", "hello", "20/100", "12,346 tokens/s", "1:02:0"):
        assert words in shown
    assert "\x1e" not in shown


def test_under_a_job_the_driver_prints_records(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(records.JOB_VARIABLE, "1")
    with open_view(cast(RunConfig, None)) as view:
        view.note("hello")
    assert json.loads(capsys.readouterr().out[1:])["fields"] == {"text": "hello"}
