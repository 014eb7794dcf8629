"""`submit` and `jobs` against a real Ray head on loopback, its token on."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssrnn_launch.guard import marked_processes
from tests.helpers.launching import Head, Running, beyond_loopback, only_json, ssrnn, tiny, write_config

JOB_SECONDS = 200.0


def jobs(head: Head, *arguments: str, cwd: Path) -> dict[str, Any]:
    ended = ssrnn("jobs", *arguments, "--address", head.address, "--json", cwd=cwd, env=head.environment())
    assert ended.returncode == 0, ended.stderr
    return only_json(ended.stdout)


@pytest.fixture(scope="module")
def submitted(head: Head, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run sent to the head with --follow, once it has ended."""
    folder = tmp_path_factory.mktemp("submitted")
    config = write_config(folder, tiny(corpus))
    arguments = ["submit", config, "--address", head.address, "--workers", 2, "--follow", "--json"]
    return folder, ssrnn(*arguments, cwd=folder, env=head.environment(), timeout=JOB_SECONDS)


def test_a_submitted_run_trains_to_its_end_and_its_output_is_followed(submitted: tuple[Path, Any]) -> None:
    folder, ended = submitted
    assert ended.returncode == 0, ended.stderr
    job = only_json(ended.stdout)
    assert (job["status"], job["run"]) == ("SUCCEEDED", "tiny")
    summary = json.loads((folder / "runs/tiny/summary.json").read_text())
    assert (summary["steps"], summary["workers"], summary["stopped"]) == (30, 2, False)
    assert "step 30/30" in ended.stderr


def test_the_job_ran_the_wheel_not_the_checkout(submitted: tuple[Path, Any], head: Head) -> None:
    folder, ended = submitted
    logs = jobs(head, "logs", only_json(ended.stdout)["id"], cwd=folder)["logs"]
    assert "code from" in logs
    assert "py_modules_files" in logs


def test_jobs_tell_of_the_run(submitted: tuple[Path, Any], head: Head) -> None:
    folder, ended = submitted
    job_id = only_json(ended.stdout)["id"]
    assert job_id in [job["id"] for job in jobs(head, "list", cwd=folder)["jobs"]]
    status = jobs(head, "status", job_id, cwd=folder)
    assert status["folder"] == str(folder / "runs/tiny")
    table = ssrnn("jobs", "list", "--address", head.address, cwd=folder, env=head.environment())
    assert job_id in table.stdout


def submit_until(head: Head, config: Path, words: str, start: Callable[..., Running]) -> str:
    """Send a run with --follow, wait until it prints the words, and leave it to itself by Ctrl-C; the job's id."""
    run = start("submit", config, "--address", head.address, "--follow", cwd=config.parent, env=head.environment())
    run.wait_for(words, JOB_SECONDS)
    run.signal_group(signal.SIGINT)
    assert run.process.wait(timeout=10) == 128 + signal.SIGINT
    assert run.text().splitlines()[-1].startswith("the run goes on; `ssrnn jobs logs tiny-")
    assert "Traceback" not in run.text()
    found = re.search(r"job (tiny-\w+):", run.text())
    assert found is not None
    return found[1]


def test_a_stopped_job_leaves_a_checkpoint_and_sent_again_goes_on_from_it(
    head: Head, corpus: Path, tmp_path: Path, start: Callable[..., Running]
) -> None:
    endless = {"train__steps": 1_000_000, "checkpoint__every_steps": 1_000_000, "scale__workers": 1}
    config = write_config(tmp_path, tiny(corpus, **endless))
    job_id = submit_until(head, config, "tokens/s", start)
    assert jobs(head, "status", job_id, cwd=tmp_path)["status"] == "RUNNING"
    assert beyond_loopback(set(marked_processes(head.mark, head.folder))) == []
    assert jobs(head, "stop", job_id, cwd=tmp_path)["status"] == "STOPPED"
    (checkpoint,) = (tmp_path / "runs/tiny/checkpoints").glob("step-*")
    step = json.loads((tmp_path / "runs/tiny/summary.json").read_text())["steps"]
    assert checkpoint.name == f"step-{step:08d}"

    again = submit_until(head, config, f"resumed  step {step:,}", start)
    assert jobs(head, "stop", again, cwd=tmp_path)["status"] == "STOPPED"


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"RAY_AUTH_TOKEN": "not-the-token-of-this-head"}, "error: token:"),
        ({"RAY_AUTH_TOKEN": "", "HOME": "/nonexistent"}, "error: token: none was found"),
    ],
)
def test_a_wrong_or_missing_token_is_one_line(head: Head, tmp_path: Path, changed: dict[str, str], where: str) -> None:
    ended = ssrnn("jobs", "list", "--address", head.address, cwd=tmp_path, env=head.environment(**changed))
    assert ended.returncode == 2
    assert ended.stderr.startswith(where)
    assert len(ended.stderr.splitlines()) == 1


def test_a_job_that_is_not_there_is_one_line(head: Head, tmp_path: Path) -> None:
    for command in ("status", "logs", "stop"):
        words = ["jobs", command, "nobody", "--address", head.address]
        ended = ssrnn(*words, cwd=tmp_path, env=head.environment())
        assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1), ended.stderr
        assert ended.stderr.startswith("error: job: ")


def test_a_bad_input_in_a_job_gives_the_job_away_as_failed(head: Head, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny(tmp_path / "no-corpus"))
    words = ["submit", config, "--address", head.address, "--follow"]
    ended = ssrnn(*words, cwd=tmp_path, env=head.environment())
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "error:" in ended.stdout
    assert "Traceback" not in ended.stdout
