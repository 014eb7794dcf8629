"""Nodes that die, join and are drained while a run trains: it goes on at another size, and its loss does not notice."""

import json
import re
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ssrnn_dist.tracking.history import read_history
from ssrnn_dist.tracking.totals import read_ledger
from tests.helpers.clusters import many_nodes
from tests.helpers.launching import Running, tiny, write_config

pytestmark = pytest.mark.timeout(900)
SECONDS = 180.0
# Lanes: eight, which three workers don't divide. A step takes long enough for a few hundred of them to be made.
ENDLESS: dict[str, Any] = {
    "model": {"d_model": 48, "n_layers": 2},
    "train__steps": 100_000,
    "train__tokens_per_batch": 512,
    "train__sequence_length": 64,
    "train__log_every_steps": 1,
    "checkpoint__every_steps": 40,
}


def losses(folder: Path) -> dict[int, float]:
    return {row["step"]: row["train_loss"] for row in read_history(folder / "metrics.jsonl")}


def stopped_at(run: Running, folder: Path) -> int:
    """Ctrl-C; the step at which the run saved and ended."""
    run.signal_group(signal.SIGINT)
    assert run.process.wait(timeout=60) == 128 + signal.SIGINT, run.text()
    return int(json.loads((folder / "summary.json").read_text())["steps"])


def undisturbed(corpus: Path, tmp_path: Path, steps: int, start: Callable[..., Running]) -> dict[int, float]:
    """The losses of the same run with one worker and no event, until it has made as many steps."""
    (tmp_path / "alone").mkdir()
    run = start(
        "train", write_config(tmp_path / "alone", tiny(corpus, **ENDLESS, scale__workers=1)), cwd=tmp_path / "alone"
    )
    folder = tmp_path / "alone/runs/tiny"
    until = time.monotonic() + SECONDS
    while not (folder / "metrics.jsonl").is_file() or max(losses(folder), default=0) < steps:
        assert run.process.poll() is None, run.text()
        assert time.monotonic() < until, run.text()
        time.sleep(0.2)
    stopped_at(run, folder)
    return losses(folder)


def sizes(run: Running) -> list[int]:
    """How many workers each life of the run began with."""
    return [int(found) for found in re.findall(r"(?:started|resumed)  step .*  workers (\d)", run.text())]


def wait_for_size(run: Running, size: int) -> None:
    until = time.monotonic() + SECONDS
    while sizes(run)[-1] != size:
        assert run.process.poll() is None, run.text()
        assert time.monotonic() < until, run.text()
        time.sleep(0.1)


def scenario(corpus: Path, tmp_path: Path, start: Callable[..., Running], zero_stage: int) -> None:
    """2 → 1 (a node dies) → 3 (two join) → 2 (one is drained) workers; then the books and the losses."""
    elastic = {"scale__workers": [1, 3], "scale__resize_seconds": 2, "scale__zero_stage": zero_stage}
    config = write_config(tmp_path, tiny(corpus, **ENDLESS, **elastic))
    folder = tmp_path / "runs/tiny"
    with many_nodes(2, tmp_path) as cluster:
        words = ["train", config, "--set", f"cluster.address={cluster.address}"]
        run = start(*words, cwd=tmp_path, env=cluster.env)
        run.wait_for("checkpoint  step 40", SECONDS)
        assert "started  step 0  tokens 0  workers 2" in run.text()
        cluster.do("kill 0")
        run.wait_for("resumed", SECONDS)
        cluster.do("add")
        cluster.do("add")
        wait_for_size(run, 3)
        cluster.do("drain 3 600")
        run.wait_for("is drained", SECONDS)
        wait_for_size(run, 2)
        time.sleep(3)
        steps = stopped_at(run, folder)
    assert sizes(run) in ([2, 1, 3, 2], [2, 1, 2, 3, 2])
    books = read_ledger(folder / "ledger.jsonl")
    assert [life.why for life in books.lives] == ["started", "failure"] + ["resize"] * (len(sizes(run)) - 2)
    assert (books.restarts, books.resizes) == (1, len(sizes(run)) - 2)
    dead, *rest = books.lives
    assert dead.step - rest[0].steps[0] <= 40 + 5  # what the death lost: at most the steps since the last checkpoint
    for before, after in pairwise(rest):
        assert after.from_step == before.step  # what was planned lost none
    assert books.goodput == pytest.approx(books.distinct_steps / (books.distinct_steps + dead.step - rest[0].steps[0]))
    ours, theirs = losses(folder), undisturbed(corpus, tmp_path, steps, start)
    common = sorted(ours.keys() & theirs.keys())
    assert len(common) > 40
    assert [ours[step] for step in common] == pytest.approx([theirs[step] for step in common], rel=2e-4)


def test_the_loss_does_not_notice_nodes_that_die_join_and_are_drained(
    corpus: Path, tmp_path: Path, start: Callable[..., Running]
) -> None:
    scenario(corpus, tmp_path, start, zero_stage=3)


@pytest.mark.long
@pytest.mark.parametrize("zero_stage", [1, 2])
def test_at_any_stage(corpus: Path, tmp_path: Path, start: Callable[..., Running], zero_stage: int) -> None:
    scenario(corpus, tmp_path, start, zero_stage)


PRICES = """
date: 2026-11-01
source: made up
prices:
  - {labels: {number: head}, on_demand: 0.36, per: node}
  - {labels: {number: "0"}, on_demand: 3.6, per: node}
"""


@pytest.mark.long
@pytest.mark.parametrize("rented", ["workers", "cluster"])
def test_a_node_without_a_price_that_joins_under_a_budget(
    corpus: Path, tmp_path: Path, start: Callable[..., Running], rented: str
) -> None:
    """No worker goes there; where all of the cluster is paid for, the run ends, until the node has a price."""
    (tmp_path / "prices.yaml").write_text(PRICES)
    cost = {"price_file": str(tmp_path / "prices.yaml"), "budget_usd": 50.0, "rented": rented}
    values = tiny(corpus, **ENDLESS, scale__workers=[1, 2], scale__resize_seconds=1) | {"cost": cost}
    folder, config = tmp_path / "runs/tiny", write_config(tmp_path, values)
    with many_nodes(1, tmp_path) as cluster:
        words = ["train", config, "--set", f"cluster.address={cluster.address}"]
        run = start(*words, cwd=tmp_path, env=cluster.env)
        run.wait_for("checkpoint  step 40", SECONDS)
        cluster.do("add")
        if rented == "workers":
            time.sleep(8)  # several looks at the cluster, each of which could have resized
            stopped_at(run, folder)
        else:
            assert run.process.wait(60) == 128 + signal.SIGTERM, run.text()
            assert "node 127.0.1.2 has no price, so it could not hold" in run.text()
            summary = json.loads((folder / "summary.json").read_text())
            assert "a node without a price" in summary["stopped_why"]
            assert (folder / f"checkpoints/step-{summary['steps']:08d}").is_dir()
        assert sizes(run) == [1]
        assert read_ledger(folder / "ledger.jsonl").cost_usd is not None
        (tmp_path / "prices.yaml").write_text(PRICES + '  - {labels: {number: "1"}, on_demand: 1.8, per: node}\n')
        again = start(*words, cwd=tmp_path, env=cluster.env)
        again.wait_for("resumed", SECONDS)
        assert sizes(again) == [2]
        stopped_at(again, folder)
        assert read_ledger(folder / "ledger.jsonl").cost_usd is not None
