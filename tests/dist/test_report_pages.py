"""The report of runs in every state: whole, under way, diverged, without price, with nothing at all."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from costed_runs import PlannedLife, make_run

from ssrnn_dist.tracking.report import (
    OverviewKeeper,
    ReportPaths,
    build_overview,
    build_report,
    labels,
    numbers,
    thinning,
)
from ssrnn_dist.tracking.report import keeper as keeper_module
from ssrnn_dist.tracking.report.source import Series, printable, read_run

SAMPLE = "def f(x):\n    return x < 3 & '<script>alert(1)</script>' # Ünïcödé 日本語 🙂\x00\x1b[31m"


class Cell:
    def __init__(self) -> None:
        self.text = ""


class Page(HTMLParser):
    """Which addresses a page refers to, the text that it shows, and its tables' rows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.rows: list[list[Cell]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(Cell())
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "data", "srcset")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] != "style":
            self.text += data + "\n"
        if self.tags and self.tags[-1] in ("td", "th"):
            self.rows[-1][-1].text += data.strip()


def page_of(run: Path) -> Page:
    paths = build_report(run)
    assert paths.html == run / "report.html"
    assert len(paths.pngs) == 6
    assert {png.parent for png in paths.pngs} == {run / "pictures"}
    return checked(run, paths)


def cost_page_of(run: Path) -> Page:
    paths = build_overview(run)
    assert paths.html == run / "cost.html"
    assert [png.relative_to(run).as_posix() for png in paths.pngs][:2] == ["cost.png", "pictures/cost_phases.png"]
    return checked(run, paths)


def checked(run: Path, paths: ReportPaths) -> Page:
    for png in paths.pngs:
        assert png.read_bytes().startswith(b"\x89PNG")
    assert not [each for each in run.rglob("*") if each.name.endswith(".tmp")]
    page = Page(paths.html)
    pictures = [each for each in page.addresses if each not in ("cost.html", "report.html")]
    assert len(pictures) == 6
    assert all(each.startswith("data:image/svg+xml;base64,") for each in pictures), "one self-contained file"
    assert "script" not in page.tags
    assert not re.search(r"https?://", paths.html.read_text())
    return page


def test_a_whole_run(tmp_path: Path) -> None:
    run = make_run(
        tmp_path,
        [PlannedLife(0, 20)],
        summary={"valid_bits_per_byte": 1.4321, "mlflow_run_id": "abc", "cost_usd": 12.5},
    )
    (run / "sample.txt").write_text(SAMPLE)
    page = page_of(run)
    for text in ("1.432", "$12.50", "finished, step 20 of 100", "learning_rate: 0.003", "MLflow run abc", "2 workers"):
        assert text in page.text
    assert "'<script>alert(1)</script>' # Ünïcödé 日本語 🙂\ufffd\ufffd[31m" in page.text


def test_a_run_under_way_with_one_row_and_no_validation(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, [PlannedLife(0, 1)]))
    assert "under way, step 1 of 100" in page.text
    assert "$0.0083" in page.text


def test_a_run_without_a_price(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, [PlannedLife(0, 10)], usd_per_worker_hour=None))
    assert "no price given" in page.text
    assert "$" not in page.text


def test_exact_feedback_has_no_residual(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, [PlannedLife(0, 10)], layers=0, feedback={"kind": "exact"}))
    assert "exact feedback" in page.text


@pytest.mark.parametrize("first_bad_step", [1, 5])
def test_a_run_that_diverged(tmp_path: Path, first_bad_step: int) -> None:
    def diverge(step: int, row: dict[str, Any]) -> None:
        if step >= first_bad_step:
            row |= {"train_loss": math.nan, "gradient_norm": math.inf, "layer_residuals": (math.nan, 0.0)}

    page_of(
        make_run(
            tmp_path, [PlannedLife(0, 10)], change=diverge, summary={"stopped": True, "valid_perplexity": math.inf}
        )
    )


def test_many_layers_many_steps_and_restarts(tmp_path: Path) -> None:
    run = make_run(tmp_path, [PlannedLife(0, 1500), PlannedLife(1400, 1410)], layers=24)
    page = page_of(run)
    assert "100 steps repeated" not in page.text
    assert "10 steps repeated" in page.text
    assert (run / "report.html").stat().st_size < 3_000_000


def test_a_folder_with_nothing_in_it_or_with_torn_files(tmp_path: Path) -> None:
    assert "No config.yaml" in page_of(tmp_path).text
    for name in ("config.yaml", "summary.json", "ledger.jsonl", "metrics.jsonl", "sample.txt"):
        (tmp_path / name).write_bytes(b"{\xff\x00[: ")
    page_of(tmp_path)


def test_passwords_stay_out_of_the_pages(tmp_path: Path) -> None:
    run = make_run(tmp_path, [PlannedLife(0, 1)], tracking={"uri": "postgresql://me:geheim@host/db"})
    build_report(run)
    build_overview(run)
    assert "geheim" not in (run / "report.html").read_text() + (run / "cost.html").read_text()


def test_what_each_start_has_cost(tmp_path: Path) -> None:
    """Three lives of 2, 2 and 3 workers at 36 dollars an hour, a cent a second; by hand."""
    lives = [
        PlannedLife(0, 10, "started"),
        PlannedLife(6, 10, "failure", start_up_seconds=30, phases={"checkpointing": 8}, idle_places=1),
        PlannedLife(10, 12, "resize", workers=3),
    ]
    run = make_run(tmp_path, lives, usd_per_worker_hour=36.0, cost={"usd_per_worker_hour": 36.0, "budget_usd": 20})
    page = cost_page_of(run)
    rows = [[cell.text for cell in row] for row in page.rows]
    assert rows[1][0] == "0 started"
    assert rows[1][2:] == ["2", "0 – 10", "0.0667 h", "$2.40", "$0.40", "$0.00", "$2.00"]
    assert rows[2][0] == "1 failure"
    assert rows[2][2:] == ["2", "6 – 10", "0.0433 h", "$2.34", "$0.60", "$0.80", "$0.94"]
    assert rows[3][2:] == ["3", "10 – 12", "0.0333 h", "$1.20", "$0.60", "$0.00", "$0.60"]
    assert rows[5] == ["worker", "$36.00 an hour", "0.143 h", "0.0217 h", "$5.94"]
    for text in ("$5.94", "29.7% of the budget of $20.00", "1 restart, 1 resize", "$1.40", "75%"):
        assert text in page.text


@pytest.mark.parametrize("price", [None, 0.5])
def test_what_it_cost_where_little_is_known(tmp_path: Path, price: float | None) -> None:
    page = cost_page_of(make_run(tmp_path, [PlannedLife(0, 1)], usd_per_worker_hour=price))
    assert ("no price given" in page.text) == (price is None)
    assert ("$" in page.text) == (price is not None)
    assert "nothing foreseen yet" in page.text


def test_the_costs_of_nothing_and_of_torn_files(tmp_path: Path) -> None:
    assert "no price given" in cost_page_of(tmp_path).text
    for name in ("config.yaml", "summary.json", "ledger.jsonl", "metrics.jsonl"):
        (tmp_path / name).write_bytes(b"{\xff\x00[: ")
    cost_page_of(tmp_path)


def test_many_starts_and_two_commands(tmp_path: Path) -> None:
    lives = [PlannedLife(step, step + 2, "resumed" if step % 10 == 0 else "failure") for step in range(80)]
    page = cost_page_of(make_run(tmp_path, lives))
    assert "The newest 60 of 80." in page.text
    assert (tmp_path / "a-run" / "cost.html").stat().st_size < 500_000


def test_the_overview_of_a_living_run_is_drawn_now_and_then(tmp_path: Path) -> None:
    run, now = make_run(tmp_path, [PlannedLife(0, 3)]), [0.0]
    sent: list[str] = []
    warned: list[str] = []
    keeper = OverviewKeeper(run, lambda path: sent.append(path.name), warned.append, clock=lambda: now[0])
    keeper.tick()
    assert keeper._drawing is None
    now[0] = keeper_module.FIRST_SECONDS
    keeper.tick()
    assert keeper._drawing is not None
    keeper._drawing.result(60)
    keeper.tick()
    assert sent == ["cost.html", "cost.png"]
    now[0] += keeper_module.EVERY_SECONDS - 1
    keeper.tick()
    assert keeper._drawing is None
    keeper.finish()
    assert sent == ["cost.html", "cost.png"] * 2
    (run / "cost.html").unlink()
    (run / "cost.html").mkdir()
    keeper.finish()
    keeper.finish()
    assert len(warned) == 1
    assert sent == ["cost.html", "cost.png"] * 2


def test_the_pages_name_each_other(tmp_path: Path) -> None:
    run = make_run(tmp_path, [PlannedLife(0, 3)])
    assert "cost.html" not in page_of(run).addresses
    assert "report.html" in cost_page_of(run).addresses
    assert "cost.html" in page_of(run).addresses


def test_series_keep_what_was_measured(tmp_path: Path) -> None:
    source = read_run(make_run(tmp_path, [PlannedLife(0, 10)]))
    assert source.series("valid_loss").steps == [5.0, 10.0]
    assert [each.values[-1] for each in source.layers("layer_residuals")] == pytest.approx([0.1, 0.2])
    assert not source.series("no such thing")
    assert source.headline("valid_bits_per_byte") == 1.5


def test_thinning_keeps_means_and_ends() -> None:
    long = Series([float(each) for each in range(10_000)], [1.0, 3.0] * 5000)
    steps, values = thinning.thinned(long)
    assert len(values) <= thinning.MOST_POINTS
    assert sum(values) / len(values) == pytest.approx(2.0, abs=0.1)
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "$0.00"), (0.00004567, "$0.000046"), (0.0123, "$0.012"), (1.234, "$1.23"), (12345.6, "$12,346")],
)
def test_dollars_have_the_digits_that_matter(value: float, text: str) -> None:
    assert numbers.dollars(value) == text


def test_labels_are_pushed_apart() -> None:
    assert labels.spread([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.5, 0.6, 0.7])
    assert labels.spread([0.99, 1.0], 0.1) == pytest.approx([0.9, 1.0])
    assert printable("a\r\nb\x07") == "a\nb\ufffd"
    assert numbers.count(1_234) == "1,234"
    assert numbers.count(45_600) == "45.6k"
    assert numbers.count(2_500_000_000) == "2.5B"
