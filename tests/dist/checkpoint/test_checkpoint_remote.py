"""Checkpoints in a store, a real S3 server too: resumed from the URL alone, with cut connections and bad files."""

import json
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from servers import FaultyProxy, S3Server, s3_environment, s3_server
from worlds import HERE, run_ranks

from ssrnn_data import DataError
from ssrnn_dist.checkpoint.load_model import find_checkpoint
from ssrnn_dist.checkpoint.places import Contents
from ssrnn_dist.checkpoint.retention import Retention
from ssrnn_dist.checkpoint.slices import Slice
from ssrnn_dist.checkpoint.store import Checkpoint, newest_checkpoint
from ssrnn_dist.checkpoint.writer import CheckpointWriter, Destination
from ssrnn_dist.config import load_config
from ssrnn_dist.problems import UserError
from ssrnn_dist.storage import remote as remote_module
from ssrnn_dist.storage.remote import RemoteFailed, RemoteFolder, Retry
from ssrnn_dist.world import World, joined_world

QUICK = Retry(attempts=3, first_seconds=0.01, most_seconds=0.05, stall_seconds=5)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, s3_environment(server.port):
        RemoteFolder("s3://runs")._fs.mkdir("runs")
        yield server


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a run's folder that is not there yet."""
    if request.param == "s3":
        request.getfixturevalue("s3")
    root = {"memory": "memory://runs", "file": f"file://{tmp_path}/there", "s3": "s3://runs"}[request.param]
    return f"{root}/{uuid.uuid4().hex}"


@pytest.fixture
def world() -> Iterator[World]:
    with joined_world(uses_gpu=False) as world:
        yield world


def save(destination: Destination, world: World, steps: range, keep: int = 2) -> CheckpointWriter:
    writer = CheckpointWriter(destination, world, Retention(keep))
    for step in steps:
        weight = torch.full((1000,), float(step))
        writer.start({"weight/a@0": weight}, Contents(step, {"tokens": step}, {"tokenizer.json": b"{}"}))
    writer.wait()
    return writer


def weight_of(checkpoint: Checkpoint | None) -> float:
    assert checkpoint is not None
    out = torch.zeros(1000)
    checkpoint.read("weight", Slice("a", 0, 1000), out)
    assert (out == out[0]).all()
    return float(out[0])


def test_files_are_written_listed_read_and_removed(url: str) -> None:
    folder = RemoteFolder(url, QUICK)
    assert folder.sizes() == {}
    large = bytes(range(256)) * (70 << 12)  # more than is sent in one piece
    folder.write("a/large", memoryview(large))
    folder.write("b", b"first")
    folder.write("b", b"second one")
    assert folder.sizes() == {"a/large": len(large), "b": 10}
    assert folder.read("b") == b"second one"
    assert folder.read("a/large") == large
    folder.remove("a/large")
    folder.remove("a/large")
    assert folder.sizes() == {"b": 10}


def test_the_store_alone_is_enough_to_go_on(url: str, world: World, tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "here", world, url) is None
    save(Destination(tmp_path / "here", url), world, range(1, 5))
    listed = RemoteFolder(url, QUICK).sizes()
    assert {name.split("/")[1] for name in listed} == {"step-00000003", "step-00000004"}
    shutil.rmtree(tmp_path / "here")
    assert weight_of(newest_checkpoint(tmp_path / "here", world, url)) == 4
    assert weight_of(newest_checkpoint(tmp_path / "here", world, url)) == 4  # from this node's copy


def test_an_attempt_that_was_cut_is_absent_and_swept_away(url: str, world: World, tmp_path: Path) -> None:
    save(Destination(tmp_path, url), world, range(1, 3))
    store = RemoteFolder(url, QUICK).below("checkpoints")
    store.write("step-00000003/rank-00000.old-1.safetensors", b"half")
    store.write("step-00000002/rank-00000.old-1.safetensors", b"half")
    assert weight_of(newest_checkpoint(tmp_path, world, url)) == 2
    save(Destination(tmp_path, url), world, range(3, 4))
    assert not [name for name in store.sizes() if "old-1" in name and "00003" in name]
    save(Destination(tmp_path, url), world, range(4, 5))
    assert not [name for name in store.sizes() if "old-1" in name]


def rank_file_of(url: str, step: int) -> str:
    folder = RemoteFolder(url, QUICK).below("checkpoints")
    (name,) = [name for name in folder.sizes() if f"step-{step:08d}/rank-" in name]
    return name


def test_a_torn_one_is_skipped_and_a_corrupt_file_is_named(url: str, world: World, tmp_path: Path) -> None:
    save(Destination(tmp_path / "here", url), world, range(1, 4), keep=3)
    store = RemoteFolder(url, QUICK).below("checkpoints")
    cut, changed = rank_file_of(url, 3), rank_file_of(url, 2)
    store.write(cut, store.read(cut)[:-1])
    data = store.read(changed)
    store.write(changed, data[:-1] + bytes([data[-1] ^ 1]))
    shutil.rmtree(tmp_path / "here")
    with pytest.warns(UserWarning, match=r"step-00000003 is torn \(rank-00000.*bytes\) and is skipped"):
        found = newest_checkpoint(tmp_path / "here", world, url)
    with pytest.raises(DataError, match=re.escape(f"checkpoints/{changed}: 3 downloads had another SHA-256")):
        weight_of(found)
    assert not list((tmp_path / "here").rglob("rank-*"))


def test_where_none_is_whole_any_more_nothing_begins_anew(url: str, world: World, tmp_path: Path) -> None:
    save(Destination(tmp_path / "here", url), world, range(1, 3))
    store = RemoteFolder(url, QUICK).below("checkpoints")
    for step in (1, 2):
        name = rank_file_of(url, step)
        store.write(name, store.read(name)[:-1])
    refused = r"no whole checkpoint among 2; of the newest: .*step-00000002 is torn \(rank-00000.*bytes\);.*--fresh"
    with pytest.raises(UserError, match=refused):
        newest_checkpoint(tmp_path / "elsewhere", world, url)


def flip_a_bit(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_in_a_folder_a_torn_one_is_told_and_what_is_no_checkpoint_is_not(world: World, tmp_path: Path) -> None:
    save(Destination(tmp_path), world, range(1, 5), keep=4)
    (tmp_path / "step-00000002").rename(tmp_path / "step-before-the-fall")  # a name of the user's
    (tmp_path / "step-00000004/checkpoint.json").unlink()
    flip_a_bit(tmp_path / "step-00000003/rank-00000.safetensors")
    told: list[str] = []
    assert weight_of(newest_checkpoint(tmp_path, world, None, told.append)) == 1
    assert told == [
        f"checkpoint {tmp_path}/step-00000004 is torn (no readable checkpoint.json) and is skipped",
        f"checkpoint {tmp_path}/step-00000003 is torn (rank-00000.safetensors has another checksum) and is skipped",
    ]
    flip_a_bit(tmp_path / "step-00000001/rank-00000.safetensors")
    with pytest.raises(UserError, match=r"no whole checkpoint among 3; .*--fresh"):
        newest_checkpoint(tmp_path, world)


def test_a_damaged_local_copy_is_fetched_anew(url: str, world: World, tmp_path: Path) -> None:
    save(Destination(tmp_path / "here", url), world, range(1, 2))
    (copy,) = (tmp_path / "here").rglob("rank-*.safetensors")
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    assert weight_of(newest_checkpoint(tmp_path / "here", world, url)) == 1


def test_a_second_copy_is_a_run_of_its_own_and_its_failure_a_warning(url: str, world: World, tmp_path: Path) -> None:
    writer = save(Destination(tmp_path / "run", copy_folder=url), world, range(1, 4))
    assert [kind for kind, _ in writer.take_news()] == ["checkpoint"] * 3
    assert weight_of(newest_checkpoint(tmp_path / "run", world)) == 3
    assert weight_of(newest_checkpoint(tmp_path / "new", world, url)) == 3
    assert {name.split("/")[1][-1] for name in RemoteFolder(url, QUICK).sizes()} == {"2", "3"}
    (tmp_path / "file").write_text("in the way")
    writer = save(Destination(tmp_path / "run", copy_folder=f"file://{tmp_path}/file/x"), world, range(4, 5))
    (_, stands), (kind, fields) = writer.take_news()
    assert stands == {"step": 4}
    assert (kind, fields["message"][:30]) == ("warning", "step 4 has no second copy: [Er")
    assert weight_of(newest_checkpoint(tmp_path / "run", world)) == 4


def test_a_model_is_found_by_the_url_of_its_run(url: str, world: World, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SSRNN_RUNS", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="no checkpoint in it; the URL of a run's folder is wanted"):
        find_checkpoint(url)
    save(Destination(tmp_path / "here", url), world, range(1, 3))
    found = find_checkpoint(url)
    assert (found.folder / "tokenizer.json").read_bytes() == b"{}"
    assert weight_of(found) == 2


def test_cut_connections_are_tried_again(s3: S3Server) -> None:
    proxy = FaultyProxy(s3.port)
    with s3_environment(proxy.port):
        folder = RemoteFolder(f"s3://runs/{uuid.uuid4().hex}", QUICK)
        for size in (10, 100 << 20):  # in one request, and in parts
            proxy.cut_after(1)
            folder.write("file", bytes(size))
            assert folder.sizes() == {"file": size}
        proxy.cut_after(1)
        assert folder.read("file") == bytes(100 << 20)
        assert proxy.faults_made == 3
    proxy.close()


def test_a_store_that_is_away_or_refuses_is_said_in_one_line(s3: S3Server, monkeypatch) -> None:
    with pytest.raises(UserError, match="s3://no-such-bucket/x: cannot be written .*; a bucket that exists"):
        RemoteFolder("s3://no-such-bucket", QUICK).write("x", b"data")
    with s3_environment(9):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")
        with pytest.raises(RemoteFailed, match="s3://runs/x: cannot be written: 3 attempts") as caught:
            RemoteFolder("s3://runs", QUICK).write("x", b"data")
    assert "hidden-key" not in str(caught.value)
    with pytest.raises(DataError, match="a user or password in the URL"):
        RemoteFolder("s3://me:secret@runs", QUICK).write("x", b"data")


def test_another_cluster_of_another_size_resumes_from_the_url(runs, s3: S3Server, tmp_path: Path, monkeypatch) -> None:
    """Two ranks save to S3 under ZeRO 1; one rank of an empty machine loads it under ZeRO 3, and all is there."""
    script, name = HERE / "save_and_train_on.py", f"far-{uuid.uuid4().hex[:6]}"
    config = runs.config(name)
    values = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**values, "run_root": "s3://runs/all"}))
    monkeypatch.setenv("SSRNN_RUNS", str(tmp_path / "first"))
    run_ranks(2, script, str(config), "1", "save")
    near = run_ranks(2, script, str(config), "1", "load")
    monkeypatch.setenv("SSRNN_RUNS", str(tmp_path / "second"))
    far = run_ranks(1, script, str(config), "3", "load")
    was, now = (re.search(r"loaded (.*)", output[0])[1].split() for output in (near, far))
    assert was[0] == now[0] == "4"
    assert [float(each) for each in now] == pytest.approx([float(each) for each in was], rel=1e-9)
    assert all(float(each) > 0 for each in now)
    manifest = json.loads(
        RemoteFolder(f"s3://runs/all/{name}/checkpoints/step-00000004", QUICK).read("checkpoint.json")
    )
    lanes = [each["lanes"] for key, each in manifest["files"].items() if key.startswith("rank-")]
    assert lanes == [[0, 7], [7, 13]]


def test_a_rank_fetches_only_the_files_that_it_reads(world: World, tmp_path: Path) -> None:
    url = f"memory://runs/{uuid.uuid4().hex}"
    save(Destination(tmp_path / "here", url), world, range(1, 2))
    store = RemoteFolder(url, QUICK).below("checkpoints/step-00000001")
    manifest = json.loads(store.read("checkpoint.json"))
    (first,) = [name for name in manifest["files"] if name.startswith("rank-")]
    other = {**manifest["files"][first], "tensors": {"weight/b@0": 5}, "lanes": [5, 9]}
    manifest["files"]["rank-00001.x.safetensors"] = other
    store.write("rank-00001.x.safetensors", store.read(first))
    store.write("checkpoint.json", json.dumps(manifest).encode())
    found = newest_checkpoint(tmp_path / "there", world, url)
    assert weight_of(found) == 1
    assert found is not None
    assert list(found.files_with_lanes(range(0, 5))) == [first]
    assert [path.name for path in (tmp_path / "there").rglob("rank-*")] == [first]


def test_the_patience_with_a_store_ends_within_minutes() -> None:
    assert replace(remote_module.PATIENT, attempts=1).stall_seconds <= 60
    waits = [remote_module.wait_seconds(remote_module.PATIENT, each, 1.0) for each in range(2, 10)]
    assert 60 < sum(waits) < 300


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://me:hidden@bucket/x", "a password in the URL; one without is allowed: keys come from the environment"),
        ("copies", "'copies'; an fsspec URL such as s3://bucket/folder is allowed, or null"),
        ("simplecache::s3://bucket", "'simplecache::s3://bucket'; an fsspec URL"),
    ],
)
def test_a_second_place_is_a_url_without_a_password(runs, uri: str, message: str) -> None:
    config = runs.config("wrong-uri")
    with pytest.raises(UserError, match=re.escape(f"checkpoint.uri: {message}")) as caught:
        load_config(config, [f"checkpoint.uri={uri}"])
    assert "hidden" not in str(caught.value)
