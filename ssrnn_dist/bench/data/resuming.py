"""Seconds to the first batch of a stream that goes on far inside a corpus, and shards dealt to a large world.

Fresh processes. RunFailed where the batch is not the one at that position, or a lane is dealt wrongly."""

import statistics
import sys
from pathlib import Path
from typing import Any

from ssrnn_data import CorpusIndex
from ssrnn_dist.bench.data.fresh import once
from ssrnn_dist.bench.data.large import (
    lane_starts,
    multiplied,
    place_shards,
    position_in,
    wanted_batch,
    wanted_places,
)
from ssrnn_dist.bench.data.stored import drop_cached_pages, shard_ids
from ssrnn_dist.problems import RunFailed


def resume(
    index: CorpusIndex, folder: Path, *, n_tokens: int, tokens_seen: int, lanes: int, sequence_length: int, rounds: int
) -> dict[str, Any]:
    """index: its first shard makes a corpus of n_tokens or more in folder; a stream goes on after tokens_seen."""
    first = index.split("train").shards[0]
    shard = index.shard_path(first)
    n_shards = -(-n_tokens // first.tokens)
    large = CorpusIndex.load(multiplied(index, n_shards, folder), check_files=False)
    position = position_in(large, lanes, sequence_length, tokens_seen)
    starts = lane_starts(large, position)
    read = {at for edge in (0, sequence_length) for at in wanted_places(large, starts + edge, position["epoch"])[0]}
    place_shards(large, shard, read)
    wanted = wanted_batch(starts, shard_ids(shard), sequence_length).tolist()
    arguments = {"folder": str(folder), "lanes": lanes, "sequence_length": sequence_length, "position": position}
    times: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(rounds):
        drop_cached_pages(folder)
        for seconds in times.values():
            answer = once(sys.executable, "resume", arguments)
            if answer["tokens_BT"] != wanted:
                raise RunFailed(f"resume at {position['tokens_seen']:,} tokens: another batch came: nothing is told")
            seconds.append(answer["seconds"])
    return {
        "corpus_tokens": large.split("train").tokens, "shards": n_shards, "shard_tokens": first.tokens,
        "tokens_seen": position["tokens_seen"], "lanes": lanes, "sequence_length": sequence_length, "rounds": rounds,
        "cold_seconds": statistics.median(times["cold"]), "warm_seconds": statistics.median(times["warm"]),
        "most_seconds": max(times["cold"] + times["warm"]), "index_seconds": answer["index_seconds"],
    }  # fmt: skip


def deal(index: CorpusIndex, folder: Path, *, n_shards: int, world_size: int, sequence_length: int) -> dict[str, Any]:
    """n_shards, none of them there, to world_size ranks of a lane each."""
    file = multiplied(index, n_shards, folder)
    arguments = {"index": str(file), "world_size": world_size, "lanes": world_size, "sequence_length": sequence_length}
    answer = once(sys.executable, "deal", arguments)
    large = CorpusIndex.load(file, check_files=False)
    starts = lane_starts(large, {"lanes": world_size, "sequence_length": sequence_length, "window": 0})
    ranks = range(world_size)
    wanted = [list(each) for each in zip(ranks, ranks, *wanted_places(large, starts), strict=True)]
    if answer["places"] != wanted:
        raise RunFailed(f"{n_shards:,} shards to {world_size:,} workers: lanes begin elsewhere: nothing is told")
    return {
        "shards": n_shards, "workers": world_size, "corpus_tokens": large.split("train").tokens,
        "seconds": answer["seconds"], "peak_bytes": answer["peak_bytes"],
    }  # fmt: skip
