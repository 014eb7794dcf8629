"""`submit` and `jobs` against a real Ray head on loopback, its token on."""

import base64
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ssrnn_dist.config import check_config
from ssrnn_dist.problems import UserError
from ssrnn_launch import submit
from ssrnn_launch.doctor.job import FOUND_FAILURES
from ssrnn_launch.guard import marked_processes
from ssrnn_launch.job_logs import is_rays_news
from ssrnn_launch.jobs import is_one_of
from ssrnn_launch.problems import LaunchFailed
from ssrnn_launch.submit import prepare, shown
from ssrnn_launch.targets import kuberay, written
from ssrnn_launch.wheel import wheel_files
from tests.helpers.launching import (
    Head,
    Running,
    beyond_loopback,
    environment,
    only_json,
    ssrnn,
    tiny,
    write_config,
)
from tests.helpers.relay import Relay

JOB_SECONDS = 200.0
SECRET = "value-that-must-not-travel"
SUBMITTER = {"HF_TOKEN": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET, "MLFLOW_TRACKING_PASSWORD": SECRET}


def test_nothing_of_the_submitters_environment_is_sent_or_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SUBMITTER, "RAY_AUTH_TOKEN": SECRET}.items():
        monkeypatch.setenv(name, value)
    nodes = dict.fromkeys(("instance_type", "head_instance_type", "machine_image", "region", "zone", "project"), "x")
    cluster = {"secrets": {"HF_TOKEN": "hub/token"}, "nodes": nodes, "service_account": "x", "env": {"A": "b"}}
    config = check_config(tiny(Path("/shared/c"), run_root="s3://b/runs", cluster=cluster))
    request = prepare(config)
    assert request.environment["A"] == "b"
    assert "HF_TOKEN" not in request.environment
    made = written.for_kuberay(config, None, "").text
    code = yaml.safe_load(made.partition("---")[0])["binaryData"]["code.whl"]
    texts = [repr(request), json.dumps(shown(request, config)), made, written.for_machines(config, "aws").text]
    assert "HF_TOKEN" in made
    for text in [*texts, written.for_machines(config, "gcp").text]:
        assert SECRET not in text
    assert SECRET.encode() not in base64.b64decode(code)
    assert not any(SECRET.encode() in content for content in wheel_files().values())


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_ACCESS_KEY_ID", "db_password", "APIKEY", "MY_SECRETS"])
def test_what_looks_like_a_secret_is_refused_as_a_plain_variable(name: str) -> None:
    for cluster in ({"env": {name: "x"}}, {"network": {"env": {name: "x"}}}):
        with pytest.raises(UserError, match=f"{name} looks like a secret") as caught:
            check_config(tiny(Path("c"), cluster=cluster))
        assert "cluster.secrets" in str(caught.value)
    check_config(tiny(Path("c"), cluster={"secrets": {name: "store/key"}}))


def test_words_that_only_resemble_secrets_are_allowed_and_urls_with_passwords_are_not() -> None:
    env = {"TOKENIZERS_PARALLELISM": "false", "KEYBOARD": "x", "NCCL_DEBUG": "http://user@host:80/a"}
    assert check_config(tiny(Path("c"), cluster={"env": env})).cluster.env == env
    with pytest.raises(UserError, match="looks like a secret"):
        check_config(tiny(Path("c"), cluster={"env": {"A": "http://user:word@host"}}))
    with pytest.raises(UserError, match=r"tracking\.uri: a URL with a password in it"):
        prepare(check_config(tiny(Path("c"), tracking={"uri": "https://user:word@mlflow"})))


def test_a_dry_run_tells_what_would_be_sent_and_asks_no_cluster(tmp_path: Path) -> None:
    cluster = {"secrets": {"HF_TOKEN": "hub/token"}, "env": {"NCCL_DEBUG": "WARN-LEVEL"}, "pip": ["s3fs"], "image": "i"}
    (tmp_path / "prices.yaml").write_text("prices: mine")
    path = write_config(tmp_path, tiny(Path("c"), cluster=cluster))
    words = ["submit", path, "--dry-run", "--address", "http://127.0.0.1:9"]
    told = ssrnn(*words, cwd=tmp_path, env=environment(**SUBMITTER))
    assert told.returncode == 0, told.stderr
    for part in ("job_entry run.yaml", "NCCL_DEBUG", "HF_TOKEN", "s3fs", "ssrnn_launch/submit.py"):
        assert part in told.stdout
    assert "cluster.image is not used" in told.stderr
    sent = only_json(ssrnn(*words, "--json", cwd=tmp_path, env=environment(**SUBMITTER)).stdout)
    assert sent["secrets"] == ["HF_TOKEN"]
    assert set(sent["runtime_env"]) == {"working_dir", "py_modules", "env_vars", "pip"}
    assert "WARN-LEVEL" not in json.dumps(sent["runtime_env"])
    assert SECRET not in told.stdout + told.stderr + json.dumps(sent)


def test_a_price_file_goes_along(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("the prices")
    cost = {"price_file": str(tmp_path / "mine.yaml")}
    request = prepare(check_config(tiny(Path("c")) | {"cost": cost}))
    assert request.files["prices.yaml"] == "the prices"
    assert yaml.safe_load(request.files["run.yaml"])["cost"]["price_file"] == "prices.yaml"
    with pytest.raises(UserError, match=r"cost\.price_file"):
        prepare(check_config(tiny(Path("c")) | {"cost": {"price_file": "/not/there"}}))


def test_a_job_without_its_secrets_ends_before_it_begins(tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny(Path("c"), cluster={"secrets": {"HF_TOKEN": "a/b", "B_KEY": "c/d"}}))
    words = [sys.executable, "-m", "ssrnn_launch.job_entry", str(config)]
    env = environment(HF_TOKEN="")
    ended = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 2
    assert [line.partition(";")[0] for line in ended.stderr.splitlines()] == [
        f"error: cluster.secrets.{name}: not in the environment of this cluster" for name in ("B_KEY", "HF_TOKEN")
    ]


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
    return folder, ssrnn(*arguments, cwd=folder, env=head.environment(**SUBMITTER), timeout=JOB_SECONDS)


def test_a_submitted_run_trains_to_its_end_and_its_output_is_followed(submitted: tuple[Path, Any]) -> None:
    folder, ended = submitted
    assert ended.returncode == 0, ended.stderr
    job = only_json(ended.stdout)
    assert (job["status"], job["run"]) == ("SUCCEEDED", "tiny")
    summary = json.loads((folder / "runs/tiny/summary.json").read_text())
    assert (summary["steps"], summary["workers"], summary["stopped"]) == (30, 2, False)
    assert "step 30/30" in ended.stderr
    assert "Runtime env is setting up" not in ended.stderr  # Ray's own, in the job's output
    assert '{"kind"' not in ended.stderr


def test_the_job_ran_the_wheel_not_the_checkout(submitted: tuple[Path, Any], head: Head) -> None:
    folder, ended = submitted
    job_id = only_json(ended.stdout)["id"]
    logs = jobs(head, "logs", job_id, cwd=folder)["logs"]
    assert "code from" in logs
    assert "py_modules_files" in logs
    assert "step 30/30" in logs
    assert '{"kind"' not in logs
    raw = jobs(head, "logs", job_id, "--raw", cwd=folder)["logs"]
    assert "Runtime env is setting up" in raw
    assert "Runtime env is setting up" not in logs
    assert '\x1e{"kind":"metrics"' in raw
    assert SECRET not in raw + ended.stdout + ended.stderr


def test_jobs_tell_of_the_run(submitted: tuple[Path, Any], head: Head) -> None:
    folder, ended = submitted
    job_id = only_json(ended.stdout)["id"]
    assert job_id in [job["id"] for job in jobs(head, "list", cwd=folder)["jobs"]]
    status = jobs(head, "status", job_id, cwd=folder)
    assert status["folder"] == str(folder / "runs/tiny")
    assert (status["step"], status["steps"], status["workers"]) == (30, 30, 2)
    assert status["cost_usd"] > 0
    assert SECRET not in json.dumps(status)
    table = ssrnn("jobs", "list", "--address", head.address, cwd=folder, env=head.environment())
    assert job_id in table.stdout


def test_what_a_run_cannot_change_midway_is_refused_before_a_job_is_made(
    submitted: tuple[Path, Any], head: Head
) -> None:
    """The folder is relative: it is this machine's, which is the head's, too."""
    folder, _ = submitted
    before = [job["id"] for job in jobs(head, "list", cwd=folder)["jobs"]]
    words = ["submit", "run.yaml", "--set", "train.steps=31", "--address", head.address]
    ended = ssrnn(*words, cwd=folder, env=head.environment())
    assert (ended.returncode, ended.stdout) == (2, "")
    stored = folder / "runs/tiny/config.yaml"
    told = f"error: train.steps: 31 now, 30 in {stored}; go on with the old values"
    assert ended.stderr.startswith(told), ended.stderr
    assert [job["id"] for job in jobs(head, "list", cwd=folder)["jobs"]] == before


@pytest.mark.parametrize(
    ("names", "addresses", "expected"),
    [
        ({"a", "me"}, {"10.0.0.9"}, True),
        ({"a"}, {"10.0.0.1"}, False),
        (set(), {"10.0.0.1"}, True),
        (set(), set(), False),
    ],
)
def test_a_cluster_is_of_this_machine_by_name_or_where_it_knows_none_by_address(
    names: set[str], addresses: set[str], expected: bool
) -> None:
    assert is_one_of(names, addresses, "me", {"127.0.0.1", "10.0.0.1"}) == expected


@pytest.mark.long
def test_a_doctor_that_finds_a_fault_is_a_failed_job_whose_lines_are_all_told(
    submitted: tuple[Path, Any], head: Head
) -> None:
    folder, _ = submitted
    words = ["doctor", "run.yaml", "--no-trial", "--set", "cluster.secrets.NO_SUCH=x", "--json"]
    ended = ssrnn(*words, "--address", head.address, cwd=folder, env=head.environment(), timeout=JOB_SECONDS)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    checks = only_json(ended.stdout)["checks"]
    assert [check["name"] for check in checks if check["state"] == "fail"] == ["secrets"]
    job = jobs(head, "status", checks[0]["detail"].split()[0], cwd=folder)
    assert (job["status"], job["exit_code"]) == ("FAILED", FOUND_FAILURES)


@pytest.mark.parametrize(
    ("line", "is_news"),
    [
        ("2026-11-27 00:26:33,780\tINFO job_manager.py:581 -- Runtime env is setting up.", True),
        ("2026-11-27 00:26:33,780\tWARNING job_manager.py:581 -- Something is odd.", False),
        ("[2026-11-27 00:26:45,879 I 30974 30974] logging.cc:303: Set ray log level", True),
        ("[2026-11-27 00:26:45,879 E 30974 30974] core_worker.cc:1: gone", False),
        ("2026-11-27 INFO of ours", False),
    ],
)
def test_rays_own_news_are_known_by_their_form(line: str, is_news: bool) -> None:
    assert is_rays_news(line) == is_news


def test_a_head_whose_agent_never_comes_is_told_with_its_likely_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        tries = 0

        def submit_job(self, **job: Any) -> str:
            self.tries += 1
            raise RuntimeError("No available agent to submit job, please try again later.")

    monkeypatch.setattr(submit, "AGENT_SECONDS", 0.0)
    client = Client()
    with pytest.raises(LaunchFailed, match="port, 52365: .*--dashboard-agent-listen-port="):
        submit.send(client, entrypoint="x")
    assert client.tries == 1


def submit_until(
    head: Head, config: Path, words: str, start: Callable[..., Running], then: Callable[[Running], None] | None = None
) -> str:
    """Send a run with --follow, wait until it prints the words, and leave it to itself by Ctrl-C; the job's id."""
    run = start("submit", config, "--address", head.address, "--follow", cwd=config.parent, env=head.environment())
    run.wait_for(words, JOB_SECONDS)
    if then is not None:
        then(run)
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
    (job,) = [each for each in jobs(head, "list", cwd=tmp_path)["jobs"] if each["id"] == job_id]
    assert job["status"] == "RUNNING"
    assert (job["steps"], job["workers"]) == (1_000_000, 1)
    assert job["step"] > 0
    assert job["loss"] > 0
    assert beyond_loopback(set(marked_processes(head.mark, head.folder))) == []
    stopped = jobs(head, "stop", job_id, cwd=tmp_path)
    assert stopped["status"] == "STOPPED"
    (checkpoint,) = (tmp_path / "runs/tiny/checkpoints").glob("step-*")
    step = json.loads((tmp_path / "runs/tiny/summary.json").read_text())["steps"]
    assert checkpoint.name == f"step-{step:08d}"
    assert stopped["saved_step"] == step

    def follow_on(run: Running) -> None:
        """The way to the head breaks, and is there again: the log goes on where it was, nothing comes twice."""
        relay.cut()
        run.wait_for("the head no longer answers; trying again in 1 s", JOB_SECONDS)
        seen = run.text().count("  loss ")
        relay.mend()
        until = time.monotonic() + JOB_SECONDS
        while run.text().count("  loss ") == seen:
            assert time.monotonic() < until, run.text()
            time.sleep(0.1)
        assert run.text().count("resumed  step") == 1

    with Relay(head.address) as relay:
        behind = replace(head, address=relay.address)
        again = submit_until(behind, config, f"resumed  step {step:,}", start, follow_on)
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


@pytest.mark.long
def test_a_manifests_wheel_config_and_entrypoint_run_as_they_stand(
    head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent as KubeRay sends it, by `ray job submit`, its ConfigMap's files laid into a folder in place of its mount."""
    monkeypatch.setattr(kuberay, "MOUNT", str(tmp_path))
    image = {"image": "has-the-dependencies"}
    config = check_config(tiny(tmp_path / "no-corpus", run_root=str(tmp_path / "runs"), cluster=image))
    code, job = yaml.safe_load_all(written.for_kuberay(config, None, "").text)
    pod = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (items,) = [volume["configMap"]["items"] for volume in pod["volumes"] if "configMap" in volume]
    data = {"code.whl": base64.b64decode(code["binaryData"]["code.whl"]), "run.yaml": code["data"]["run.yaml"].encode()}
    for item in items:
        (tmp_path / item["path"]).write_bytes(data[item["key"]])
    spec = job["spec"]
    runtime = json.dumps(yaml.safe_load(spec["runtimeEnvYAML"]))
    words = ["job", "submit", "--address", head.address, "--no-wait", "--submission-id", spec["jobId"]]
    words += ["--runtime-env-json", runtime, "--metadata-json", json.dumps(spec["metadata"])]
    ray = [str(Path(sys.executable).parent / "ray"), *words, "--", *spec["entrypoint"].split()]
    subprocess.run(ray, env=head.environment(), cwd=tmp_path, check=True, capture_output=True, timeout=JOB_SECONDS)
    job_id = spec["jobId"]
    ended = ssrnn("jobs", "logs", job_id, "--follow", "--address", head.address, cwd=tmp_path, env=head.environment())
    assert "py_modules_files" in ended.stdout
    assert f"error: {tmp_path / 'no-corpus'}" in ended.stdout
    assert jobs(head, "status", job_id, cwd=tmp_path)["exit_code"] == 2
