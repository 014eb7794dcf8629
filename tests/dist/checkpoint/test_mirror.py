"""A run's small files, here and in a store: who has the last word, and what a store that fails does to the run."""

import re
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_data import DataError
from ssrnn_data.remote.files import forget_stores
from ssrnn_dist.config import check_config, to_yaml
from ssrnn_dist.problems import UserError
from ssrnn_dist.storage import mirror
from ssrnn_dist.storage.mirror import RunMirror, keeps_local, wait_before_sending, whole_lines
from ssrnn_dist.storage.remote import RemoteFailed, RemoteFolder, Retry
from ssrnn_dist.storage.standing import check_goes_on
from ssrnn_launch.cli.errors import explain

QUICK = Retry(attempts=2, first_seconds=0.01, most_seconds=0.02)


class Warnings(list[str]):
    """What warn was told."""

    def __call__(self, message: str) -> None:
        self.append(message)


@pytest.fixture
def url() -> str:
    return f"memory://mirror/{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "PATIENT", QUICK)
    monkeypatch.setattr(mirror, "QUICK", QUICK)


def put(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def texts(url: str) -> dict[str, str]:
    remote = RemoteFolder(url, QUICK)
    return {name: remote.read(name).decode() for name in remote.sizes()}


def test_what_changes_is_sent_and_checkpoints_and_hidden_files_are_not(url: str, tmp_path: Path) -> None:
    warned = Warnings()
    put(tmp_path, config_yaml="a: 1", pictures__cost_png="picture", checkpoints__x="large", _hidden="no")
    put(tmp_path, ledger_jsonl='{"a": 1}\n{"b"')
    side = RunMirror(url, tmp_path, warned, every_seconds=0)
    side.push()
    sent = {"config.yaml": "a: 1", "ledger.jsonl": '{"a": 1}\n', "pictures/cost.png": "picture"}
    assert texts(url) == sent
    RemoteFolder(url, QUICK).write("config.yaml", b"somebody else's")
    put(tmp_path, ledger_jsonl='{"a": 1}\n{"b": 2}\n')
    side.push()
    assert texts(url) == {**sent, "config.yaml": "somebody else's", "ledger.jsonl": '{"a": 1}\n{"b": 2}\n'}
    assert warned == []


def test_another_cluster_gets_all_and_what_it_writes_counts(url: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    put(first, metrics_jsonl="1\n2\n", summary_json="{}")
    RunMirror(url, first, Warnings()).push(final=True)
    put(first, metrics_jsonl="1\n2\n3\n")  # not sent any more: a kill
    there = RunMirror(url, second, Warnings())
    second.mkdir()
    assert there.pull() == ["metrics.jsonl", "summary.json"]
    assert (second / "metrics.jsonl").read_text() == "1\n2\n"
    again = RunMirror(url, first, Warnings())
    assert again.pull() == []  # nobody has written since: this node's own tail stays
    assert (first / "metrics.jsonl").read_text() == "1\n2\n3\n"
    put(second, metrics_jsonl="1\n2\n4\n5\n")
    there.push(final=True)
    assert again.pull() == ["metrics.jsonl"]
    assert (first / "metrics.jsonl").read_text() == "1\n2\n4\n5\n"
    again.push(final=True)
    assert texts(url)["metrics.jsonl"] == "1\n2\n4\n5\n"


def test_a_delivered_outbox_goes_there_too_and_a_removed_folder_takes_nothing_away(tmp_path: Path) -> None:
    here, url = tmp_path / "here", f"file://{tmp_path}/there"
    side = RunMirror(url, here, Warnings(), every_seconds=0)
    put(here, ledger_jsonl="1\n", outbox_jsonl="2\n")
    side.push()
    assert texts(url) == {"ledger.jsonl": "1\n", "outbox.jsonl": "2\n"}
    (here / "outbox.jsonl").unlink()
    side.push()
    assert texts(url) == {"ledger.jsonl": "1\n"}
    shutil.rmtree(here)
    here.mkdir()
    side.push(final=True)
    assert texts(url) == {"ledger.jsonl": "1\n"}


def test_a_store_that_fails_is_told_once_and_tried_again(tmp_path: Path) -> None:
    warned, here, there = Warnings(), tmp_path / "here", tmp_path / "there"
    put(here, config_yaml="a: 1")
    there.write_text("a file in the folder's place")
    side = RunMirror(f"file://{there}", here, warned, every_seconds=0)
    side.push()
    side.push()
    assert len(warned) == 1
    assert "the run's files are not copied, and it is tried again" in warned[0]
    there.unlink()
    side.push()
    assert (there / "config.yaml").read_text() == "a: 1"
    shutil.rmtree(there)
    there.write_text("again")
    put(here, config_yaml="a: 22")
    side.push(final=True)
    assert len(warned) == 2


def test_a_store_that_cannot_be_read_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the scheme 'nosuch' is unknown"):
        RunMirror("nosuch://x/y", tmp_path, Warnings()).pull()


def test_a_store_that_is_down_is_no_mistake_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 9 of this machine answers nobody."""
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "hidden-key")
    for name, value in {**keys, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    forget_stores()
    with pytest.raises(RemoteFailed, match="s3://runs/mine: 2 attempts failed, the last one so: Could not") as caught:
        RunMirror("s3://runs/mine", tmp_path, Warnings()).pull()
    failure = explain(caught.value)
    assert (failure.exit_code, failure.unexpected, len(failure.lines)) == (1, False, 1)
    assert "hidden-key" not in failure.lines[0]
    with pytest.raises(RemoteFailed, match="s3://runs/mine/config.yaml: "):
        RemoteFolder("s3://runs/mine", QUICK).read("config.yaml")
    with pytest.raises(DataError):
        RemoteFolder("memory://mirror", QUICK).read("not-there")


def stored(url: str, run: dict[str, Any], **files: str) -> None:
    for name, text in {"config.yaml": to_yaml(check_config(run)), **files}.items():
        RemoteFolder(f"{url}/mine", QUICK).write(name.replace("__", "/"), text.encode())


@pytest.mark.parametrize("trained", ["metrics.jsonl", "checkpoints/step-00000004/checkpoint.json"])
def test_a_changed_config_is_found_where_the_run_can_be_seen(tmp_path: Path, trained: str) -> None:
    url = f"file://{tmp_path}/runs"
    run = {"name": "mine", "run_root": url, "data": {"index": "/a"}}
    changed = check_config({**run, "data": {"index": "/b"}, "train": {"learning_rate": 0.5}})
    check_goes_on(changed)  # a new run
    stored(url, run)
    check_goes_on(changed)  # nothing trained yet: the config may be mended
    stored(url, run, **{trained.replace("/", "__"): "{}"})
    check_goes_on(check_config({**run, "data": {"index": "/b"}}))
    was = check_config(run).train.learning_rate
    refused = re.escape(f"train.learning_rate: 0.5 now, {was} in {url}/mine/config.yaml; go on with the old values")
    with pytest.raises(UserError, match=f"^{refused}[^\n]*$"):
        check_goes_on(changed)
    stored(url, run, **{"config.yaml": "a: ["})
    check_goes_on(changed)  # what can't be read is left to the job


def test_a_run_that_cannot_be_seen_hinders_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for run_root in ("s3://runs", "nosuch://x", "/not/there"):
        check_goes_on(check_config({"name": "mine", "run_root": run_root, "data": {"index": "/a"}}))


def test_a_thread_sends_while_the_run_goes_on_and_the_end_is_sent_too(url: str, tmp_path: Path) -> None:
    put(tmp_path, config_yaml="a: 1")
    with RunMirror(url, tmp_path, Warnings(), every_seconds=0.01).pushing():
        deadline = time.monotonic() + 60
        while texts(url) != {"config.yaml": "a: 1"}:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        put(tmp_path, summary_json="{}")
    assert texts(url) == {"config.yaml": "a: 1", "summary.json": "{}"}


@given(st.integers(0, 1 << 40), st.floats(0.1, 100))
def test_a_large_file_takes_no_more_than_its_share_of_the_network(size_bytes: int, every: float) -> None:
    wait = wait_before_sending(size_bytes, every)
    assert wait >= every
    assert size_bytes <= wait * mirror.MOST_BYTES_PER_SECOND * (1 + 1e-9)


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_only_a_file_that_goes_on_from_the_other_stays(local: bytes, there: bytes) -> None:
    assert keeps_local(local + there, local)
    assert not keeps_local(None, there)
    assert keeps_local(local, there) == (local[: len(there)] == there)
    kept = whole_lines("x.jsonl", local)
    assert local.startswith(kept)
    assert kept == b"" or kept.endswith(b"\n")
    assert b"\n" not in local[len(kept) :]
    assert whole_lines("x.html", local) == local
