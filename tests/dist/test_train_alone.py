"""`python -m ssrnn_dist.train`: the loop with no Ray, its exit codes, Ctrl-C and kill -9."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from archives import tar_of
from damage import members_of, replace_shard
from worlds import ROOT, rank_environment, start_ranks

from ssrnn_dist.checkpoint.load_model import find_checkpoint
from ssrnn_dist.checkpoint.store import why_torn
from ssrnn_dist.storage.mirror import run_folder_at
from ssrnn_dist.tracking.jsonl import read_json_lines
from ssrnn_dist.tracking.totals import read_ledger
from ssrnn_dist.train import main


@pytest.fixture
def start() -> Iterator:
    """Starts the loop on a config; whatever still runs in the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def run(config: Path, *words: str) -> subprocess.Popen[str]:
        environment = {k: v for k, v in rank_environment(0, 1, 0).items() if k not in {"RANK", "WORLD_SIZE"}}
        command = [sys.executable, "-m", "ssrnn_dist.train", str(config), *words]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=-1, stderr=-2)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def wait_for(path: Path, process: subprocess.Popen[str], timeout: float = 120) -> None:
    end = time.monotonic() + timeout
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


def test_ctrl_c_saves_and_kill_leaves_whole_checkpoints_to_go_on_from(runs, start) -> None:
    config = runs.config("alone", steps=4000, log_every_steps=200)
    checkpoints = runs.folder("alone") / "checkpoints"
    first = start(config)
    wait_for(checkpoints / "step-00000004", first)
    first.send_signal(signal.SIGINT)
    output = first.communicate(timeout=60)[0]
    assert first.returncode == 0, output
    saved = max(checkpoints.glob("step-*"))
    assert why_torn(saved) is None

    second = start(config)
    step = int(saved.name.removeprefix("step-"))
    wait_for(checkpoints / f"step-{step // 4 * 4 + 8:08d}", second)
    second.kill()
    assert f"resumed  step {step}" in second.communicate()[0]
    whole = [folder for folder in checkpoints.glob("step-*") if why_torn(folder) is None]
    assert len(whole) >= 2
    third = start(config)
    wait_for(checkpoints / f"step-{step // 4 * 4 + 20:08d}", third)
    third.send_signal(signal.SIGTERM)
    assert "resumed" in third.communicate(timeout=60)[0]
    assert third.returncode == 0


def flip_a_bit(checkpoint: Path) -> None:
    file = next(checkpoint.glob("rank-*.safetensors"))
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_a_damaged_checkpoint_is_told_and_where_no_other_stands_the_run_asks(runs, start) -> None:
    config, checkpoints = runs.config("damaged"), runs.folder("damaged") / "checkpoints"
    assert start(config).wait(timeout=120) == 0
    flip_a_bit(checkpoints / "step-00000008")
    again = start(config)
    output = again.communicate(timeout=120)[0]
    told = (
        f"checkpoint {checkpoints}/step-00000008 is torn (rank-00000.safetensors has another checksum) and is skipped"
    )
    assert again.returncode == 0, output
    assert f"warning: {told}" in output
    assert "resumed  step 4" in output
    assert {"message": told} in [row["fields"] for row in read_json_lines(runs.folder("damaged") / "events.jsonl")]

    for folder in checkpoints.glob("step-*"):
        flip_a_bit(folder)
    names = sorted(checkpoints.iterdir())
    ranks = start_ranks(2, ROOT / "ssrnn_dist/train.py", str(config))
    outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 1], outputs
    (line,) = (line for line in outputs[0].splitlines() if line.startswith("error:"))
    assert line.startswith(f"error: {checkpoints}: no whole checkpoint among 2; of the newest: checkpoint ")
    assert "--fresh" in line
    assert sorted(checkpoints.iterdir()) == names


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--set", "train.stepz=3"], "error: train.stepz: unknown key; did you mean steps?"),
        (["--set", "data.index=/nowhere"], "error: /nowhere"),
        (["--set", "train.tokens_per_batch=12000000", "--set", "train.micro_batch_lanes=null"], "error: train split"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(runs, start, words: list[str], line: str) -> None:
    process = start(runs.config("wrong"), "--set", f"name=wrong{abs(hash(line)) % 999}", *words)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 2, output
    assert line in output
    assert "Traceback" not in output


def test_an_error_of_ours_shows_its_traceback_and_ends_with_1(monkeypatch, capsys) -> None:
    monkeypatch.setattr("ssrnn_dist.train.load_config", lambda path, overrides: 1 // 0)
    assert main(["a-config"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.fixture
def damaged(corpus: Path, tmp_path: Path) -> Path:
    """The corpus with a sample of another dtype in its first shard."""
    folder = tmp_path / "damaged"
    shutil.copytree(corpus, folder)
    members = members_of(folder)
    replace_shard(folder, tar_of([*members[:1], (members[1][0], b"x" * len(members[1][1])), *members[2:]]))
    return folder


@pytest.mark.long
def test_a_bad_sample_ends_a_run_or_is_skipped_and_written_down(runs, start, damaged: Path) -> None:
    key = members_of(damaged)[1][0].partition(".")[0]
    config, data = runs.config("bad", steps=200), ["--set", f"data.index={damaged}"]
    process = start(config, *data)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 2, output
    (line,) = (line for line in output.splitlines() if line.startswith("error:"))
    assert f"train-000000.tar, sample {key}" in line
    process = start(config, *data, "data.on_bad_sample=skip", "data.max_bad_fraction=0.1")
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert "1 bad sample skipped so far" in output
    (row,) = read_json_lines(runs.folder("bad") / "bad_samples.jsonl")
    assert (row["key"], row["rank"]) == (f"sample {key}", 0)
    assert row["shard"].endswith("train-000000.tar")


def test_a_budget_ends_the_run_with_a_checkpoint_before_it_is_passed(runs, start) -> None:
    config, folder = runs.config("thrifty", steps=1_000_000, log_every_steps=50), runs.folder("thrifty")
    prices = ["cost.usd_per_worker_hour=3000", "cost.budget_usd=50"]  # for a minute; 15 s are foreseen for a stop
    process = start(config, "--set", *prices, "checkpoint.every_steps=1")  # until the first checkpoint says better
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert re.search(r"warning: cost.budget_usd: \$4\d\.\d+ of \$50.00 are spent \(8\d%\)", output), output
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["stopped_why"] == "cost.budget_usd is used up"
    assert 40 < summary["cost_usd"] <= 50
    assert (folder / f"checkpoints/step-{summary['steps']:08d}/checkpoint.json").is_file()

    again = start(config, "--set", "cost.usd_per_worker_hour=3600", f"cost.budget_usd={summary['cost_usd'] - 1}")
    output = again.communicate(timeout=120)[0]
    assert again.returncode == 2, output
    assert "error: cost.budget_usd: " in output


def test_a_run_at_a_url_goes_on_elsewhere_and_is_read_from_there(runs, start, tmp_path: Path, monkeypatch) -> None:
    """Two machines with nothing in common but the store."""
    config, url = runs.config("wanders", steps=4000, log_every_steps=200), f"file://{tmp_path}/store"
    monkeypatch.setenv("SSRNN_RUNS", str(tmp_path / "first"))
    first = start(config, "--set", f"run_root={url}")
    wait_for(tmp_path / "store/wanders/checkpoints/step-00000008/checkpoint.json", first)
    first.send_signal(signal.SIGINT)
    output = first.communicate(timeout=60)[0]
    assert first.returncode == 0, output
    step = json.loads((tmp_path / "store/wanders/summary.json").read_text())["steps"]
    shutil.rmtree(tmp_path / "first")

    monkeypatch.setenv("SSRNN_RUNS", str(tmp_path / "second"))
    second = start(config, "--set", f"run_root={url}")
    wait_for(tmp_path / f"store/wanders/checkpoints/step-{step // 4 * 4 + 8:08d}/checkpoint.json", second)
    second.send_signal(signal.SIGINT)
    output = second.communicate(timeout=60)[0]
    assert f"resumed  step {step:,}  " in output, output

    monkeypatch.setenv("SSRNN_RUNS", str(tmp_path / "third"))
    books = read_ledger(run_folder_at(f"{url}/wanders") / "ledger.jsonl")
    assert [life.why for life in books.lives] == ["started", "resumed"]
    summary = json.loads((tmp_path / "store/wanders/summary.json").read_text())
    assert books.cost_usd == pytest.approx(summary["cost_usd"], rel=1e-6)
    assert find_checkpoint(f"{url}/wanders").about["step"] == books.lives[-1].step
