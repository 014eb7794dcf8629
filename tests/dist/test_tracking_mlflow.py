"""The tracker against the real MLflow: SQLite, a server that dies, a run that resumes, parameters that change."""

import logging
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ssrnn_dist.config import RunConfig, check_config
from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.problems import UserError
from ssrnn_dist.tracking import facts
from ssrnn_dist.tracking.tracker import Row, Tracker, metric_values, tracking_uri


def config_in(folder: Path, **sections: Any) -> RunConfig:
    return check_config({"name": "a-run", "run_root": str(folder), "data": {"index": "corpus"}, **sections})


def metrics_at(step: int, **changed: Any) -> StepMetrics:
    metrics = StepMetrics(
        step=step,
        steps=100,
        tokens=step * 100,
        train_loss=5.0 - step / 100,
        learning_rate=1e-3,
        gradient_norm=1.0,
        tokens_per_second=1000.0,
        data_wait_fraction=0.01,
        seconds_left=3.0,
        feedback_residual=0.1,
        feedback_error_estimate=None,
        layer_residuals=(0.1, None),
        layer_error_estimates=(None, 0.2),
        layer_sweeps=(1, 0),
        worker_hours=0.1,
        cost_usd=None,
        usd_per_million_tokens=None,
        restarts=0,
        workers=2,
    )
    return replace(metrics, **changed)


def tracker_for(config: RunConfig) -> Tracker:
    config.folder.mkdir(parents=True, exist_ok=True)
    return Tracker(config, run_folder=config.folder)


def client_of(config: RunConfig) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri(config))


@pytest.fixture(scope="module")
def sqlite_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run_root for this file, as making MLflow's tables takes a second; its name is awkward on purpose."""
    return tmp_path_factory.mktemp("räume und #zeichen")


def test_a_run_that_resumes_is_one_run(sqlite_root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = config_in(sqlite_root, name="resumes")
    first = tracker_for(config)
    first.log(metrics_at(1))
    first.log(metrics_at(2, train_loss=math.nan, valid_loss=4.0))
    first.finish("FAILED")
    wider = config_in(sqlite_root, name="resumes", scale={"workers": 2})
    second = tracker_for(wider)
    assert second.run_id == first.run_id is not None
    second.log(metrics_at(3))
    note = config.folder / "note.txt"
    note.write_text("ein Blatt")
    second.artifact(note)
    second.artifact(config.folder / "absent.txt")
    second.finish("FINISHED")

    client = client_of(config)
    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "resumes"
    assert [each.step for each in client.get_metric_history(first.run_id, "train_loss")] == [1, 2, 3]
    assert math.isnan(client.get_metric_history(first.run_id, "train_loss")[1].value)
    assert [each.step for each in client.get_metric_history(first.run_id, "valid_loss")] == [2]
    assert run.data.params["scale.workers"] == "1"
    assert run.data.tags["changed.scale.workers"] == "2"
    assert run.data.params["train.learning_rate"] == "0.003"
    assert run.data.tags["feedback"] == "selective, 1 sweep"
    assert run.data.tags["version.mlflow"].startswith("3.")
    assert [each.path for each in client.list_artifacts(first.run_id)] == ["note.txt"]
    assert (sqlite_root / "mlartifacts").is_dir()
    assert capfd.readouterr().out == ""


def test_a_row_that_is_sent_again_is_kept_once(sqlite_root: Path) -> None:
    config = config_in(sqlite_root, name="twice")
    tracker = tracker_for(config)
    row = Row(7, 1_700_000_000_000, {"train_loss": 2.0})
    for _ in range(3):
        tracker._outbox.put(row)
        _wait_until(lambda: tracker._outbox.waiting == 0)
    tracker.finish("FINISHED")
    assert len(client_of(config).get_metric_history(tracker.run_id, "train_loss")) == 1


def test_many_rows_are_sent_whole_and_training_does_not_wait(sqlite_root: Path) -> None:
    config = config_in(sqlite_root, name="many")
    tracker = tracker_for(config)
    started = time.monotonic()
    for step in range(300):
        tracker.log(metrics_at(step))
    assert time.monotonic() - started < 0.5
    tracker.finish("FINISHED")
    history = client_of(config).get_metric_history(tracker.run_id, "feedback_residual/layer_0")
    assert [each.step for each in history] == list(range(300))


def test_a_run_that_mlflow_no_longer_has_is_started_anew(sqlite_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = config_in(sqlite_root, name="lost")
    first = tracker_for(config)
    first.finish("KILLED")
    client_of(config).delete_run(first.run_id)
    second = tracker_for(config)
    second.log(metrics_at(1))
    second.finish("FINISHED")
    assert second.run_id not in (None, first.run_id)
    assert "no longer has run" in caplog.text
    assert client_of(config).get_run(second.run_id).data.metrics["train_loss"] == pytest.approx(4.99)


def test_a_broken_database_costs_one_warning_and_a_bounded_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssrnn_dist.tracking.tracker.START_TIMEOUT_SECONDS", 2.0)
    monkeypatch.setattr("ssrnn_dist.tracking.tracker.FINISH_TIMEOUT_SECONDS", 1.0)
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    started = time.monotonic()
    tracker = tracker_for(config_in(tmp_path))
    tracker.log(metrics_at(1))
    tracker.finish("FINISHED")
    assert time.monotonic() - started < 8
    assert tracker.run_id is None
    assert "metrics.jsonl" in caplog.text


@pytest.mark.parametrize("uri", ["ftp://somewhere", "runs/mlflow", "file:///tmp/mlruns", "databricks"])
def test_an_address_that_mlflow_cannot_take_is_the_users_error(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UserError, match=r"tracking\.uri"):
        tracker_for(config_in(tmp_path, tracking={"uri": uri}))


def test_a_run_root_that_sqlite_cannot_take_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run_root"):
        tracker_for(config_in(tmp_path / "50%"))


def test_passwords_stay_out_of_params_and_commands(tmp_path: Path) -> None:
    config = config_in(tmp_path, tracking={"uri": "https://me:secret@mlflow.example/x"})
    assert facts.params_of(config)["tracking.uri"] == "https://***@mlflow.example/x"
    assert "secret" not in Tracker.open_command("postgresql://me:secret@db/x")
    assert "--host 127.0.0.1" in Tracker.open_command("sqlite:////a/b c/mlflow.db")
    assert Tracker.open_command("sqlite:////a/b c/mlflow.db").endswith("'sqlite:////a/b c/mlflow.db'")


def test_metric_values_leave_out_what_was_not_measured() -> None:
    values = metric_values(metrics_at(3))
    assert values["feedback_residual/layer_0"] == 0.1
    assert values["feedback_error_estimate/layer_1"] == 0.2
    assert not {"feedback_residual/layer_1", "cost_usd", "valid_loss", "step"} & values.keys()


def test_facts_outside_a_checkout_have_no_commit(tmp_path: Path) -> None:
    (tmp_path / "code.py").touch()
    assert facts.git_commit(tmp_path / "code.py") is None
    assert facts.shortened("x" * 9000) == "x" * (facts.LONGEST_PARAM - 1) + "…"
    tags = facts.tags_of(config_in(tmp_path, feedback={"kind": "stationary", "decay": "calibrated"}))
    assert tags["feedback"] == "stationary (calibrated)"
    assert int(tags["hardware.cpu_cores"]) >= 1


def test_importing_the_tracker_and_the_report_is_light() -> None:
    code = (
        "import sys, ssrnn_dist.tracking.tracker; print(sorted({'mlflow', 'matplotlib', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"mlflow", "matplotlib", "jinja2", "torch"} & set(done.stdout.split())


class Server:
    """A real `mlflow server` on a loopback port, in a process group of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.uri = f"http://127.0.0.1:{port}"
        self.start()

    def start(self) -> None:
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/server.db"),
            *("--artifacts-destination", str(self.folder / "server-artifacts")),
        ]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        log.close()
        deadline = time.monotonic() + 60
        while not self._is_up():
            assert time.monotonic() < deadline, (self.folder / "server.log").read_text()[-2000:]
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            time.sleep(0.2)

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(tmp_path, port)
    yield server
    server.kill()


@pytest.mark.long
def test_a_server_killed_in_mid_run_stops_nothing_and_gets_the_rest_when_it_is_back(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    config = config_in(tmp_path, tracking={"uri": server.uri})
    tracker = tracker_for(config)
    tracker._outbox._retry_seconds = 1.0
    tracker.log(metrics_at(1))
    _wait_until(lambda: tracker._outbox.waiting == 0)
    server.kill()
    started = time.monotonic()
    for step in range(2, 50):
        tracker.log(metrics_at(step))
    assert time.monotonic() - started < 0.5
    _wait_until(lambda: "cannot be reached" in caplog.text)
    time.sleep(3)
    assert caplog.text.count("cannot be reached") == 1
    server.start()
    tracker.finish("FINISHED")
    run = client_of(config).get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert [each.step for each in client_of(config).get_metric_history(tracker.run_id, "tokens")] == list(range(1, 50))
    assert capfd.readouterr().out == ""


def test_a_server_that_is_away_from_the_start_and_for_good(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    tracker = tracker_for(config_in(tmp_path, tracking={"uri": "http://127.0.0.1:9"}))
    assert tracker.run_id is None
    tracker.log(metrics_at(1))
    tracker.finish("KILLED")
    assert time.monotonic() - started < 10
    assert [each.levelno for each in caplog.records if each.name.startswith("ssrnn")] == [logging.WARNING] * 2
    assert not (tmp_path / "a-run" / "mlflow.json").exists()


def _wait_until(condition: Any, timeout_seconds: float = 30) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
