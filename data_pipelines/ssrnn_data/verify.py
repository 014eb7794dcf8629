"""Is a corpus what its index says? Every file is hashed, every sample read, and what is wrong named with its place.

Reads as training does (shards.py).
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssrnn_data.errors import DataError
from ssrnn_data.index import INDEX_FILE, CorpusIndex, Counts, ShardEntry, load_tokenizer
from ssrnn_data.shards import BadSample, read_samples, stream_sha256

COUNTS = tuple(Counts.model_fields)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file, and where in it, as far as that can be told."""

    file: str
    said: str
    offset_bytes: int | None = None

    def __str__(self) -> str:
        where = "" if self.offset_bytes is None else f", from byte {self.offset_bytes:,} on"
        return f"{self.file}{where}: {self.said}"


@dataclass(frozen=True)
class Verified:
    """What was read, and the faults, in the order of the index."""

    shards: int
    size_bytes: int
    tokens: int
    faults: tuple[Fault, ...]


def verify_corpus(index: CorpusIndex | str | Path, progress: Callable[[int, int], None] | None = None) -> Verified:
    """Read all of a corpus, on all cores, and compare it with index.json.

    progress: given bytes done and bytes in all, after each shard.  DataError: there is no index to compare with."""
    index = index if isinstance(index, CorpusIndex) else CorpusIndex.load(index, check_files=False)
    shards = [shard for split in index.splits.values() for shard in split.shards]
    faults, byte_lengths = list[Fault](), None
    try:
        byte_lengths = load_tokenizer(index).byte_lengths()
    except DataError as error:
        faults.append(Fault(index.tokenizer.file, str(error).partition(": ")[2]))
    if index.checksum not in (None, index.sealed().checksum):
        faults.insert(0, Fault(INDEX_FILE, "it was changed after it was written: its checksum is another"))
    total, done = sum(shard.size_bytes for shard in shards), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for shard, found in zip(shards, pool.map(lambda each: _faults(index, each, byte_lengths), shards), strict=True):
            faults += found
            done += shard.size_bytes
            if progress is not None:
                progress(done, total)
    return Verified(len(shards), total, sum(shard.tokens for shard in shards), tuple(faults))


def _faults(index: CorpusIndex, shard: ShardEntry, byte_lengths: np.ndarray | None) -> list[Fault]:
    """A shard's: the first sample that cannot be read, else what does not add up."""
    bad, counts = list[BadSample](), dict.fromkeys(COUNTS, 0)
    try:
        with index.open_shard(shard) as stream:
            size, digest = os.fstat(stream.fileno()).st_size, stream_sha256(stream)
            for ids in read_samples(stream, index.form_of(shard), on_bad=bad.append):
                if bad:
                    return [Fault(shard.file, f"{bad[0].key}: {bad[0].said}", bad[0].offset_bytes)]
                counts["tokens"] += len(ids)
                counts["samples"] += 1
                counts["documents"] += int(ids[0] == index.end_of_text)
                counts["text_bytes"] += 0 if byte_lengths is None else int(byte_lengths[ids].sum())
    except DataError as error:
        return [Fault(shard.file, str(error).partition(": ")[2])]
    except OSError as error:
        return [Fault(shard.file, f"cannot be read ({error.strerror}); all shards of the index are needed")]
    if bad:  # of no tokens
        return [Fault(shard.file, f"{bad[0].key}: {bad[0].said}", bad[0].offset_bytes)]
    wrong = [
        f"{counts[what]:,} {what}, the index says {getattr(shard, what):,}"
        for what in COUNTS
        if counts[what] != getattr(shard, what) and not (what == "text_bytes" and byte_lengths is None)
    ]
    if size != shard.size_bytes:
        wrong.insert(0, f"{size:,} bytes, the index says {shard.size_bytes:,}")
    elif digest != shard.sha256:
        wrong.insert(0, "its SHA-256 is not the index's, though every sample can be read: ids were changed")
    return [Fault(shard.file, "; ".join(wrong))] if wrong else []
