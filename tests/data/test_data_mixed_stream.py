"""The stream of a mixture: every token of every source where it should be, at any number of ranks, resumed anywhere."""

import gc
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssrnn_data import Batch, CorpusIndex, DataError, TokenStream, build_corpus
from ssrnn_data.lanes import shard_order
from ssrnn_data.mixture.preview import draw_mixture, preview_mixture
from ssrnn_data.mixture.shares import Weight
from ssrnn_data.mixture.sources import MixtureSource
from ssrnn_data.mixture.stream import MixtureStream, _source_seed

StoredIds = Callable[[CorpusIndex, str], list[np.ndarray]]
with_corpora = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ANNEALED: list[Weight] = [[(0, 3.0), (30_000, 0.5)], 1.0, [(0, 0.0), (40_000, 0.4)]]
SHAPE: dict[str, Any] = {"lanes": 16, "sequence_length": 32, "seed": 5, "segment_windows": 5}


@pytest.fixture(scope="session")
def corpora(corpus: CorpusIndex, tmp_path_factory: pytest.TempPathFactory) -> list[CorpusIndex]:
    """The small corpus and two smaller ones of the same tokenizer."""
    folder = tmp_path_factory.mktemp("corpora")
    found = [corpus]
    for name, documents, shard_tokens in (("letters", 30, 1_000), ("digits", 9, 500)):
        chance = random.Random(name)
        (folder / f"{name}-texts").mkdir()
        for number in range(documents):
            words = ("".join(chance.choices("abcde01234", k=4)) for _ in range(chance.randint(1, 120)))
            (folder / f"{name}-texts" / f"{number}.txt").write_text(" ".join(words), encoding="ascii")
        tokenizer = corpus.folder / "tokenizer.json"
        path = build_corpus(
            folder / f"{name}-texts", folder / name, tokenizer=tokenizer, shard_tokens=shard_tokens, holdout=0
        )
        found.append(CorpusIndex.load(path))
    return found


def sources_of(corpora: list[CorpusIndex], weights: list[Weight] | None = None) -> list[MixtureSource]:
    return [MixtureSource(index, weight) for index, weight in zip(corpora, weights or ANNEALED, strict=True)]


def epoch_ids(shards: list[np.ndarray], place: int, epoch: int, seed: int) -> np.ndarray:
    """A source's tokens in the order of an epoch."""
    return np.concatenate([shards[shard] for shard in shard_order(len(shards), _source_seed(seed, place), epoch)])


def rows_of(batch: Batch) -> Iterator[bytes]:
    """Each lane's T + 1 tokens."""
    return (row.numpy().tobytes() for row in torch.cat([batch.tokens_BT, batch.targets_BT[:, -1:]], dim=1))


def joined(streams: list[MixtureStream], count: int) -> list[Batch]:
    """The next batches of all ranks put together, rank by rank; all must stand alike after each."""
    batches = []
    for _ in range(count):
        parts = [next(stream) for stream in streams]
        batches.append(Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0]))))
    assert len({json.dumps(stream.position()) for stream in streams}) == 1
    return batches


def assert_same(found: list[Batch], wanted: list[Batch]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in vars(one))


@pytest.mark.parametrize("steps", [1, 30, 900])
def test_every_token_of_an_epoch_comes_once(corpora: list[CorpusIndex], stored_ids: StoredIds, steps: int) -> None:
    stream = MixtureStream(sources_of(corpora), **SHAPE)
    read = Counter(row for batch in islice(stream, steps) for row in rows_of(batch))
    at, T, R = stream.position(), SHAPE["sequence_length"], SHAPE["segment_windows"]
    under_way = {
        (source, epoch, window // R): window
        for source, epoch, window in zip(at["lane_sources"], at["lane_epochs"], at["lane_windows"], strict=True)
        if window >= 0
    }
    under_way |= {(s, epoch, window // R): window for s, left in enumerate(at["left"]) for epoch, window in left}
    wanted: Counter[bytes] = Counter()
    for place, index in enumerate(corpora):
        shards = stored_ids(index, "train")
        for epoch in range(at["epochs"][place] + 1):
            ids = epoch_ids(shards, place, epoch, SHAPE["seed"])
            stop = (len(ids) - 1) // T if epoch < at["epochs"][place] else at["next_windows"][place]
            for window in range(stop):
                if window < under_way.get((place, epoch, window // R), stop):
                    wanted[ids[window * T : (window + 1) * T + 1].tobytes()] += 1
    assert read == wanted
    assert steps < 900 or min(stream.epochs().values()) > 1
    stream.close()


def test_lanes_go_on_without_a_gap_and_reset_where_they_go_elsewhere(corpora: list[CorpusIndex]) -> None:
    stream = MixtureStream(sources_of(corpora), **SHAPE)
    before, begun, resumed = None, 0, 0
    for _ in range(90):
        at = stream.position()
        batch = next(stream)
        after = stream.position()
        starts_BT = batch.tokens_BT == corpora[0].end_of_text
        for lane in range(SHAPE["lanes"]):
            begins = at["lane_windows"][lane] == -1 or at["lane_sources"][lane] != after["lane_sources"][lane]
            assert bool(batch.reset_BT[lane, 0]) == (begins or bool(starts_BT[lane, 0]))
            if not begins:
                assert before is not None
                assert batch.tokens_BT[lane, 0] == before.targets_BT[lane, -1]
            begun += begins
            resumed += begins and after["lane_windows"][lane] % SHAPE["segment_windows"] != 1
        assert torch.equal(batch.tokens_BT[:, 1:], batch.targets_BT[:, :-1])
        assert torch.equal(batch.reset_BT[:, 1:], starts_BT[:, 1:])
        before = batch
    assert begun > resumed > 0


@pytest.fixture(scope="session")
def on_one_rank(corpora: list[CorpusIndex]) -> list[Batch]:
    """The first 60 batches."""
    with MixtureStream(sources_of(corpora), **SHAPE) as stream:
        return joined([stream], 60)


@with_corpora
@given(data=st.data())
def test_any_worlds_and_any_resumption_give_the_same_batches(
    corpora: list[CorpusIndex], on_one_rank: list[Batch], data: st.DataObject
) -> None:
    stops = sorted(data.draw(st.lists(st.integers(0, 60), max_size=4), "stops"))
    found: list[Batch] = []
    position = None
    for until in [*stops, 60]:
        world_size = data.draw(st.integers(1, 16), "world")
        streams = [
            MixtureStream(sources_of(corpora), rank=rank, world_size=world_size, position=position, **SHAPE)
            for rank in range(world_size)
        ]
        found += joined(streams, until - len(found))
        position = json.loads(json.dumps(streams[-1].position()))
        for stream in streams:
            stream.close()
    assert_same(found, on_one_rank)
    assert position is not None
    assert position["tokens_seen"] == 60 * 16 * 32


def test_thirteen_lanes_on_four_workers_then_five(corpora: list[CorpusIndex]) -> None:
    shape = SHAPE | {"lanes": 13}
    with MixtureStream(sources_of(corpora), **shape) as alone:
        wanted = joined([alone], 40)
    four = [MixtureStream(sources_of(corpora), rank=rank, world_size=4, **shape) for rank in range(4)]
    assert [len(stream.lanes) for stream in four] == [4, 3, 3, 3]
    found, position = joined(four, 17), four[2].position()
    five = [MixtureStream(sources_of(corpora), rank=r, world_size=5, position=position, **shape) for r in range(5)]
    assert_same(found + joined(five, 23), wanted)
    for stream in (*four, *five):
        stream.close()


def test_counts_and_epochs_are_those_of_the_shares(corpora: list[CorpusIndex]) -> None:
    stream = MixtureStream(sources_of(corpora, [2.0, 1.0, 1.0]), **SHAPE)
    names = [index.folder.name for index in corpora]
    assert stream.counts() == dict.fromkeys(names, 0)
    for step in range(1, 80):
        next(stream)
        assert stream.counts() == dict(zip(names, (8 * step, 4 * step, 4 * step), strict=True))
    windows = [(index.splits["train"].tokens - 1) // 32 for index in corpora]
    wanted = [79 * share / count for share, count in zip((8, 4, 4), windows, strict=True)]
    assert stream.epochs() == pytest.approx(dict(zip(names, wanted, strict=True)))
    assert stream.position()["tokens_seen"] == 79 * 16 * 32
    stream.close()


def test_one_source_alone_and_one_corpus_twice(corpora: list[CorpusIndex], stored_ids: StoredIds) -> None:
    with MixtureStream([MixtureSource(corpora[0])], lanes=1, sequence_length=50, segment_windows=4) as stream:
        ids = epoch_ids(stored_ids(corpora[0], "train"), 0, 0, 0)
        for window, batch in enumerate(islice(stream, 20)):
            assert batch.tokens_BT[0].tolist() == ids[window * 50 : window * 50 + 50].tolist()
            assert bool(batch.reset_BT[0, 0]) == (window % 4 == 0 or ids[window * 50] == corpora[0].end_of_text)
    twice = [MixtureSource(corpora[0], name="one"), MixtureSource(corpora[0], name="other")]
    with MixtureStream(twice, lanes=2, sequence_length=50) as stream:
        batch = next(stream)
        assert not torch.equal(batch.tokens_BT[0], batch.tokens_BT[1])
        assert stream.counts() == {"one": 1, "other": 1}


def test_sources_that_do_not_go_together_are_refused(
    corpora: list[CorpusIndex], text_folder: Path, tmp_path: Path
) -> None:
    foreign = build_corpus(text_folder, tmp_path / "foreign", vocab_size=290, holdout=0)
    shape: dict[str, Any] = {"lanes": 4, "sequence_length": 32}
    with pytest.raises(DataError, match=r"sources: small has tokenizer .*, foreign has .*; one tokenizer for all"):
        MixtureStream([MixtureSource(corpora[0]), MixtureSource(foreign)], **shape)
    with pytest.raises(DataError, match="sources: 2 have the name 'small'; each needs a name of its own"):
        MixtureStream([MixtureSource(corpora[0]), MixtureSource(corpora[0])], **shape)
    with pytest.raises(DataError, match="sources: none came"):
        MixtureStream([], **shape)
    tokens = corpora[2].splits["train"].tokens
    MixtureStream([MixtureSource(corpora[2])], lanes=4, sequence_length=tokens - 1).close()
    with pytest.raises(DataError, match=rf"digits, train split: .*; at least {tokens + 1:,} tokens are needed"):
        MixtureStream(sources_of(corpora), lanes=4, sequence_length=tokens)
    with pytest.raises(DataError, match="weight of digits: -1 came"):
        MixtureStream([MixtureSource(corpora[2], -1)], **shape)
    with pytest.raises(DataError, match="no split 'valid'"):
        MixtureStream(sources_of(corpora), split="valid", **shape)
    with pytest.raises(DataError, match="at most 4 ranks"):
        MixtureStream(sources_of(corpora), world_size=5, **shape)
    with pytest.raises(DataError, match="segment_windows: 0 came"):
        MixtureStream(sources_of(corpora), segment_windows=0, **shape)
    with pytest.raises(DataError, match="seed: -1 came"):
        MixtureStream(sources_of(corpora), seed=-1, **shape)


def test_a_position_of_another_stream_is_refused_and_new_weights_only_when_allowed(corpora: list[CorpusIndex]) -> None:
    with MixtureStream(sources_of(corpora), **SHAPE) as stream:
        joined([stream], 12)
        position, counts = stream.position(), stream.counts()
    with pytest.raises(DataError, match="it is of corpora "):
        MixtureStream(sources_of(corpora[::-1]), position=position, **SHAPE)
    plain = TokenStream(corpora[0], lanes=1, sequence_length=8).position()
    with pytest.raises(DataError, match=r"position: .* a position\(\) of a MixtureStream is allowed"):
        MixtureStream(sources_of(corpora), position=plain, **SHAPE)
    weights: list[Weight] = [0.0, 0.0, 1.0]
    with pytest.raises(DataError, match="it is of weights .*allow_new_weights=True"):
        MixtureStream(sources_of(corpora, weights), position=position, **SHAPE)
    anew = MixtureStream(sources_of(corpora, weights), position=position, allow_new_weights=True, **SHAPE)
    joined([anew], 7)
    assert anew.counts() == counts | {"digits": counts["digits"] + 7 * 16}
    again = MixtureStream(sources_of(corpora, weights), position=anew.position(), **SHAPE)
    assert_same(joined([again], 3), joined([anew], 3))
    anew.close()
    again.close()


def test_a_bad_shard_stops_it_where_it_is_and_once_mended_it_goes_on(
    corpora: list[CorpusIndex], on_one_rank: list[Batch], tmp_path: Path
) -> None:
    copy = CorpusIndex.load(Path(shutil.copytree(corpora[1].folder, tmp_path / "letters")))
    sources = sources_of([corpora[0], copy, corpora[2]])
    stream = MixtureStream(sources, **SHAPE)
    found = joined([stream], 4)
    stream.close()
    position = stream.position()
    whole = {shard.file: copy.shard_path(shard).read_bytes() for shard in copy.splits["train"].shards}
    for file, data in whole.items():
        (copy.folder / file).write_bytes(b"\x01" * len(data))
    with pytest.raises(DataError, match=r"letters/.*tar, "):
        next(stream)
    assert stream.position() == position
    for file, data in whole.items():
        (copy.folder / file).write_bytes(data)
    assert_same(found + joined([stream], 56), on_one_rank)
    stream.close()


def test_bad_samples_are_skipped_where_that_is_asked_for(corpora: list[CorpusIndex], tmp_path: Path) -> None:
    copy = CorpusIndex.load(Path(shutil.copytree(corpora[2].folder, tmp_path / "digits")))
    shard = copy.shard_path(copy.splits["train"].shards[0])
    shard.write_bytes(shard.read_bytes().replace(b"\x93NUMPY", b"\x00NUMPY", 1))
    shape: dict[str, Any] = {"lanes": 2, "sequence_length": 64}
    with MixtureStream([MixtureSource(copy)], **shape) as strict, pytest.raises(DataError, match="NUMPY"):
        joined([strict], 20)
    lenient = MixtureStream([MixtureSource(copy)], on_bad_sample="skip", max_bad_fraction=1.0, **shape)
    batches = joined([lenient], 20)
    assert lenient.bad.count == 1
    assert any((batch.targets_BT == -100).any() for batch in batches)
    assert all((batch.tokens_BT >= 0).all() for batch in batches)
    lenient.close()


def test_files_are_few_and_none_stays_open(corpora: list[CorpusIndex]) -> None:
    gc.collect()
    before = psutil.Process().num_fds()
    with MixtureStream(sources_of(corpora), **SHAPE) as stream:
        for _ in range(60):
            next(stream)
            left = sum(map(len, stream.position()["left"]))
            assert psutil.Process().num_fds() - before <= SHAPE["lanes"] + left + len(corpora)
    assert psutil.Process().num_fds() == before
    next(stream)
    assert psutil.Process().num_fds() > before
    del stream
    gc.collect()
    assert psutil.Process().num_fds() == before


def test_a_preview_says_what_the_stream_then_does(corpora: list[CorpusIndex], tmp_path: Path) -> None:
    tokens = 90 * 16 * 32
    preview = preview_mixture(sources_of(corpora), lanes=16, sequence_length=32, tokens=tokens - 5)
    assert json.loads(json.dumps(preview)) == preview
    assert (preview["steps"], preview["tokens"], preview["windows_counted"]) == (90, tokens, 90 * 16)
    assert 0 < preview["largest_error_windows"] <= preview["error_bound_windows"] < 1
    with MixtureStream(sources_of(corpora), **SHAPE) as stream:
        lanes, epochs, moved = [], [stream.epochs()], 0
        for _ in range(90):
            before = stream.position()["lane_sources"]
            next(stream)
            lanes.append(np.bincount(stream.position()["lane_sources"], minlength=3))
            moved += sum(a not in (b, -1) for a, b in zip(before, stream.position()["lane_sources"], strict=True))
            epochs.append(stream.epochs())
        counts = stream.counts()
    assert preview["handovers_per_step"] == pytest.approx(moved / 89)
    assert preview["sources"][1]["epoch_ends_at_steps"]
    for place, row in enumerate(preview["sources"]):
        assert row["tokens"] == counts[row["name"]] * 32
        assert row["share_got"] == pytest.approx(row["share_wanted"], abs=1 / (90 * 16))
        assert row["epochs"] == pytest.approx(epochs[-1][row["name"]])
        for epoch, end in enumerate(row["epoch_ends_at_steps"], start=1):
            assert abs(end - sum(each[row["name"]] < epoch for each in epochs)) <= 1
        assert abs(row["lanes"]["at_first"] - lanes[0][place]) < 2
        assert abs(row["lanes"]["at_last"] - lanes[-1][place]) < 2
        assert preview["curve"]["epochs"][row["name"]][-1] == pytest.approx(row["epochs"], abs=0.1)
    draw_mixture(preview).savefig(tmp_path / "mix.svg")
    drawn = (tmp_path / "mix.svg").read_text(encoding="utf-8")
    assert all(f"<!-- {said} -->" in drawn for said in ("small", "letters", "digits", "epochs", "tokens seen"))


def test_a_preview_of_ten_billion_tokens_counts_what_it_can(
    corpora: list[CorpusIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssrnn_data.mixture.preview.COUNTED_WINDOWS", 100_000)
    preview = preview_mixture(sources_of(corpora), lanes=32, sequence_length=512, tokens=10**10)
    assert (preview["windows"], preview["windows_counted"]) == (19_531_264, 100_000)
    assert sum(row["share_got"] for row in preview["sources"]) == pytest.approx(1)
    assert all(row["share_got"] == pytest.approx(row["share_wanted"], abs=1e-6) for row in preview["sources"])
    assert all(len(row["epoch_ends_at_steps"]) == 16 for row in preview["sources"])
