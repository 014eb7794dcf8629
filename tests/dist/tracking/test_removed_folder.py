"""A run's folder that is removed while it trains: the run ends with a line, and what was saved is gone on with."""

import shutil
import subprocess
import sys
import time

import pytest
from worlds import ROOT, rank_environment

from ssrnn_dist.checkpoint.names import MANIFEST
from ssrnn_dist.tracking.totals import read_ledger


def command(config: object, *words: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in rank_environment(0, 1, 0).items() if key not in {"RANK", "WORLD_SIZE"}}
    line = [sys.executable, "-m", "ssrnn_dist.train", str(config), *words]
    return subprocess.Popen(
        line, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.mark.long
def test_a_run_whose_folder_is_removed_ends_with_a_line_and_its_checkpoints_stand(runs) -> None:
    config, folder = runs.config("removed", steps=100_000, log_every_steps=20), runs.folder("removed")
    run = command(config, "--set", "checkpoint.every_steps=50")
    try:
        until = time.monotonic() + 120
        while not (folder / "checkpoints/step-00000050" / MANIFEST).is_file():
            assert run.poll() is None, run.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.05)
        kept = folder.parent / "kept"
        shutil.copytree(folder / "checkpoints/step-00000050", kept)
        shutil.rmtree(folder, ignore_errors=True)
        output = run.communicate(timeout=60)[0]
    finally:
        run.kill()
        run.communicate()
    assert run.returncode == 1, output
    assert "Traceback" not in output
    removed = "removed or moved while the run trained; nothing can be booked any more"
    assert output.splitlines()[-1] == f"error: {folder}/ledger.jsonl: {removed}"
    assert not (folder / "cost.html").exists(), "what would stand there is no run"

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept, folder / "checkpoints/step-00000050")  # all that stands of it
    again = command(config, "--set", "train.steps=52")
    output = again.communicate(timeout=120)[0]
    assert again.returncode == 0, output
    assert "resumed  step 50" in output
    assert read_ledger(folder / "ledger.jsonl").lives[-1].steps == (50, 52)
