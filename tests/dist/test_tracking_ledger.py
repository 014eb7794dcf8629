"""The ledger's sums, its file under kill -9, and the history that goes on after a resume."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_dist.files import write_json_atomic, write_text_atomic
from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.tracking.history import History, read_history
from ssrnn_dist.tracking.jsonl import JsonLines, read_json_lines
from ssrnn_dist.tracking.ledger import Ledger, read_ledger, totals


class Clock:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def start(workers: int = 1, price: float | None = 1.0, from_step: int = 0) -> dict[str, Any]:
    return {"kind": "start", "workers": workers, "usd_per_worker_hour": price, "from_step": from_step}


def beat(seconds: float, step: int, tokens: int = 0) -> dict[str, Any]:
    return {"kind": "beat", "seconds": seconds, "step": step, "tokens": tokens}


def test_costs_add_up_over_restarts_at_each_segments_own_price(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.jsonl", Clock()
    first = Ledger(path, workers=2, usd_per_worker_hour=3.0, clock=clock)
    assert (first.restarts, first.cost(0).cost_usd, first.cost(0).usd_per_million_tokens) == (0, 0.0, None)
    clock.now += 1800
    first.beat(100, 1_000_000)
    clock.now += 60  # unbooked: the group is killed before its next beat
    second = Ledger(path, workers=1, usd_per_worker_hour=6.0, from_step=80, clock=clock)
    clock.now += 3600
    second.beat(200, 2_000_000)
    cost = second.cost(2_000_000)
    assert second.restarts == 1
    assert cost.worker_hours == pytest.approx(2.0)
    assert cost.cost_usd == pytest.approx(2 * 0.5 * 3.0 + 6.0)
    assert cost.usd_per_million_tokens == pytest.approx(4.5)
    books = read_ledger(path)
    assert books == second.totals()
    assert (books.restarts, books.restart_steps, books.tokens) == (1, (80,), 2_000_000)
    assert books.goodput == pytest.approx(200 / 220)


@pytest.mark.parametrize(
    ("entries", "cost"),
    [
        ([], None),
        ([start(price=None)], None),
        ([start(price=2.0)], 0.0),
        ([start(price=None), start(price=2.0), beat(3600, 1)], 2.0),
        ([start(price=None), beat(1, 1), start(price=2.0), beat(3600, 2)], None),
        ([start(price=0.0), beat(3600, 1)], 0.0),
        ([beat(5, 5)], None),
    ],
)
def test_a_cost_is_never_invented(entries: list[dict[str, Any]], cost: float | None) -> None:
    assert totals(entries).cost_usd == cost


segments = st.lists(
    st.tuples(
        st.integers(1, 64),
        st.floats(0, 100),
        st.integers(0, 50),
        st.lists(st.tuples(st.floats(0.01, 1e5), st.integers(1, 20)), max_size=4),
    ),
    min_size=1,
    max_size=5,
)


@given(segments)
def test_totals_are_what_a_hand_count_gives(lives: list[Any]) -> None:
    entries, hours, dollars, executed, seen = [], 0.0, 0.0, 0, set()
    for workers, price, from_step, beats in lives:
        entries.append(start(workers, price, from_step))
        seconds, step = 0.0, from_step
        for more_seconds, more_steps in beats:
            seconds, step = seconds + more_seconds, step + more_steps
            entries.append(beat(seconds, step, step * 10))
        hours += workers * seconds / 3600
        dollars += workers * seconds / 3600 * price
        executed += step - from_step
        seen |= set(range(from_step + 1, step + 1))
    books = totals(entries)
    assert books.worker_hours == pytest.approx(hours)
    assert books.cost_usd == pytest.approx(dollars)
    assert (books.executed_steps, books.distinct_steps) == (executed, len(seen))
    assert books.goodput == (len(seen) / executed if executed else None)
    assert books.restarts == len(lives) - 1


@given(segments)
def test_cost_and_hours_never_shrink(lives: list[Any]) -> None:
    entries = []
    reached = (0.0, 0.0)
    for workers, price, from_step, beats in lives:
        entries.append(start(workers, price, from_step))
        for seconds, step in beats:
            entries.append(beat(seconds, step))
            books = totals(entries)
            assert books.worker_hours >= reached[0] - 1e-9
            assert (books.cost_usd or 0) >= reached[1] - 1e-9
            reached = (books.worker_hours, books.cost_usd or 0)


WRITER = """
import sys, pathlib
from ssrnn_dist.tracking.ledger import Ledger
ledger = Ledger(pathlib.Path(sys.argv[1]), workers=2, usd_per_worker_hour=1.0, from_step=int(sys.argv[2]))
print("open", flush=True)
step = int(sys.argv[2])
while True:
    step += 1
    ledger.beat(step, step * 8192)
"""


def test_a_writer_killed_at_any_moment_loses_nothing_that_was_booked(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for life in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(life * 10)], stdout=subprocess.PIPE, cwd=Path.cwd()
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.15)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        whole = [line for line in path.read_text().split("\n") if line.endswith("}")]
        books = read_ledger(path)
        assert books.restarts == life
        assert books.segments[-1].step == json.loads(whole[-1])["step"] > life * 10
        with path.open("a") as file:
            file.write('{"kind": "beat", "seco')  # as a torn write leaves it
        assert read_ledger(path) == books
    again = Ledger(path, workers=1, usd_per_worker_hour=1.0, from_step=5)
    assert again.restarts == 3
    again.beat(6, 1)
    assert again.totals() == read_ledger(path)
    again.close()


def metrics_at(step: int, **changed: Any) -> StepMetrics:
    names = [name for name in StepMetrics.__dataclass_fields__ if not name.startswith("valid_")]
    return StepMetrics(**{**dict.fromkeys(names), "layer_residuals": (0.5, None), "step": step, **changed})


def test_rows_of_repeated_steps_give_way_to_the_later_ones(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_history(path) == []
    first = History(path, 0)
    for step in (10, 20, 30, 40):
        first.append(metrics_at(step, train_loss=1.0))
    second = History(path, 20)
    assert [row["step"] for row in read_history(path)] == [10, 20]
    second.append(metrics_at(30, train_loss=math.nan))
    with path.open("a") as file:
        file.write('{"step": 40, "train_lo')
    third = History(path, 30)
    third.append(metrics_at(45, train_loss=math.inf, valid_loss=2.0))
    third.close()
    rows = read_history(path)
    assert [row["step"] for row in rows] == [10, 20, 30, 45]
    assert math.isnan(rows[2]["train_loss"])
    assert (rows[3]["train_loss"], rows[3]["valid_loss"], rows[3]["layer_residuals"]) == (math.inf, 2.0, [0.5, None])
    assert rows[0]["time"] == pytest.approx(time.time(), abs=60)
    for line in path.read_text().split("\n"):
        assert "NaN" not in line or '"NaN"' in line, "strict JSON has no bare NaN"


def test_json_lines_skip_what_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'[1]\n{"a": 1}\n\x00\x00\xff\n3\n{"a"')
    lines = JsonLines(path)
    lines.append({"a": "ü\u2028\n"})
    lines.close()
    assert read_json_lines(path) == [{"a": 1}, {"a": "ü\u2028\n"}]


def test_atomic_writes_replace_whole_files_and_leave_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json_atomic(path, {"loss": math.nan, "deep": [{"x": math.inf, "y": 1.5}], "text": "日本"})
    assert json.loads(path.read_text()) == {"loss": None, "deep": [{"x": None, "y": 1.5}], "text": "日本"}
    with pytest.raises(TypeError):
        write_json_atomic(path, {"loss": object()})
    write_text_atomic(tmp_path / "text", "a\ud800b")
    assert (tmp_path / "text").read_text() == "a?b"
    with pytest.raises(OSError, match="Is a directory"):
        write_text_atomic(tmp_path, "a folder is no file")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["summary.json", "text"]
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}.*.tmp"))
