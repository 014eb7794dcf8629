"""Every rank's stream of a large world over many shards, made in one process: seconds and peak memory.

No shard is read: the streams are made, and each lane's place is found as when they begin. Imports ssrnn_data."""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssrnn_data import CorpusIndex, TokenStream
from ssrnn_data.lanes import ShardSequence, lane_offset, shard_order


def prepare(index: str, world_size: int, lanes: int, sequence_length: int) -> dict[str, Callable[..., dict[str, Any]]]:
    """index: an index.json whose shards need not be there."""

    def run() -> dict[str, Any]:
        began = time.perf_counter()
        loaded = CorpusIndex.load(index, check_files=False)
        places = [place for rank in range(world_size) for place in _places_of(loaded, rank, world_size)]
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "peak_bytes": peak_bytes(), "places": places}

    def _places_of(loaded: CorpusIndex, rank: int, world_size: int) -> list[tuple[int, int, int, int]]:
        """(rank, lane, shard, tokens to skip in it) of each lane."""
        stream = TokenStream(loaded, lanes=lanes, sequence_length=sequence_length, rank=rank, world_size=world_size)
        tokens = [shard.tokens for shard in loaded.split("train").shards]
        sequence = ShardSequence.of(tokens, shard_order(len(tokens), 0, 0))
        found = []
        for lane in stream.lanes:
            at, skip = sequence.locate(lane_offset(lane, 0, stream.windows_per_epoch, sequence_length))
            found.append((rank, lane, int(sequence.order[at]), skip))
        return found

    return {"run": run}


def peak_bytes() -> int:
    """The most memory that this process has held; getrusage would count what its parent held when it forked."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
