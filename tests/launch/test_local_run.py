"""`ssrnn train` on a Ray of its own: to the end, through the death of a worker, Ctrl-C, and the death of the driver."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ssrnn_dist.tracking.totals import read_ledger
from tests.helpers.hand_count import HandCount
from tests.helpers.launching import (
    REPOSITORY,
    Running,
    beyond_loopback,
    environment,
    only_json,
    ssrnn,
    still_alive,
    tiny,
    write_config,
)

ONE_RANK_FAILED = r"worker [01] failed: its process ended"
SUMMARY_KEYS = {
    *("run", "mlflow_run_id", "steps", "tokens", "train_loss", "valid_loss", "valid_perplexity", "valid_bits_per_byte"),
    *("tokens_per_second", "feedback_residual", "restarts", "worker_hours", "cost_usd", "usd_per_million_tokens"),
    *("energy_kwh", "goodput"),
}
ENDLESS = {"train__steps": 1_000_000, "train__log_every_steps": 5}


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder in which a run was trained to its end, and how the command ended."""
    folder = tmp_path_factory.mktemp("finished")
    values = tiny(corpus, tracking__report=True)
    return folder, ssrnn("train", write_config(folder, values), "--json", cwd=folder)


def test_a_run_trains_to_its_end(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, ended = finished
    assert ended.returncode == 0, ended.stderr
    summary = only_json(ended.stdout)
    assert summary.keys() >= SUMMARY_KEYS
    assert (summary["steps"], summary["workers"], summary["state"]) == (30, 2, "trained")
    assert summary["cost_usd"] > 0
    assert (folder / "runs/tiny/report.html").is_file()
    assert "step 30/30" in ended.stderr


def test_again_it_is_only_reported(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, first = finished
    began = time.monotonic()
    again = ssrnn("train", folder / "run.yaml", "--json", cwd=folder)
    assert only_json(again.stdout) == {**only_json(first.stdout), "state": "complete"}
    assert "starting Ray" not in again.stderr
    assert time.monotonic() - began < 20


def test_its_forward_is_solved_for_all_steps_at_once(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = finished
    (folder / "text.txt").write_text("To be, or not to be, that is the question. " * 30)
    asked = ("--length", 16, "--length", 100, "--tolerance", 1e-4, "--out", "parallel.json", "--json")
    ended = ssrnn("bench", "parallel", "runs/tiny", "text.txt", *asked, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    results = only_json(ended.stdout)
    assert json.loads((folder / "parallel.json").read_text()) == results
    assert {row["n_steps"] for row in results["rows"]} == {16, 100}
    assert all(row["converged"] and row["error"] < 1e-2 for row in results["rows"])
    short = ssrnn("bench", "parallel", "runs/tiny", "text.txt", "--length", 10_000, cwd=folder)
    assert short.returncode == 2
    assert re.fullmatch(r"error: text.txt: [\d,]+ tokens; 10,000 are wanted for the longest length\n", short.stderr)


def test_kill_sigterm_resume_and_a_killed_driver(corpus: Path, tmp_path: Path, start: Callable[..., Running]) -> None:
    config = write_config(tmp_path, tiny(corpus, **ENDLESS))
    run = start("train", config, cwd=tmp_path)
    by_hand = HandCount(run)
    run.wait_for("checkpoint")
    assert beyond_loopback({run.process.pid, *(each.pid for each in run.tree())}) == []

    run.workers()[1].kill()  # either rank: Ray starts them in any order
    run.wait_for("failed: its process ended")
    assert re.search(ONE_RANK_FAILED, run.text())
    run.wait_for("resumed")

    processes, began = run.tree(), time.monotonic()
    for each in (run.process, *run.tree()):  # as Slurm and systemd do it: Ray's own processes are not to hear it
        each.send_signal(signal.SIGTERM)
    assert run.process.wait(timeout=15) == 128 + signal.SIGTERM, run.text()
    assert time.monotonic() - began < 10
    assert still_alive(processes, within_seconds=1) == []
    summary = json.loads((tmp_path / "runs/tiny/summary.json").read_text())
    assert summary["stopped"]
    assert summary["worker_hours"] * 3600 == pytest.approx(by_hand.seconds(), rel=0.01)
    assert (tmp_path / f"runs/tiny/checkpoints/step-{summary['steps']:08d}").is_dir()
    assert "Traceback" not in run.text()

    way_on = tmp_path / "runs/tiny/config.yaml"
    assert f"go on with\n  ssrnn train {way_on}\n" in run.text()
    again = start("train", way_on, cwd=tmp_path)
    again_by_hand = HandCount(again)
    again.wait_for(f"resumed  step {summary['steps']:,}")
    processes = again.tree()
    again.process.kill()
    assert still_alive(processes, within_seconds=10) == []
    booked = read_ledger(tmp_path / "runs/tiny/ledger.jsonl").worker_hours * 3600
    hand = by_hand.seconds() + again_by_hand.seconds()
    assert booked == pytest.approx(hand, rel=0.01, abs=1.2)  # the last half second of two workers is in no row


def test_what_only_a_worker_finds_wrong_is_one_line_and_no_restart(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    shard = next((tmp_path / "corpus").glob("*train*.tar"))
    shard.write_bytes(b"\0" * shard.stat().st_size)
    ended = ssrnn("train", write_config(tmp_path, tiny(tmp_path / "corpus", scale__workers=1)), cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(f"error: {shard}")
    assert len(ended.stderr.splitlines()) == 1
    assert "failed" not in ended.stdout


def test_a_budget_that_starting_takes_ends_the_start(corpus: Path, tmp_path: Path) -> None:
    """There is nothing to save yet."""
    prices = {"cost__usd_per_worker_hour": 3600, "cost__budget_usd": 1}  # a second of two workers is past it
    ended = ssrnn("train", write_config(tmp_path, tiny(corpus, **prices)), cwd=tmp_path)
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert "cost.budget_usd is used up while no workers trained; a larger budget goes on" in ended.stderr
    assert "step 1/" not in ended.stdout


def test_a_call_after_the_end_starts_no_second_ray(tmp_path: Path) -> None:
    script = REPOSITORY / "tests/helpers/call_after_the_end.py"
    ended = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split("\n") == ["RaySystemError", "no Ray", ""]
    assert ended.stderr == ""


@pytest.mark.long
def test_a_second_ctrl_c_ends_at_once(corpus: Path, tmp_path: Path, start: Callable[..., Running]) -> None:
    run = start("train", write_config(tmp_path, tiny(corpus, **ENDLESS)), cwd=tmp_path)
    run.wait_for("tokens/s")
    run.workers()[0].suspend()  # it will save nothing
    processes, began = run.tree(), time.monotonic()
    run.signal_group(signal.SIGINT)
    time.sleep(0.3)
    run.signal_group(signal.SIGINT)
    assert run.process.wait(timeout=10) == 128 + signal.SIGINT
    assert time.monotonic() - began < 3
    assert "ended without a new checkpoint" in run.text()
    assert still_alive(processes, within_seconds=2) == []


@pytest.mark.long
def test_more_workers_than_cores(corpus: Path, tmp_path: Path) -> None:
    ended = ssrnn("train", write_config(tmp_path, tiny(corpus)), "--workers", 5, "--json", cwd=tmp_path, timeout=290)
    assert ended.returncode == 0, ended.stderr
    assert only_json(ended.stdout)["workers"] == 5


@pytest.mark.long
def test_quickstart_does_everything_once(corpus: Path, tmp_path: Path) -> None:
    changes = [f"data.index={corpus}", "data.build=null", "train.steps=4", "model.d_model=16"]
    words = ["quickstart", *(word for change in changes for word in ("--set", change))]
    ended = ssrnn(*words, cwd=tmp_path, timeout=290)
    assert ended.returncode == 0, ended.stderr
    for name in ("sample.txt", "report.html", "summary.json"):
        assert (tmp_path / "runs/quickstart" / name).is_file()
    assert "open MLflow with" in ended.stdout
    again = only_json(ssrnn(*words, "--json", cwd=tmp_path).stdout)
    assert (again["state"], again["steps"]) == ("complete", 4)
    assert [Path(picture).suffix for picture in again["pictures"]].count(".png") >= 5


@pytest.mark.long
def test_a_worker_that_dies_before_the_first_step_is_replaced(
    corpus: Path, tmp_path: Path, start: Callable[..., Running]
) -> None:
    run = start("train", write_config(tmp_path, tiny(corpus)), cwd=tmp_path)
    until = time.monotonic() + 60
    while len(run.workers()) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    run.workers()[1].kill()
    assert run.process.wait(timeout=120) == 0, run.text()
    assert re.search(ONE_RANK_FAILED, run.text())


@pytest.mark.long
def test_a_worker_that_always_dies_at_its_start_ends_the_run(
    corpus: Path, tmp_path: Path, start: Callable[..., Running]
) -> None:
    run = start("train", write_config(tmp_path, tiny(corpus, scale__max_restarts=1)), cwd=tmp_path)
    until = time.monotonic() + 120
    while run.process.poll() is None:
        assert time.monotonic() < until
        for worker in run.workers()[1:]:
            worker.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(timeout=0.05)
    assert run.process.returncode == 1, run.text()
    assert "no restart is left" in run.text().splitlines()[-1]
