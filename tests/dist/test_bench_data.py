"""`ssrnn bench data`'s inside: it times what is right, refuses what is wrong, and leaves out what is not installed."""

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssrnn_data import CorpusIndex, TokenStream, build_corpus
from ssrnn_dist.bench.data import building, fresh, reading, resuming
from ssrnn_dist.bench.data.building import Way
from ssrnn_dist.bench.data.large import lane_starts, multiplied, place_shards, position_in, wanted_batch
from ssrnn_dist.bench.data.measure import Plan
from ssrnn_dist.bench.data.peers import PEERS, READERS, Peer, installed, pythons_of
from ssrnn_dist.bench.data.picture import draw_readers
from ssrnn_dist.bench.data.reading import OWN, Setting, Speed
from ssrnn_dist.bench.data.stored import own_windows, stored_shards, texts
from ssrnn_dist.problems import RunFailed, UserError
from ssrnn_launch.cli import bench_data
from ssrnn_launch.cli.main import main

LANES, LENGTH = 4, 32


@pytest.fixture(scope="module")
def index(corpus: Path) -> CorpusIndex:
    return CorpusIndex.load(corpus)


@pytest.fixture(scope="module")
def shards(index: CorpusIndex) -> list[np.ndarray]:
    return stored_shards(index)


def test_the_stored_ids_are_the_corpuss(index: CorpusIndex, shards: list[np.ndarray]) -> None:
    assert [len(ids) for ids in shards] == [shard.tokens for shard in index.split("train").shards]
    assert sum(int((ids == index.end_of_text).sum()) for ids in shards) == index.split("train").documents


@pytest.mark.parametrize("world_size", [1, 3])
def test_own_windows_are_what_the_ranks_read_together(
    index: CorpusIndex, shards: list[np.ndarray], world_size: int
) -> None:
    streams = [
        TokenStream(index, lanes=LANES, sequence_length=LENGTH, rank=rank, world_size=world_size, epochs=2)
        for rank in range(world_size)
    ]
    per_epoch = streams[0].windows_per_epoch
    batches = [list(stream) for stream in streams]
    for epoch in range(2):
        read = [batch.tokens_BT.numpy() for each in batches for batch in each[epoch * per_epoch :][:per_epoch]]
        wanted = own_windows(shards, LANES, LENGTH, 0, epoch)
        assert sorted(map(bytes, np.concatenate(read))) == sorted(map(bytes, wanted.astype(np.int64)))


@pytest.mark.parametrize(
    ("read", "wanted", "wrong"),
    [([1, 2, 2], [2, 1, 2], 0), ([1, 2], [1, 2, 2], 1), ([1, 1, 3], [1, 2, 3], 1), ([], [5, 5], 2), ([7], [8], 1)],
)
def test_what_differs_is_counted_with_repeats(read: list[int], wanted: list[int], wrong: int) -> None:
    assert reading.differing(np.array(read, np.uint64), np.array(wanted, np.uint64)) == wrong


def test_a_readers_fastest_setting_is_measured_on_and_compared_with() -> None:
    own, slow, fast = Setting(OWN, 1, 0), Setting("litdata", 1, 0), Setting("litdata", 1, 2)
    speeds = {own: Speed(30.0, 40.0, 0.1), slow: Speed(9.0, 5.0, 0.2), fast: Speed(6.0, 10.0, 0.3)}
    found = reading.in_rounds([own, slow, fast], 3, speeds.__getitem__)
    assert {setting: len(each) for setting, each in found.items()} == {own: 3, slow: 1, fast: 3}
    rows = {(row["reader"], row["loader_processes"]): row for row in reading.as_rows(found)}
    assert [rows["litdata", 2][key] for key in ("cold_ratio", "warm_ratio", "is_best")] == [5.0, 4.0, True]
    assert not rows["litdata", 0]["is_best"]


def shelf_of(index: CorpusIndex, shards: list[np.ndarray], peers: list[Peer], work: Path) -> reading.Shelf:
    return reading.shelve(index.folder, shards, LANES, LENGTH, peers, work)


def test_two_ranks_are_timed_and_compared(index: CorpusIndex, shards: list[np.ndarray], tmp_path: Path) -> None:
    shelf = shelf_of(index, shards, [], tmp_path)
    speed = reading.measure_setting(shelf, sys.executable, Setting(OWN, 2, 0), warm_seconds=0.0)
    assert min(vars(speed).values()) > 0
    row = {"is_best": True, "reader": OWN, "world_size": 2, **vars(speed)}
    draw_readers([row], tmp_path / "readers.svg")
    assert "ssrnn, 2 workers" in (tmp_path / "readers.svg").read_text()


@pytest.mark.parametrize("name", READERS)
def test_a_peers_windows_are_the_corpuss(
    index: CorpusIndex, shards: list[np.ndarray], name: str, tmp_path: Path
) -> None:
    found, _ = installed({name: sys.executable})
    if name not in found:
        pytest.skip(f"{name} is not installed")
    shelf = shelf_of(index, shards, [found[name]], tmp_path)
    speed = reading.measure_setting(shelf, sys.executable, Setting(name, 2, 1), warm_seconds=0.0)
    assert min(vars(speed).values()) > 0


def test_building_the_texts_again_gives_the_same_tokens(
    index: CorpusIndex, shards: list[np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "texts.jsonl"
    n_bytes = building.write_texts(texts(index, shards, 1 << 30), path)
    assert n_bytes == index.split("train").text_bytes
    found = building.measure(path, index.folder / index.tokenizer.file, None, (0,), rounds=1)
    (row,) = building.as_rows(found, n_bytes)
    assert (row["tokens"], row["ratio"]) == (index.split("train").tokens, 1.0)


def test_other_counts_of_tokens_are_not_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers = {OWN: {"seconds": 1.0, "tokens": 70}, "datasets": {"seconds": 2.0, "tokens": 71}}
    monkeypatch.setattr(building, "_one", lambda way, *_: answers[way.builder])
    with pytest.raises(RunFailed, match="70 and 71 tokens of the same texts: nothing is told"):
        building.measure(tmp_path, tmp_path, Peer("datasets", "5", "python"), (0, 2), rounds=1)


def test_a_build_is_compared_with_map_alone_and_with_loading() -> None:
    found = {
        Way(OWN, 0): [{"seconds": 2.0, "tokens": 7}],
        Way("datasets", 2): [{"seconds": 3.0, "seconds_with_loading": 5.0, "tokens": 7}],
    }
    row = building.as_rows(found, 20)[1]
    assert (row["ratio"], row["ratio_with_loading"]) == (1.5, 2.5)


@pytest.fixture(scope="module")
def one(index: CorpusIndex, shards: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> CorpusIndex:
    folder = tmp_path_factory.mktemp("one")
    building.write_texts(texts(index, shards, 1 << 30), folder / "texts.jsonl")
    tokenizer = index.folder / index.tokenizer.file
    return CorpusIndex.load(
        build_corpus(folder / "texts.jsonl", folder / "built", tokenizer=tokenizer, holdout=0, shard_tokens=3000)
    )


@pytest.mark.parametrize("tokens_seen", [0, 40_000, 130_000])
def test_a_position_in_the_large_corpus_is_the_streams_own(one: CorpusIndex, tokens_seen: int, tmp_path: Path) -> None:
    """The last one lies in the second epoch."""
    large = CorpusIndex.load(multiplied(one, 40, tmp_path / "large"), check_files=False)
    shard = one.split("train").shards[0]
    place_shards(large, one.shard_path(shard), {0, 3})
    position = position_in(large, LANES, LENGTH, tokens_seen)
    assert (tokens_seen < large.split("train").tokens) == (position["epoch"] == 0)
    stream = TokenStream(large.folder, lanes=LANES, sequence_length=LENGTH, position=position)
    assert stream.position() == position
    ids = stored_shards(one)[0]
    assert np.array_equal(next(stream).tokens_BT, wanted_batch(lane_starts(large, position), ids, LENGTH))


RESUME = {"n_tokens": 100_000, "tokens_seen": 50_000, "lanes": LANES, "sequence_length": LENGTH, "rounds": 1}


def test_resuming_is_timed(one: CorpusIndex, tmp_path: Path) -> None:
    told = resuming.resume(one, tmp_path / "large", **RESUME)
    assert told["tokens_seen"] == 50_000 // (LANES * LENGTH) * LANES * LENGTH
    assert told["corpus_tokens"] >= 100_000
    assert 0 < told["index_seconds"] < told["most_seconds"]


def test_another_batch_is_not_timed(one: CorpusIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "wanted_batch", lambda *given: wanted_batch(*given) + 1)
    with pytest.raises(RunFailed, match="resume at 49,920 tokens: another batch came: nothing is told"):
        resuming.resume(one, tmp_path / "large", **RESUME)


def test_dealing_is_timed_where_every_lane_begins_at_its_place(
    one: CorpusIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = resuming.deal(one, tmp_path / "dealt", n_shards=50, world_size=16, sequence_length=LENGTH)
    assert (told["shards"], told["workers"]) == (50, 16)
    assert told["seconds"] > 0
    assert told["peak_bytes"] > 1e7
    monkeypatch.setattr(resuming, "lane_starts", lambda *given: lane_starts(*given) + 1)
    with pytest.raises(RunFailed, match="50 shards to 16 workers: lanes begin elsewhere: nothing is told"):
        resuming.deal(one, tmp_path / "again", n_shards=50, world_size=16, sequence_length=LENGTH)


def test_a_process_that_fails_says_why_and_a_late_one_is_ended(one: CorpusIndex, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="nosuch, in a process of its own: ModuleNotFoundError"):
        fresh.once(sys.executable, "nosuch", {})
    late = fresh.Fresh(sys.executable, "build", {"texts": "", "tokenizer": "", "folder": ""}, {}, most_seconds=0.01)
    with pytest.raises(RunFailed, match="build, in a process of its own: no answer in 0.01 s"):
        late.answer()
    late.close()
    assert late.returncode == -9


def test_peers_that_are_not_installed_are_left_out_with_a_line() -> None:
    found, left_out = installed(pythons_of([]))
    here = {name for name in PEERS if name in {each.name for each in metadata.distributions()}}
    assert set(found) == here
    assert [line.split()[0] for line in left_out] == [name for name in PEERS if name not in here]
    assert all("pip install" in line for line in left_out)


@pytest.mark.parametrize("given", ["litdata", "litdata=", "other=python"])
def test_another_form_of_python_is_the_users_mistake(given: str) -> None:
    with pytest.raises(UserError, match=f"--python: '{given}'; NAME=PATH is allowed"):
        pythons_of([given])


def test_a_path_that_is_no_python_and_lanes_that_do_not_divide_are_the_users_mistakes() -> None:
    with pytest.raises(UserError, match="--python: '/no/python' .*; the path of a Python is allowed"):
        installed({"litdata": "/no/python"})
    with pytest.raises(UserError, match="--lanes: 5; a multiple of 2 workers is allowed"):
        Plan(("reading",), 5, 8, (1, 2), (0,), (0,), 1, 0.0).check()


def one_id_changed(*given: Any) -> np.ndarray:
    windows = own_windows(*given).copy()
    windows[3, 5] ^= 1
    return windows


def test_the_command_tells_all_or_nothing(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench_data.data.__name__ == "data"  # it is among bench.py's commands
    command = ["bench", "data", "--corpus", str(corpus), "--only", "reading", "--quick", "--lanes", "4"]
    command += ["--sequence-length", "32", "--out", str(tmp_path / "out.json")]
    assert main(command) == 0
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["reading"][0]["reader"] == OWN
    assert OWN in capfd.readouterr().out
    (tmp_path / "out.json").unlink()
    monkeypatch.setattr(reading, "own_windows", one_id_changed)
    assert main(command) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert "error: ssrnn, world 1, 0 loader processes: 1 of" in said.err
    assert not (tmp_path / "out.json").exists()
