"""The tracker against the real MLflow: SQLite, a server that dies, kills, TLS and passwords, registered models."""

import hashlib
import json
import logging
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_servers import PASSWORD, USER, MlflowServer

from ssrnn_dist.config import RunConfig, check_config
from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.problems import UserError
from ssrnn_dist.tracking import facts, register
from ssrnn_dist.tracking.address import read_known
from ssrnn_dist.tracking.history import History
from ssrnn_dist.tracking.system_metrics import NodeSampler
from ssrnn_dist.tracking.tracker import Tracker, metric_values, send_late, tracking_uri


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
    from ssrnn_dist.tracking.mlflow_client import connect

    return connect(tracking_uri(config))


@pytest.fixture(scope="module")
def sqlite_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run_root for this file, as making MLflow's tables takes long; its name is awkward on purpose."""
    root = tmp_path_factory.mktemp("räume und #zeichen")
    client_of(config_in(root)).search_experiments()
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model's checkpoint as two ranks would write it: each half of every parameter, and moments."""
    import torch

    from ssrnn_dist.checkpoint.file_format import HostBuffer
    from ssrnn_dist.checkpoint.places import Contents, SharedFolder
    from ssrnn_dist.checkpoint.slices import Slice
    from ssrnn_dist.config import ModelConfig
    from ssrnn_dist.model import LanguageModel

    model = LanguageModel(ModelConfig(vocab_size=300, d_model=10, n_layers=2))
    place, notes = SharedFolder(tmp_path_factory.mktemp("checkpoints")), {}
    for rank in (0, 1):
        tensors = {}
        for name, parameter in model.named_parameters():
            flat, cut = parameter.detach().view(-1), parameter.numel() // 2
            start, piece = (0, flat[:cut]) if rank == 0 else (cut, flat[cut:])
            for kind, value in (("weight", piece), ("exp_avg", torch.ones_like(piece))):
                tensors[Slice(name, start, len(piece)).key(kind)] = value
        data = HostBuffer().fill(tensors)
        name = place.put(7, "mark", rank, data)
        notes[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    about = {"tokens": 700, "model": model.config.model_dump(mode="json"), "position": {}, "world_size": 2}
    place.publish("mark", Contents(7, about, {"tokenizer.json": b"{}"}), notes)
    return place.root


def test_a_run_that_resumes_is_one_run(sqlite_root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = config_in(sqlite_root, name="resumes")
    first = tracker_for(config)
    first.log(metrics_at(1))
    first.log(metrics_at(2, train_loss=math.nan, valid_loss=4.0))
    assert first.finish("FAILED", 60) == 0
    wider = config_in(sqlite_root, name="resumes", scale={"workers": 2})
    second = tracker_for(wider)
    assert second.wait_for_run() == first.run_id is not None
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


def test_a_run_whose_id_was_never_heard_is_found_again(sqlite_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow began it, but its answer was lost; the next command has only its own mark."""
    config = config_in(sqlite_root, name="unheard")
    with monkeypatch.context() as patched:
        patched.setattr("mlflow.MlflowClient.create_run", _answer_lost(MlflowClient.create_run))
        first = tracker_for(config)
        first.log(metrics_at(1))
        assert first.wait_for_run(60) is None
        assert first.finish("KILLED", 60) == 0, "tried again while it ends"
    (config.folder / "mlflow.json").write_text(json.dumps({"mark": read_known(config.folder / "mlflow.json").mark}))
    second = tracker_for(config)
    second.log(metrics_at(2))
    assert second.finish("FINISHED", 60) == 0
    client = client_of(config)
    experiment = client.get_experiment_by_name("ssrnn").experiment_id
    (run,) = client.search_runs([experiment], "attributes.run_name = 'unheard'")
    assert run.info.run_id == first.run_id == second.run_id
    assert [each.step for each in client.get_metric_history(run.info.run_id, "train_loss")] == [1, 2]


def _answer_lost(create_run: Any) -> Any:
    def made(*arguments: Any, **named: Any) -> Any:
        create_run(*arguments, **named)
        raise TimeoutError("no answer")

    return made


def test_what_was_spent_only_ever_grows_over_kills_and_repeated_steps(sqlite_root: Path) -> None:
    """The killed command told MLflow of 0.9 dollars, of which its ledger has 0.8; steps 3 and 4 are done again."""
    config = config_in(sqlite_root, name="grows")
    lives = [(0, [(1, 0.2), (2, 0.4), (3, 0.6), (4, 0.9)]), (2, [(3, 0.85), (4, 1.0), (5, 1.2)])]
    for from_step, steps in lives:
        tracker, history = tracker_for(config), History(config.folder / "metrics.jsonl", from_step)
        for step, cost in steps:
            metrics = metrics_at(step, cost_usd=cost, worker_hours=cost, lost_usd=0.1 * (from_step > 0))
            tracker.log(metrics, history.append(metrics))
        history.close()
        assert tracker.finish("KILLED", 60) == 0
    client = client_of(config)
    for key in ("cost_usd", "worker_hours"):
        found = client.get_metric_history(tracker.run_id, key)
        by_step = sorted(found, key=lambda each: (each.step, each.timestamp))
        by_time = sorted(found, key=lambda each: (each.timestamp, each.value))
        assert [each.value for each in by_time] == [0.2, 0.4, 0.6, 0.9, 1.0, 1.2]
        assert [each.value for each in by_step] == [0.2, 0.4, 0.6, 0.9, 1.0, 1.2]
        assert [each.step for each in by_step] == [1, 2, 3, 4, 4, 5]
    assert sorted(each.step for each in client.get_metric_history(tracker.run_id, "train_loss")) == [
        1,
        2,
        3,
        3,
        4,
        4,
        5,
    ]
    assert client.get_run(tracker.run_id).data.metrics["cost_usd"] == 1.2, "the newest is what MLflow shows"


def test_what_happened_stands_on_the_page_and_a_persons_note_stays(sqlite_root: Path) -> None:
    config = config_in(sqlite_root, name="story")
    first = tracker_for(config)
    first.event("started", {"step": 0, "tokens": 0, "workers": 2})
    first.event("checkpoint", {"step": 4})
    first.event("checkpoint", {"step": 8})
    first.event("warning", {"message": "it is <late> ünd\ndark"})
    first.finish("KILLED", 60)
    client, key = client_of(config), "mlflow.note.content"
    client.set_tag(first.run_id, key, "My best run.\n\n" + client.get_run(first.run_id).data.tags[key])
    second = tracker_for(config)
    second.event("resumed", {"step": 8, "tokens": 800, "workers": 3})
    second.finish("FINISHED", 60)
    tags = client.get_run(first.run_id).data.tags
    assert tags["workers"] == "3"
    assert tags["checkpoint_step"] == "8"
    lines = tags[key].splitlines()
    assert lines[0] == "My best run."
    assert [line.partition("UTC` ")[2] for line in lines if line.startswith("- ")] == [
        "resumed step 8 tokens 800 workers 3",
        "warning: it is &lt;late> ünd dark",
        "checkpoint step 8",
        "started step 0 tokens 0 workers 2",
    ]


def test_each_nodes_numbers_are_in_the_one_run_under_mlflows_own_names(sqlite_root: Path) -> None:
    config = config_in(sqlite_root, name="system")
    tracker = tracker_for(config)
    sampler = NodeSampler()
    for step, node in enumerate(("10.0.0.1", "node/2", "node/2")):
        tracker.log_system(node, sampler.sample(), step)
    tracker.finish("FINISHED", 60)
    client = client_of(config)
    metrics = client.get_run(tracker.run_id).data.metrics
    assert 0 < metrics["system/10.0.0.1/system_memory_usage_percentage"] < 100
    assert len(client.get_metric_history(tracker.run_id, "system/node_2/cpu_utilization_percentage")) == 2
    assert set(sampler.sample()) >= {"network_receive_megabytes", "disk_usage_percentage", "disk_read_megabytes"}


def test_the_finished_model_is_registered_once_and_loads_again(
    sqlite_root: Path, checkpoint: Path, tmp_path: Path
) -> None:
    import torch

    from ssrnn_dist.checkpoint.load_model import find_checkpoint, load_model

    config = config_in(sqlite_root, name="registers")
    tags = register.version_tags({"valid_bits_per_byte": 1.5, "cost_usd": None, "run": "registers"})
    for _ in range(2):
        tracker = tracker_for(config)
        tracker.register_model(register.export_weights(checkpoint, config.folder / "model"), "a model", tags)
        assert tracker.finish("FINISHED", 60) == 0
    client = client_of(config)
    (version,) = client.search_model_versions("name = 'a model'")
    assert version.run_id == tracker.run_id
    assert version.tags == {"valid_bits_per_byte": "1.5", "run": "registers"}
    there = Path(client.download_artifacts(tracker.run_id, register.ARTIFACT, str(tmp_path)))
    assert {each.name for each in there.iterdir()} == {"checkpoint.json", "rank-00000.safetensors", "tokenizer.json"}
    original, loaded = load_model(find_checkpoint(checkpoint)), load_model(find_checkpoint(there))
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in original.state_dict().items())


def test_runs_are_found_by_their_tags(sqlite_root: Path) -> None:
    tracking = {"project": "small", "tags": {"team": "blue", "device": "my own"}}
    config = config_in(sqlite_root, name="tagged", tracking=tracking, scale={"workers": [1, 4], "zero_stage": 2})
    tracker = tracker_for(config)
    tracker.finish("FINISHED", 60)
    wanted = "tags.project = 'small' and tags.team = 'blue' and tags.workers = '1-4' and tags.zero_stage = '2'"
    found = client_of(config).search_runs(
        [client_of(config).get_experiment_by_name("ssrnn").experiment_id],
        f"{wanted} and tags.cluster = 'local' and tags.precision = 'fp32' and tags.device = 'my own'",
    )
    assert [run.info.run_id for run in found] == [tracker.run_id]
    assert found[0].info.user_id == facts.user_name()


def test_a_row_that_mlflow_refuses_takes_no_other_along(sqlite_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = config_in(sqlite_root, name="refused")
    tracker = tracker_for(config)
    tracker.log_system("a", {"wh?t": 1.0, "fine": 2.0})
    tracker.log(metrics_at(1))
    assert tracker.finish("FINISHED", 60) == 0
    metrics = client_of(config).get_run(tracker.run_id).data.metrics
    assert metrics["system/a/fine"] == 2.0
    assert metrics["tokens"] == 100
    assert "MLflow refused some" in caplog.text


def test_a_row_that_is_sent_again_is_kept_once(sqlite_root: Path) -> None:
    config = config_in(sqlite_root, name="twice")
    tracker = tracker_for(config)
    for _ in range(3):
        tracker.log(metrics_at(7, train_loss=2.0), 1_700_000_000.0)
        _wait_until(lambda: tracker._outbox.waiting == 0)
    tracker.finish("FINISHED")
    assert len(client_of(config).get_metric_history(tracker.run_id, "train_loss")) == 1


def test_many_rows_are_sent_whole(sqlite_root: Path) -> None:
    config = config_in(sqlite_root, name="many")
    tracker = tracker_for(config)
    for step in range(300):
        tracker.log(metrics_at(step))
    assert tracker.finish("FINISHED", 60) == 0
    history = client_of(config).get_metric_history(tracker.run_id, "feedback_residual/layer_0")
    assert [each.step for each in history] == list(range(300))


def test_a_run_that_mlflow_no_longer_has_is_started_anew_with_all_its_history(
    sqlite_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_in(sqlite_root, name="lost")
    first, history = tracker_for(config), History(config.folder / "metrics.jsonl", 0)
    for step in (1, 2):
        first.log(metrics_at(step), history.append(metrics_at(step)))
    history.close()
    first.finish("KILLED")
    client_of(config).delete_run(first.run_id)
    second = tracker_for(config)
    second.log(metrics_at(3))
    second.finish("FINISHED")
    assert second.run_id not in (None, first.run_id)
    assert "no longer has run" in caplog.text
    found = client_of(config).get_metric_history(second.run_id, "train_loss")
    assert [each.step for each in found] == [1, 2, 3]


def test_a_broken_database_costs_a_warning_and_a_bounded_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    tracker = tracker_for(config_in(tmp_path))
    tracker.log(metrics_at(1))
    assert tracker.finish("FINISHED", 1.0) == 3
    assert tracker.run_id is None
    assert "ssrnn cost --send" in caplog.text


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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("server"))
    yield server
    server.end()


@pytest.fixture
def trusted(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    """The server, and an environment as its users have it."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(server.certificate))
    return server


def test_a_server_that_goes_away_in_mid_run_stops_nothing_and_gets_the_rest_when_it_is_back(
    trusted: MlflowServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    config = config_in(tmp_path, tracking={"uri": trusted.uri})
    tracker = tracker_for(config)
    tracker._outbox.retry_seconds = 0.5
    tracker.log(metrics_at(1))
    _wait_until(lambda: tracker._outbox.waiting == 0)
    trusted.go_away()
    for step in range(2, 50):
        tracker.log(metrics_at(step))
    tracker.event("checkpoint", {"step": 40})
    tracker.artifact(_note(config))
    _wait_until(lambda: "cannot be reached" in caplog.text)
    failures = tracker._outbox._attempts
    _wait_until(lambda: tracker._outbox._attempts >= failures + 2)
    assert caplog.text.count("cannot be reached") == 1
    trusted.come_back()
    assert tracker.finish("FINISHED", 60) == 0
    client = client_of(config)
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert [each.step for each in client.get_metric_history(tracker.run_id, "tokens")] == list(range(1, 50))
    assert run.data.tags["checkpoint_step"] == "40"
    assert [each.path for each in client.list_artifacts(tracker.run_id)] == ["note.txt"]
    assert not (config.folder / "outbox.jsonl").exists()
    assert capfd.readouterr().out == ""


def test_what_a_killed_command_could_not_send_the_next_one_sends_first(trusted: MlflowServer, tmp_path: Path) -> None:
    config = config_in(tmp_path, tracking={"uri": trusted.uri})
    assert tracker_for(config).finish("KILLED", 60) == 0
    trusted.go_away()
    try:
        _run_elsewhere(
            config,
            "tracker.log(metrics_at(1, cost_usd=1.0)); tracker.log(metrics_at(2, cost_usd=2.0));"
            "tracker._put({'kind': 'end', 'status': 'FAILED'}); os.kill(os.getpid(), 9)",
        )
        with (config.folder / "outbox.jsonl").open("ab") as file:
            file.write(b'{"kind": "row", "st')  # the kill came in the middle of a line
    finally:
        trusted.come_back()
    tracker = tracker_for(config)
    tracker.log(metrics_at(2, cost_usd=3.0))
    assert tracker.finish("FINISHED", 60) == 0
    client = client_of(config)
    assert [each.step for each in client.get_metric_history(tracker.run_id, "train_loss")] == [1, 2, 2]
    assert [each.value for each in client.get_metric_history(tracker.run_id, "cost_usd")] == [1.0, 2.0, 3.0]
    assert client.get_run(tracker.run_id).info.status == "FINISHED"


def test_a_run_that_ended_while_the_server_was_away_is_sent_later(trusted: MlflowServer, tmp_path: Path) -> None:
    config = config_in(tmp_path, tracking={"uri": trusted.uri})
    trusted.go_away()
    try:
        tracker = tracker_for(config)
        tracker.log(metrics_at(5))
        assert tracker.wait_for_run() is None
        assert tracker.finish("FINISHED", 10) == 3
    finally:
        trusted.come_back()
    assert send_late(config) == 0
    assert send_late(config) == 0, "there is nothing left"
    run = client_of(config).get_run(read_known(config.folder / "mlflow.json").run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["train_loss"] == pytest.approx(4.95)


def test_name_and_password_may_stand_in_the_address_and_are_shown_nowhere(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
    told: list[Any] = []
    uri = server.uri.replace("https://", f"https://{USER}:{PASSWORD}@")
    config = config_in(tmp_path, tracking={"uri": uri})
    tracker = Tracker(config, run_folder=config.folder, tell=lambda *event: told.append(event))
    assert tracker.wait_for_run(60)
    tracker.artifact(_note(config))
    assert tracker.finish("FINISHED", 60) == 0
    assert [each.path for each in client_of(config).list_artifacts(tracker.run_id)] == ["note.txt"]
    assert told == [("tracking", {"run_id": tracker.run_id, "url": told[0][1]["url"]})]
    assert told[0][1]["url"].startswith(f"{server.uri}/#/experiments/")
    kept = [path.read_text() for path in config.folder.rglob("*") if path.is_file()]
    assert not [text for text in kept if PASSWORD in text]
    run = client_of(config).get_run(tracker.run_id)
    assert PASSWORD not in str(run.to_dictionary())


@pytest.mark.parametrize("what", ["password", "certificate"])
def test_a_wrong_password_or_an_unknown_certificate_is_told(
    trusted: MlflowServer, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "password":
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "falsch")
    else:
        monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    tracker = tracker_for(config_in(tmp_path, tracking={"uri": trusted.uri}))
    assert tracker.wait_for_run(60) is None
    assert tracker.finish("KILLED", 10) > 0
    assert ("401" if what == "password" else "certificate verify failed") in caplog.text
    assert "falsch" not in caplog.text


def _run_elsewhere(config: RunConfig, code: str) -> None:
    """In a process of its own, which kills itself in the end."""
    before = (
        f"import os, sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "from test_tracking_mlflow import config_in, metrics_at, tracker_for\n"
        f"tracker = tracker_for(config_in(__import__('pathlib').Path({config.run_root!r}), name={config.name!r}, "
        f"tracking={config.tracking.model_dump()!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", before + code], timeout=120, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def _note(config: RunConfig) -> Path:
    path = config.folder / "note.txt"
    path.write_text("ein Blatt")
    return path


def test_a_server_that_is_away_from_the_start_and_for_good(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = tracker_for(config_in(tmp_path, tracking={"uri": "http://127.0.0.1:9"}))
    assert tracker.wait_for_run(60) is None
    tracker.log(metrics_at(1))
    assert tracker.finish("KILLED") == 3
    assert [each.levelno for each in caplog.records if each.name.startswith("ssrnn")] == [logging.WARNING] * 2
    assert not (tmp_path / "a-run" / "mlflow.json").exists()


def _wait_until(condition: Any, timeout_seconds: float = 30) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
