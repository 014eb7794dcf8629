"""Turns the ids of documents into the samples and shards of one bucket of a split.

A document is `<|endoftext|>` and its ids; a long one is cut into chunks of which only the first begins so.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ssrnn_data.index import ShardEntry
from ssrnn_data.shards import ShardFile, file_sha256
from ssrnn_data.tokenizer import TextTokenizer


@dataclass(frozen=True)
class ShardFormat:
    """How ids are stored: at most chunk_tokens a sample; shards of about shard_tokens, ended at twice that."""

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


class ShardWriter:
    """Writes one bucket; write_document() each in order, close() at the end, abandon() on failure."""

    def __init__(self, stem: Path, bucket: int, tokenizer: TextTokenizer, form: ShardFormat) -> None:
        self._stem, self._bucket, self._form = stem, bucket, form
        self._end_of_text = np.array([tokenizer.end_of_text], form.dtype)
        self._byte_lengths = tokenizer.byte_lengths()
        self._document = 0
        self._shard: ShardFile | None = None
        self._counts = dict.fromkeys(("tokens", "documents", "samples", "text_bytes"), 0)
        self._entries: list[ShardEntry] = []

    def write_document(self, ids: np.ndarray) -> None:
        """A document's ids (N,), of any length: they may be mapped from a file."""
        tokens, step = len(ids) + 1, self._form.chunk_tokens
        self._write(np.concatenate([self._end_of_text, ids[: step - 1]]), 0)
        for chunk, start in enumerate(range(step, tokens, step), start=1):
            self._write(ids[start - 1 : start - 1 + step], chunk)
        self._document += 1

    def _write(self, ids: np.ndarray, chunk: int) -> None:
        if self._shard is None:
            self._shard = ShardFile(Path(f"{self._stem}-{len(self._entries):03d}.tar"))
        self._shard.write(f"{self._bucket:06d}{self._document:06d}-{chunk:06d}", ids)
        self._counts["tokens"] += len(ids)
        self._counts["samples"] += 1
        self._counts["documents"] += int(chunk == 0)
        self._counts["text_bytes"] += int(self._byte_lengths[ids].sum())
        if self._counts["tokens"] >= 2 * self._form.shard_tokens:
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

    def close(self) -> list[ShardEntry]:
        """Ends the last shard; the entries, in order."""
        self._end_shard()
        return self._entries

    def abandon(self) -> None:
        """Closes the open file, if any, without ending its tar."""
        if self._shard is not None:
            self._shard.abandon()
            self._shard = None
