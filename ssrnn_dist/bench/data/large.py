"""A corpus of billions of tokens that takes the room of a few shards: the same tar under many names, in a true index.

Also what a position inside it must give, known without any reader. S shards, L lanes, T tokens a window."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from ssrnn_data import CorpusIndex, TokenStream
from ssrnn_data.lanes import lane_offset, shard_order, windows_per_epoch


def multiplied(index: CorpusIndex, n_shards: int, folder: Path) -> Path:
    """Writes an index whose train split is so often the first shard of `index`; its path. No shard is there yet."""
    folder.mkdir(parents=True)
    first = index.split("train").shards[0]
    totals = {what: getattr(first, what) * n_shards for what in ("tokens", "documents", "samples", "text_bytes")}
    entry = first.model_dump(mode="json")
    shards = [{**entry, "file": f"train-{at:06d}.tar"} for at in range(n_shards)]
    values = index.model_dump(mode="json") | {"splits": {"train": {**totals, "shards": shards}}}
    return CorpusIndex.model_validate(values).write(folder)


def place_shards(large: CorpusIndex, shard: Path, copied: Collection[int]) -> None:
    """Every name of the large index a hard link to the one shard; those that will be read are files of their own."""
    for at, entry in enumerate(large.split("train").shards):
        if at in copied:
            shutil.copyfile(shard, large.shard_path(entry))
        else:
            os.link(shard, large.shard_path(entry))


def position_in(index: CorpusIndex, lanes: int, sequence_length: int, tokens_seen: int) -> dict[str, Any]:
    """TokenStream's position after so many tokens, rounded down to a whole batch."""
    batches = tokens_seen // (lanes * sequence_length)
    windows = windows_per_epoch(index.split("train").tokens, lanes, sequence_length)
    epoch, window = divmod(batches, windows)
    start = TokenStream(index, lanes=lanes, sequence_length=sequence_length).position()
    return start | {"epoch": epoch, "window": window, "tokens_seen": batches * lanes * sequence_length}


def lane_starts(index: CorpusIndex, position: dict[str, Any]) -> np.ndarray:
    """(L,): where each lane's next window begins in the epoch."""
    lanes, length = position["lanes"], position["sequence_length"]
    windows = windows_per_epoch(index.split("train").tokens, lanes, length)
    return np.array([lane_offset(lane, position["window"], windows, length) for lane in range(lanes)])


def wanted_batch(starts_L: np.ndarray, shard_ids: np.ndarray, sequence_length: int) -> np.ndarray:
    """(L, T): every shard holds the same ids, so that in any order they are one row that repeats itself."""
    wanted: np.ndarray = shard_ids[(starts_L[:, None] + np.arange(sequence_length)) % len(shard_ids)]
    return wanted


def wanted_places(index: CorpusIndex, starts_L: np.ndarray, epoch: int = 0) -> tuple[list[int], list[int]]:
    """(shard, tokens to skip in it) of each lane, by division alone: every shard holds the same number of tokens."""
    shards = index.split("train").shards
    at, skip = np.divmod(starts_L, shards[0].tokens)
    return shard_order(len(shards), 0, epoch)[at].tolist(), skip.tolist()
