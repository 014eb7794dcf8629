"""The report of runs in every state: whole, under way, diverged, without price, with nothing at all."""

import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ssrnn_dist.config import check_config, to_yaml
from ssrnn_dist.files import write_json_atomic, write_text_atomic
from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.tracking.history import History
from ssrnn_dist.tracking.ledger import Ledger
from ssrnn_dist.tracking.report import build_report, drawing, numbers
from ssrnn_dist.tracking.report.source import Series, printable, read_run

SAMPLE = "def f(x):\n    return x < 3 & '<script>alert(1)</script>' # Ünïcödé 日本語 🙂\x00\x1b[31m"


def make_run(
    folder: Path,
    steps: int,
    *,
    price: float | None = 0.5,
    layers: int = 2,
    change: Callable[[int, dict[str, Any]], None] = lambda step, row: None,
    summary: dict[str, Any] | None = None,
    **sections: Any,
) -> Path:
    config = check_config({"name": "a-run", "run_root": str(folder), "data": {"index": "corpus"}, **sections})
    run = config.folder
    run.mkdir(parents=True)
    write_text_atomic(run / "config.yaml", to_yaml(config))
    now = [0.0]
    ledger = Ledger(run / "ledger.jsonl", workers=2, usd_per_worker_hour=price, clock=lambda: now[0])
    history = History(run / "metrics.jsonl", 0)
    for step in range(1, steps + 1):
        now[0] += 10.0
        ledger.beat(step, step * 100)
        row = row_at(step, ledger, layers)
        change(step, row)
        history.append(StepMetrics(**row))
    if summary is not None:
        write_json_atomic(run / "summary.json", {"steps": steps, "restarts": 0, "goodput": 1.0, **summary})
    return run


def row_at(step: int, ledger: Ledger, layers: int) -> dict[str, Any]:
    cost = ledger.cost(step * 100)
    return {
        "step": step,
        "steps": 100,
        "tokens": step * 100,
        "train_loss": 8 / step + 2,
        "learning_rate": 1e-3,
        "gradient_norm": 1.0,
        "tokens_per_second": 10.0,
        "data_wait_fraction": 0.0,
        "seconds_left": 1.0,
        "feedback_residual": 0.1 if layers else None,
        "feedback_error_estimate": None,
        "layer_residuals": tuple(0.1 * (each + 1) for each in range(layers)),
        "layer_error_estimates": tuple(None if step % 2 else 0.0 for _ in range(layers)),
        "layer_sweeps": (1,) * layers,
        "worker_hours": cost.worker_hours,
        "cost_usd": cost.cost_usd,
        "usd_per_million_tokens": cost.usd_per_million_tokens,
        "restarts": 0,
        "workers": 2,
        "valid_loss": 3.0 if step % 5 == 0 else None,
        "valid_perplexity": 20.0 if step % 5 == 0 else None,
        "valid_bits_per_byte": 1.5 if step % 5 == 0 else None,
    }


class Page(HTMLParser):
    """Which addresses a page refers to, and the text that it shows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "data", "srcset")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] != "style":
            self.text += data + "\n"


def page_of(run: Path) -> Page:
    paths = build_report(run)
    assert paths.html == run / "report.html"
    assert len(paths.pngs) == 6
    for png in paths.pngs:
        assert png.parent == run / "pictures"
        assert png.read_bytes().startswith(b"\x89PNG")
    assert not [each for each in run.rglob("*") if each.name.endswith(".tmp")]
    page = Page(paths.html)
    assert len(page.addresses) == 6
    assert all(each.startswith("data:image/svg+xml;base64,") for each in page.addresses), "one self-contained file"
    assert "script" not in page.tags
    assert not re.search(r"https?://", paths.html.read_text())
    return page


def test_a_whole_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, 20, summary={"valid_bits_per_byte": 1.4321, "mlflow_run_id": "abc", "cost_usd": 12.5})
    (run / "sample.txt").write_text(SAMPLE)
    page = page_of(run)
    for text in ("1.432", "$12.50", "finished, step 20 of 100", "learning_rate: 0.003", "MLflow run abc", "2 workers"):
        assert text in page.text
    assert "'<script>alert(1)</script>' # Ünïcödé 日本語 🙂\ufffd\ufffd[31m" in page.text


def test_a_run_under_way_with_one_row_and_no_validation(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, 1))
    assert "under way, step 1 of 100" in page.text
    assert "$0.0028" in page.text


def test_a_run_without_a_price(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, 10, price=None))
    assert "no price given" in page.text
    assert "$" not in page.text


def test_exact_feedback_has_no_residual(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, 10, layers=0, feedback={"kind": "exact"}))
    assert "exact feedback" in page.text


@pytest.mark.parametrize("first_bad_step", [1, 5])
def test_a_run_that_diverged(tmp_path: Path, first_bad_step: int) -> None:
    def diverge(step: int, row: dict[str, Any]) -> None:
        if step >= first_bad_step:
            row |= {"train_loss": math.nan, "gradient_norm": math.inf, "layer_residuals": (math.nan, 0.0)}

    page_of(make_run(tmp_path, 10, change=diverge, summary={"stopped": True, "valid_perplexity": math.inf}))


def test_many_layers_many_steps_and_restarts(tmp_path: Path) -> None:
    run = make_run(tmp_path, 1500, layers=24)
    history = History(run / "metrics.jsonl", 1400)
    ledger = Ledger(run / "ledger.jsonl", workers=1, usd_per_worker_hour=1.0, from_step=1400)
    ledger.beat(1410, 141_000)
    history.append(StepMetrics(**row_at(1410, ledger, 24)))
    page = page_of(run)
    assert "100 steps repeated" not in page.text
    assert "10 steps repeated" in page.text
    assert (run / "report.html").stat().st_size < 3_000_000


def test_a_folder_with_nothing_in_it_or_with_torn_files(tmp_path: Path) -> None:
    assert "No config.yaml" in page_of(tmp_path).text
    for name in ("config.yaml", "summary.json", "ledger.jsonl", "metrics.jsonl", "sample.txt"):
        (tmp_path / name).write_bytes(b"{\xff\x00[: ")
    page_of(tmp_path)


def test_passwords_stay_out_of_the_report(tmp_path: Path) -> None:
    run = make_run(tmp_path, 1, tracking={"uri": "postgresql://me:secret@host/db"})
    build_report(run)
    assert "secret" not in (run / "report.html").read_text()


def test_series_keep_what_was_measured(tmp_path: Path) -> None:
    source = read_run(make_run(tmp_path, 10))
    assert source.series("valid_loss").steps == [5.0, 10.0]
    assert [each.values[-1] for each in source.layers("layer_residuals")] == pytest.approx([0.1, 0.2])
    assert not source.series("no such thing")
    assert source.headline("valid_bits_per_byte") == 1.5


def test_thinning_keeps_means_and_ends() -> None:
    long = Series([float(each) for each in range(10_000)], [1.0, 3.0] * 5000)
    steps, values = drawing.thinned(long)
    assert len(values) <= drawing.MOST_POINTS
    assert sum(values) / len(values) == pytest.approx(2.0, abs=0.1)
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "$0.00"), (0.00004567, "$0.000046"), (0.0123, "$0.012"), (1.234, "$1.23"), (12345.6, "$12,346")],
)
def test_dollars_have_the_digits_that_matter(value: float, text: str) -> None:
    assert numbers.dollars(value) == text


def test_labels_are_pushed_apart() -> None:
    assert drawing.spread([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.5, 0.6, 0.7])
    assert drawing.spread([0.99, 1.0], 0.1) == pytest.approx([0.9, 1.0])
    assert printable("a\r\nb\x07") == "a\nb\ufffd"
    assert numbers.count(1_234) == "1,234"
    assert numbers.count(45_600) == "45.6k"
    assert numbers.count(2_500_000_000) == "2.5B"
