"""The evaluation stream counts every target once, whatever the lanes and ranks."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssrnn_data import CorpusIndex, DataError, EvaluationStream
from ssrnn_data.stream import IGNORED_TARGET

StoredIds = Callable[[CorpusIndex, str], list[np.ndarray]]


def documents(shards: list[np.ndarray], end_of_text: int) -> Counter:
    """Each document as (inputs, targets): the targets are one later and end with one <|endoftext|>."""
    row = np.concatenate(shards)
    parts = np.split(row, np.flatnonzero(row == end_of_text)[1:])
    return Counter((tuple(ids.tolist()), (*ids[1:].tolist(), end_of_text)) for ids in parts)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lanes=st.integers(1, 40), steps=st.integers(20, 300), world_size=st.integers(1, 8))
def test_every_target_counts_once(
    corpus: CorpusIndex, stored_ids: StoredIds, lanes: int, steps: int, world_size: int
) -> None:
    shape = {"lanes": lanes, "sequence_length": steps, "world_size": world_size}
    streams = [EvaluationStream(corpus, rank=rank, **shape) for rank in range(world_size)]
    assert len({len(stream) for stream in streams}) == 1
    found: Counter = Counter()
    targets = 0
    for stream in streams:
        batches = list(stream)
        assert len(batches) == len(stream)
        sizes = [len(batch.lane_ids_B) for batch in batches]
        assert sizes == sorted(sizes, reverse=True)
        assert all(
            torch.equal(batch.lane_ids_B, batches[0].lane_ids_B[:size])
            for batch, size in zip(batches, sizes, strict=True)
        )
        assert sizes[0] == len(stream.lanes)
        for lane in range(len(stream.lanes)):
            rows = [batch for batch, size in zip(batches, sizes, strict=True) if lane < size]
            tokens, wanted = (
                torch.cat([getattr(batch, name)[lane] for batch in rows]) for name in ("tokens_BT", "targets_BT")
            )
            assert torch.equal(torch.cat([batch.reset_BT[lane] for batch in rows]), tokens == corpus.end_of_text)
            counted = wanted != IGNORED_TARGET
            assert counted[-steps:].any(), "a window without a target"
            assert not counted.long().diff().gt(0).any()
            assert (tokens[~counted] == corpus.end_of_text).all()
            row, goal = tokens[counted].numpy(), wanted[counted].numpy()
            edges = np.flatnonzero(row == corpus.end_of_text)
            assert edges[0] == 0
            for ids, ends in zip(np.split(row, edges[1:]), np.split(goal, edges[1:]), strict=True):
                found[(tuple(ids.tolist()), tuple(ends.tolist()))] += 1
            targets += int(counted.sum())
    assert found == documents(stored_ids(corpus, "valid"), corpus.end_of_text)
    assert targets == streams[0].tokens_total == corpus.splits["valid"].tokens
    assert streams[0].text_bytes == corpus.splits["valid"].text_bytes


def test_more_ranks_than_documents_yield_empty_batches(corpus: CorpusIndex) -> None:
    stream = EvaluationStream(corpus, lanes=1, sequence_length=64, rank=3, world_size=4)
    assert len(stream.lanes) == 0
    batches = list(stream)
    assert len(batches) == len(stream) > 0
    assert all(batch.tokens_BT.shape == (0, 64) for batch in batches)


def test_it_can_be_read_again_and_over_the_train_split(corpus: CorpusIndex) -> None:
    stream = EvaluationStream(corpus, split="train", lanes=5, sequence_length=100)
    first, second = list(stream), list(stream)
    assert all(torch.equal(a.tokens_BT, b.tokens_BT) for a, b in zip(first, second, strict=True))
    counted = sum(int((batch.targets_BT != IGNORED_TARGET).sum()) for batch in first)
    assert counted == corpus.splits["train"].tokens


def test_lanes_are_balanced(corpus: CorpusIndex) -> None:
    stream = EvaluationStream(corpus, split="train", lanes=4, sequence_length=10)
    assert len(stream) * 10 * 4 < 1.5 * corpus.splits["train"].tokens


def test_a_missing_split_is_named(corpus: CorpusIndex) -> None:
    with pytest.raises(DataError, match="no split 'test'"):
        EvaluationStream(corpus, split="test", lanes=1, sequence_length=8)
