"""What happens to a run besides kills: notices, workers that are frozen or stall, and a failure that comes again."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launching import Running, ssrnn, still_alive, tiny, title, write_config

ENDLESS: dict[str, Any] = {"train__steps": 1_000_000, "train__log_every_steps": 50, "checkpoint__every_steps": 50}


def ends_resumable(run: Running, folder: Path, words: str) -> None:
    """The run says why, saves, and ends as after SIGTERM."""
    assert run.process.wait(timeout=60) == 128 + signal.SIGTERM, run.text()
    assert re.search(rf"notice at step [\d,]+: .*{words}; the run saves a checkpoint and ends", run.text()), run.text()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["stopped"]
    assert words in summary["stopped_why"]
    assert (folder / f"checkpoints/step-{summary['steps']:08d}/checkpoint.json").is_file()


def test_a_notice_saves_and_ends_and_a_frozen_worker_is_replaced(
    corpus: Path, tmp_path: Path, start: Callable[..., Running]
) -> None:
    notice = tmp_path / "this-node-goes"
    survives = {"scale__lost_seconds": 3, "cluster__notice": {"file": str(notice), "every_seconds": 0.5}}
    config = write_config(tmp_path, tiny(corpus, **ENDLESS, **survives))
    folder = tmp_path / "runs/tiny"
    run = start("train", config, cwd=tmp_path)
    run.wait_for("checkpoint")
    (frozen, *_) = workers = run.workers()
    frozen.suspend()  # its connections stand, and nobody else notices
    run.wait_for("it was not heard of for 3 s")
    run.wait_for("resumed")
    assert still_alive(workers, within_seconds=5) == []
    notice.write_text("the operator takes this node away\n")
    ends_resumable(run, folder, "the operator takes this node away")

    notice.unlink()
    again = start("train", config, cwd=tmp_path)
    again.wait_for("resumed")
    (board,) = (each for each in again.tree() if "Board." in title(each) or title(each) == "ray::Board")
    board.kill()
    again.wait_for("the process that workers report to ended")
    again.wait_for("resumed", times=2)
    again.workers()[0].send_signal(signal.SIGTERM)
    ends_resumable(again, folder, "SIGTERM")


@pytest.fixture
def corpus_with_a_hole(corpus: Path, tmp_path: Path) -> Path:
    """A corpus one of whose shards is a pipe that nobody writes to: whoever opens it waits."""
    folder = tmp_path / "hole"
    subprocess.run(["cp", "-r", corpus, folder], check=True)
    shard = max(folder.glob("*train*.tar"))
    shard.unlink()
    os.mkfifo(shard)
    return folder


def test_workers_that_stall_say_where(corpus_with_a_hole: Path, tmp_path: Path) -> None:
    changes = {"data__on_bad_sample": "skip", "scale__stall_seconds": 25, "scale__max_restarts": 0}
    config = write_config(tmp_path, tiny(corpus_with_a_hole, **ENDLESS, **changes))
    began = time.monotonic()
    ended = ssrnn("train", config, "--workers", 1, cwd=tmp_path)
    assert ended.returncode == 1
    assert time.monotonic() - began > 25
    assert re.search(r'worker 0 is at ".*ssrnn_data/.*", line \d+, in \w+', ended.stdout), ended.stdout
    assert ended.stderr.splitlines()[-1].startswith("error: no step for 25 s, and no restart is left (log: ")


@pytest.mark.long
def test_the_same_failure_at_the_same_step_ends_the_run_at_the_third_time(
    corpus_with_a_hole: Path, tmp_path: Path
) -> None:
    changes = {"data__on_bad_sample": "skip", "scale__stall_seconds": 15, "scale__max_restarts": 99}
    config = write_config(tmp_path, tiny(corpus_with_a_hole, **ENDLESS, **changes))
    ended = ssrnn("train", config, "--workers", 1, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stdout.count("the workers failed: no step for 15 s") == 3
    assert "the same failure 3 times at step 0: more of them would only cost money" in ended.stderr
