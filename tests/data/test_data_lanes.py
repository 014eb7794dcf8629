"""The pure decisions: dealing lanes, counting windows, ordering shards, splitting by documents and by hash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_data import DataError, deal_lanes
from ssrnn_data.lanes import ShardSequence, shard_order, split_at_documents, windows_per_epoch
from ssrnn_data.split import split_of


@given(st.integers(1, 200), st.integers(1, 64))
def test_lanes_are_dealt_once_evenly_and_in_order(lanes: int, world_size: int) -> None:
    if world_size > lanes:
        with pytest.raises(DataError, match="world_size"):
            deal_lanes(lanes, world_size, 0)
        return
    dealt = [deal_lanes(lanes, world_size, rank) for rank in range(world_size)]
    assert [lane for part in dealt for lane in part] == list(range(lanes))
    assert {len(part) for part in dealt} <= {lanes // world_size, -(-lanes // world_size)}


@pytest.mark.parametrize(("rank", "world_size"), [(-1, 2), (2, 2), (0, 0), (True, 2)])
def test_a_rank_outside_the_world_is_refused(rank: int, world_size: int) -> None:
    with pytest.raises(DataError):
        deal_lanes(4, world_size, rank)


def test_too_few_tokens_says_what_is_needed_and_what_would_do() -> None:
    assert windows_per_epoch(4 * 8 + 1, 4, 8) == 1
    with pytest.raises(DataError, match=r"needs 33; .*up to 31 such as 3 lanes × 8 or 4 lanes × 7 would do"):
        windows_per_epoch(4 * 8, 4, 8)
    with pytest.raises(DataError, match="more text"):
        windows_per_epoch(1, 4, 8)


def test_shard_order_is_the_same_everywhere() -> None:
    assert shard_order(6, 0, 0).tolist() == [3, 2, 1, 0, 4, 5]  # a change here would break every saved position
    assert shard_order(50, 1, 2).tolist() == shard_order(50, 1, 2).tolist()
    assert shard_order(50, 1, 2).tolist() != shard_order(50, 1, 3).tolist()
    assert shard_order(50, 1, 2).tolist() != shard_order(50, 2, 2).tolist()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 99), st.data())
def test_locate_finds_the_token(shard_tokens: list[int], seed: int, data: st.DataObject) -> None:
    sequence = ShardSequence.of(shard_tokens, shard_order(len(shard_tokens), seed, 0))
    row = [(int(shard), skip) for shard in sequence.order for skip in range(shard_tokens[int(shard)])]
    offset = data.draw(st.integers(0, len(row) - 1))
    place, skip = sequence.locate(offset)
    assert (int(sequence.order[place]), skip) == row[offset]
    assert sequence.tokens == len(row)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 30))
def test_documents_are_split_whole(lengths: list[int], lanes: int) -> None:
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    tokens = sum(lengths)
    asked: list[int] = []

    def document_start(offset: int) -> int:
        asked.append(offset)
        return min((start for start in starts if start >= offset), default=tokens)

    ranges = split_at_documents(tokens, lanes, document_start)
    assert 1 <= len(ranges) <= min(lanes, len(lengths))
    assert [token for part in ranges for token in part] == list(range(tokens))
    assert all(part.start in starts for part in ranges)
    assert asked == sorted(asked)
    assert max(map(len, ranges)) <= -(-tokens // lanes) + max(lengths)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 9))
def test_split_of_is_monotonic_in_holdout(digest: bytes, seed: int) -> None:
    splits = [split_of(digest, seed, holdout / 10) for holdout in range(11)]
    assert splits[0] == "train"
    assert splits == sorted(splits)
