"""A run's cost from few of its lines is the cost from all of them, whatever was torn, repeated or written by others."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssrnn_dist.tracking.costs_of_runs.few_rows import few_ledger_rows, read_curves
from ssrnn_dist.tracking.costs_of_runs.from_folder import growth
from ssrnn_dist.tracking.costs_of_runs.run_cost import Spent
from ssrnn_dist.tracking.costs_of_runs.tables import daily
from ssrnn_dist.tracking.history import read_history
from ssrnn_dist.tracking.jsonl import JsonLines, read_json_lines
from ssrnn_dist.tracking.lives import lives_of
from ssrnn_dist.tracking.totals import totals_of

LOSS = st.one_of(st.none(), st.floats(0.1, 9.0), st.sampled_from([math.nan, math.inf]))
STEP = st.integers(0, 12)


@st.composite
def history_row(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.integers(0, 4)) == 0:
        return {"resumed_from": draw(STEP)}
    row = {"step": draw(STEP), "tokens": 7, "train_loss": draw(LOSS), "valid_loss": draw(LOSS)}
    sources = draw(st.sampled_from([None, {}, {"a}": {"valid_loss": 1.5}}, {"valid_loss": {"cost_usd": 2.0}}]))
    if sources is not None:
        row["sources"] = sources
    row["cost_usd"] = draw(st.one_of(st.none(), st.floats(0.0, 9.0)))
    return row if draw(st.booleans()) else dict(reversed(row.items()))  # as another program would have written it


@given(rows=st.lists(history_row(), max_size=30), torn=st.lists(st.integers(0, 29)), cut=st.integers(1, 40))
@settings(deadline=None)
def test_curves_are_those_of_the_whole_history(rows: list[dict[str, Any]], torn: list[int], cut: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        written = JsonLines(path)
        for row in rows:
            written.append(row)
        written.close()
        lines = path.read_text().splitlines()
        path.write_text("".join(f"{line[:-cut] if at in torn else line}\n" for at, line in enumerate(lines)))
        found, counting = read_curves(path), read_history(path)
        for key, losses in (("train_loss", found.train_losses), ("valid_loss", found.valid_losses)):
            assert losses == {r["step"]: r[key] for r in counting if r.get(key) is not None and math.isfinite(r[key])}
        first: dict[int, float] = {}
        for row in read_json_lines(path):
            if "step" in row and row.get("cost_usd") is not None:
                first.setdefault(row["step"], row["cost_usd"])
        assert found.cost_usd == first


def write_ledger(
    path: Path,
    beats_of_lives: list[int],
    torn: set[int],
    unpriced: int | None,
    every_seconds: float,
    odd: Mapping[int, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Lives of so many beats at two rates; torn: beats, by their number, of which the end is missing.

    odd: what others have in place of theirs."""
    ledger, number, time = JsonLines(path), 0, 0.0
    for rate in (0, 1):
        usd = None if rate == unpriced else 1.5 + rate
        ledger.append({"kind": "rate", "rate": rate, "name": f"worker {rate}", "usd_per_hour": usd, "time": time})
    ledger.close()
    for life, beats in enumerate(beats_of_lives):
        rows: list[dict[str, Any]] = [{"kind": "life", "life": life, "why": "failure", "time": time}]
        rows += [{"kind": "begin", "life": life, "workers": 2, "from_step": 10 * life, "tokens": 100 * life}]
        for beat in range(beats):
            time += every_seconds
            booked = {str(life % 2): {"training": 30.5 * beat, "idle": 0.25 * beat}} if beat else {}
            told = {"step": 10 * life + beat, "tokens": 100 * life + beat, "booked": booked}
            row = {"kind": "beat", "life": life, "time": time, **told}
            rows.append({**row, "unoccupied": {"1": 1.5 * beat}, "joules": 3.0 * beat})
        with path.open("a") as file:
            for row in rows:
                text = json.dumps({**row, **odd.get(number, {})} if row["kind"] == "beat" else row)
                file.write((text[:-25] if row["kind"] == "beat" and number in torn else text) + "\n")
                number += row["kind"] == "beat"


@given(
    beats=st.lists(st.integers(0, 9), max_size=6),
    torn=st.sets(st.integers(0, 30)),
    unpriced=st.sampled_from([None, 0, 1]),
    every_seconds=st.sampled_from([30.0, 9_000.0, 50_000.0, 200_000.0]),
    odd=st.dictionaries(
        st.integers(0, 30),
        st.sampled_from(
            [{"step": "a"}, {"booked": {"0": {"lunch": 1.0}}}, {"booked": {"0": 3}}, {"joules": "x"}, {"time": None}]
        ),
        max_size=4,
    ),
)
@settings(deadline=None)
def test_few_rows_of_a_ledger_add_up_to_the_same_on_each_day(
    beats: list[int], torn: set[int], unpriced: int | None, every_seconds: float, odd: dict[int, dict[str, Any]]
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        write_ledger(path, beats, torn, unpriced, every_seconds, odd)
        rows, few = read_json_lines(path), few_ledger_rows(path)
        assert totals_of(lives_of(few)) == totals_of(lives_of(rows))
        every = [until(rows, at) for at, row in enumerate(rows) if row["kind"] == "beat" and counts(row)]
        assert daily(growth(few)) == [
            (day, pytest.approx(hours), None if usd is None else pytest.approx(usd)) for day, hours, usd in daily(every)
        ]


def counts(row: dict[str, Any]) -> bool:
    return bool(lives_of([row]))


def until(rows: list[dict[str, Any]], at: int) -> Spent:
    """All that was spent when a row was written."""
    totals = totals_of(lives_of([row for row in rows if row["kind"] == "rate"] + rows[: at + 1]))
    return Spent(rows[at]["time"], totals.worker_hours, totals.cost_usd)


def test_of_many_beats_few_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    write_ledger(path, [9_000, 1, 4_000], {8_999, 13_000}, None, 30.0)  # the last beats of two lives are torn
    rows, few = read_json_lines(path), few_ledger_rows(path)
    assert totals_of(lives_of(few)) == totals_of(lives_of(rows))
    assert sum(row["kind"] == "beat" for row in few) <= 13_000 * 30 / 86_400 + 1 + 3


def test_a_run_that_has_written_nothing(tmp_path: Path) -> None:
    assert few_ledger_rows(tmp_path / "no") == []
    assert read_curves(tmp_path / "no").train_losses == {}
