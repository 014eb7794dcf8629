"""Turns the ids of documents into the samples and shards of one split.

A document is `<|endoftext|>` and its ids; a long one is cut into chunks of which only the first begins so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ssrnn_data.index import ShardEntry, SplitEntry
from ssrnn_data.shards import ShardFile, file_sha256
from ssrnn_data.split import Split
from ssrnn_data.tokenizer import TextTokenizer


@dataclass(frozen=True)
class ShardFormat:
    """How ids are stored: at most chunk_tokens a sample; a shard ends with the sample that reaches shard_tokens."""

    dtype: str
    shard_tokens: int
    chunk_tokens: int


def choose_dtype(vocab_size: int) -> Literal["uint16", "uint32"]:
    """The narrowest unsigned type that holds every id."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def choose_shard_tokens(train_bytes: int) -> int:
    """Tokens a shard, such that a small corpus has enough shards to shuffle and a large one not too many files.

    Aims at 64 shards from 16,384 tokens each, then at shards of 262,144, then at 4,096 shards.
    """
    tokens = train_bytes // 4
    return max(16_384, min(262_144, tokens // 64), tokens // 4_096)


class SplitWriter:
    """Writes one split; add() the pieces of each document in order, close() at the end, abandon() on failure."""

    def __init__(self, folder: Path, split: Split, tokenizer: TextTokenizer, form: ShardFormat) -> None:
        self._folder, self._split, self._form = folder, split, form
        self._end_of_text = tokenizer.end_of_text
        self._byte_lengths = tokenizer.byte_lengths()
        self._pending = np.empty(0, form.dtype)
        self._chunk = self._document = -1
        self._shard: ShardFile | None = None
        self._counts = dict.fromkeys(("tokens", "documents", "samples", "text_bytes"), 0)
        self._entries: list[ShardEntry] = []

    def add(self, ids: Sequence[int], *, starts: bool, ends: bool) -> None:
        """One piece of a document; starts, ends: whether it is the document's first, its last."""
        if starts:
            self._document, self._chunk = self._document + 1, -1
            self._pending = np.array([self._end_of_text], self._form.dtype)
        self._pending = np.concatenate([self._pending, np.asarray(ids, self._form.dtype)])
        chunk = self._form.chunk_tokens
        while len(self._pending) > chunk:
            self._write(self._pending[:chunk])
            self._pending = self._pending[chunk:]
        if ends:
            self._write(self._pending)

    def _write(self, ids: np.ndarray) -> None:
        self._chunk += 1
        if self._shard is None:
            self._shard = ShardFile(self._folder / f"{self._split}-{len(self._entries):06d}.tar")
        self._shard.write(f"{self._document:09d}-{self._chunk:06d}", ids)
        self._counts["tokens"] += len(ids)
        self._counts["samples"] += 1
        self._counts["documents"] += int(self._chunk == 0)
        self._counts["text_bytes"] += int(self._byte_lengths[ids].sum())
        if self._counts["tokens"] >= self._form.shard_tokens:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._shard is None:
            return
        path = self._shard.path
        self._shard.close()
        self._shard = None
        size = path.stat().st_size
        self._entries.append(ShardEntry(file=path.name, sha256=file_sha256(path), size_bytes=size, **self._counts))
        self._counts = dict.fromkeys(self._counts, 0)

    def close(self) -> SplitEntry:
        """Ends the last shard; the split's entry for the index."""
        self._end_shard()
        totals = {what: sum(getattr(entry, what) for entry in self._entries) for what in self._counts}
        return SplitEntry(shards=tuple(self._entries), **totals)

    def abandon(self) -> None:
        """Closes the open file, if any, without ending its tar."""
        if self._shard is not None:
            self._shard.abandon()
            self._shard = None
