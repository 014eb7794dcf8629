"""The training stream: every token where it should be, at any number of ranks, and resumed at any step."""

import gc
import json
import warnings
from collections.abc import Callable

import numpy as np
import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssrnn_data import Batch, CorpusIndex, DataError, TokenStream, deal_lanes
from ssrnn_data.lanes import shard_order

StoredIds = Callable[[CorpusIndex, str], list[np.ndarray]]
with_corpus = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def expected(shards: list[np.ndarray], lanes: int, steps: int, seed: int, epochs: int, end_of_text: int) -> list:
    """The definition, written out: (tokens, targets, reset) of every step, all lanes."""
    batches = []
    for epoch in range(epochs):
        row = np.concatenate([shards[shard] for shard in shard_order(len(shards), seed, epoch)])
        windows = (len(row) - 1) // (lanes * steps)
        for window in range(windows):
            starts = np.array([(lane * windows + window) * steps for lane in range(lanes)])
            at = starts[:, None] + np.arange(steps)
            reset = row[at] == end_of_text
            reset[:, 0] |= window == 0
            batches.append((row[at], row[at + 1], reset))
    return batches


def joined(streams: list[TokenStream], count: int | None = None) -> list[Batch]:
    """The batches of all ranks put together, rank by rank, after checking that they end at the same step."""
    ranks = [list(stream) if count is None else [next(stream) for _ in range(count)] for stream in streams]
    assert len({len(batches) for batches in ranks}) == 1
    assert len({json.dumps(stream.position()) for stream in streams}) == 1
    return [
        Batch(*(torch.cat([getattr(batch, name) for batch in parts]) for name in Batch.__dataclass_fields__))
        for parts in zip(*ranks, strict=True)
    ]


def assert_same(batches: list[Batch], wanted: list, lanes: int) -> None:
    assert len(batches) == len(wanted)
    for batch, (tokens, targets, reset) in zip(batches, wanted, strict=True):
        assert np.array_equal(batch.tokens_BT.numpy(), tokens)
        assert np.array_equal(batch.targets_BT.numpy(), targets)
        assert np.array_equal(batch.reset_BT.numpy(), reset)
        assert batch.lane_ids_B.tolist() == list(range(lanes))


@with_corpus
@given(data=st.data())
def test_any_worlds_and_any_resumption_give_the_defined_batches(
    corpus: CorpusIndex, stored_ids: StoredIds, data: st.DataObject
) -> None:
    lanes = data.draw(st.one_of(st.integers(1, 16), st.sampled_from([13, 64])), "lanes")
    steps = data.draw(st.sampled_from([1_500 // lanes, 4_000 // lanes, 251]), "sequence_length")
    seed = data.draw(st.integers(0, 5), "seed")
    worlds = [data.draw(st.integers(1, lanes), "world") for _ in range(3)]
    wanted = expected(stored_ids(corpus, "train"), lanes, steps, seed, 2, corpus.end_of_text)
    stops = sorted(data.draw(st.lists(st.integers(0, len(wanted)), min_size=2, max_size=2), "stops"))
    found: list[Batch] = []
    position = None
    for world_size, until in zip(worlds, [*stops, None], strict=True):
        streams = [
            TokenStream(
                corpus,
                lanes=lanes,
                sequence_length=steps,
                rank=rank,
                world_size=world_size,
                seed=seed,
                epochs=2,
                position=position,
            )
            for rank in range(world_size)
        ]
        found += joined(streams, None if until is None else until - len(found))
        position = json.loads(json.dumps(streams[0].position()))
        for stream in streams:
            stream.close()
    assert_same(found, wanted, lanes)
    assert position is not None
    assert position["epoch"] == 2
    assert position["tokens_seen"] == len(wanted) * lanes * steps


def test_thirteen_lanes_on_four_workers_then_five(corpus: CorpusIndex, stored_ids: StoredIds) -> None:
    wanted = expected(stored_ids(corpus, "train"), 13, 64, 7, 1, corpus.end_of_text)
    shape = {"lanes": 13, "sequence_length": 64, "seed": 7, "epochs": 1}
    four = [TokenStream(corpus, rank=rank, world_size=4, **shape) for rank in range(4)]
    assert [len(stream.lanes) for stream in four] == [4, 3, 3, 3]
    found = joined(four, 5)
    five = [TokenStream(corpus, rank=r, world_size=5, position=four[2].position(), **shape) for r in range(5)]
    assert_same(found + joined(five), wanted, 13)


def test_lanes_go_on_without_a_gap_and_dtypes_are_as_promised(corpus: CorpusIndex) -> None:
    stream = TokenStream(corpus, lanes=4, sequence_length=32)
    before = next(stream)
    assert before.reset_BT[:, 0].all()
    for _ in range(stream.windows_per_epoch - 1):
        batch = next(stream)
        assert torch.equal(batch.tokens_BT[:, 0], before.targets_BT[:, -1])
        assert torch.equal(batch.tokens_BT[:, 1:], batch.targets_BT[:, :-1])
        before = batch
    assert stream.position()["epoch"] == 1
    assert (batch.tokens_BT.dtype, batch.targets_BT.dtype, batch.reset_BT.dtype) == (
        torch.int64,
        torch.int64,
        torch.bool,
    )
    assert batch.tokens_BT.is_contiguous()
    assert batch.lane_ids_B.tolist() == list(deal_lanes(4, 1, 0))


def test_a_batch_is_not_changed_by_the_next(corpus: CorpusIndex) -> None:
    stream = TokenStream(corpus, lanes=3, sequence_length=50)
    first = next(stream)
    copy = first.tokens_BT.clone()
    next(stream)
    assert torch.equal(first.tokens_BT, copy)


def test_endless_without_epochs_and_epochs_differ(corpus: CorpusIndex) -> None:
    stream = TokenStream(corpus, lanes=2, sequence_length=500)
    epochs = [[next(stream).tokens_BT for _ in range(stream.windows_per_epoch)] for _ in range(3)]
    assert stream.position()["epoch"] == 3
    assert not torch.equal(torch.stack(epochs[0]), torch.stack(epochs[1]))


def test_a_corpus_smaller_than_a_batch_says_what_is_needed(corpus: CorpusIndex) -> None:
    tokens = corpus.splits["train"].tokens
    with pytest.raises(DataError, match=rf"train split: {tokens:,} tokens .* needs 1,024,001; .* would do"):
        TokenStream(corpus, lanes=1_000, sequence_length=1_024)


@pytest.mark.parametrize("name", ["corpus", "lanes", "sequence_length", "seed", "split", "version"])
def test_a_position_of_another_stream_is_refused(corpus: CorpusIndex, name: str) -> None:
    position = TokenStream(corpus, lanes=4, sequence_length=16).position()
    other = {**position, name: "other" if isinstance(position[name], str) else position[name] + 1}
    with pytest.raises(DataError, match=f"position: it is of {name}") as caught:
        TokenStream(corpus, lanes=4, sequence_length=16, position=other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "broken", [{}, {"epoch": 1}, {"window": 10**9}, {"window": -1}, {"tokens_seen": 7}, {"window": "1"}, {"extra": 1}]
)
def test_a_position_that_is_none_is_refused(corpus: CorpusIndex, broken: dict) -> None:
    stream = TokenStream(corpus, lanes=4, sequence_length=16)
    position = {**stream.position(), **broken} if broken else {}
    with pytest.raises(DataError, match="position"):
        TokenStream(corpus, lanes=4, sequence_length=16, position=position)


def test_wrong_arguments_name_what_is_allowed(corpus: CorpusIndex) -> None:
    with pytest.raises(DataError, match="it has: train, valid"):
        TokenStream(corpus, split="test", lanes=1, sequence_length=8)
    with pytest.raises(DataError, match="at most 2 ranks"):
        TokenStream(corpus, lanes=2, sequence_length=8, rank=0, world_size=3)
    with pytest.raises(DataError, match="sequence_length"):
        TokenStream(corpus, lanes=2, sequence_length=0)
    with pytest.raises(DataError, match="seed"):
        TokenStream(corpus, lanes=2, sequence_length=8, seed=-1)


def test_abandoned_streams_leave_no_open_file(corpus: CorpusIndex) -> None:
    gc.collect()
    before = psutil.Process().num_fds()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        stream = TokenStream(corpus, lanes=8, sequence_length=16)
        next(stream)
        assert psutil.Process().num_fds() > before
        del stream
        gc.collect()
        assert psutil.Process().num_fds() == before
        with TokenStream(corpus, lanes=8, sequence_length=16) as stream:
            next(stream)
            following = stream.position()
        assert psutil.Process().num_fds() == before
        again = TokenStream(corpus, lanes=8, sequence_length=16, position=following)
        assert torch.equal(next(stream).tokens_BT, next(again).tokens_BT)
