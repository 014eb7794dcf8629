"""Is a corpus what its index says? Every file is hashed, every sample read, and what is wrong named with its place.

The walk through a tar is by tarfile, which knows where a member begins; training reads by webdataset (shards.py).
"""

import os
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssrnn_data.errors import DataError
from ssrnn_data.index import CorpusIndex, Counts, ShardEntry, load_tokenizer
from ssrnn_data.shards import MEMBER, decode_ids, file_sha256

COUNTS = tuple(Counts.model_fields)
_BLOCK = 512  # of a tar


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


def verify_corpus(path: str | Path, progress: Callable[[int, int], None] | None = None) -> Verified:
    """Read all of a corpus, on all cores, and compare it with index.json.

    progress: given bytes done and bytes in all, after each shard.  DataError: there is no index to compare with."""
    index = CorpusIndex.load(path, check_files=False)
    shards = [shard for split in index.splits.values() for shard in split.shards]
    faults, byte_lengths = list[Fault](), None
    try:
        byte_lengths = load_tokenizer(index).byte_lengths()
    except DataError as error:
        faults.append(Fault(index.tokenizer.file, str(error).partition(": ")[2]))
    total, done = sum(shard.size_bytes for shard in shards), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for shard, found in zip(shards, pool.map(lambda each: _faults(index, each, byte_lengths), shards), strict=True):
            faults += found
            done += shard.size_bytes
            if progress is not None:
                progress(done, total)
    return Verified(len(shards), total, sum(shard.tokens for shard in shards), tuple(faults))


def _faults(index: CorpusIndex, shard: ShardEntry, byte_lengths: np.ndarray | None) -> list[Fault]:
    """A shard's: the file's own, else the first sample that cannot be read, else what does not add up."""
    path = index.shard_path(shard)
    try:
        size = path.stat().st_size
        is_same = size == shard.size_bytes and file_sha256(path) == shard.sha256
        counts = dict.fromkeys(COUNTS, 0)
        for offset, ids in _samples(path, index):
            if isinstance(ids, str):
                return [Fault(shard.file, ids, offset)]
            counts["tokens"] += len(ids)
            counts["samples"] += 1
            counts["documents"] += int(ids[0] == index.end_of_text)
            counts["text_bytes"] += 0 if byte_lengths is None else int(byte_lengths[ids].sum())
    except OSError as error:
        return [Fault(shard.file, f"cannot be read ({error.strerror}); all shards of the index are needed")]
    wrong = [
        f"{counts[what]:,} {what}, the index says {getattr(shard, what):,}"
        for what in COUNTS
        if counts[what] != getattr(shard, what) and not (what == "text_bytes" and byte_lengths is None)
    ]
    if size != shard.size_bytes:
        wrong.insert(0, f"{size:,} bytes, the index says {shard.size_bytes:,}")
    elif not is_same:
        wrong.insert(0, "its SHA-256 is not the index's, though every sample can be read: ids were changed")
    return [Fault(shard.file, "; ".join(wrong))] if wrong else []


def _samples(path: Path, index: CorpusIndex) -> Iterator[tuple[int, np.ndarray | str]]:
    """Where each member begins, and its ids (N,), or in the end what is wrong there."""
    dtype: np.dtype = np.dtype(index.dtype).newbyteorder("<")
    with path.open("rb") as stream:
        offset = 0
        try:
            tar = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115  # the stream is closed
            while (member := tar.next()) is not None:
                offset, (key, _, name) = member.offset, member.name.partition(".")
                data = tar.extractfile(member)
                sample = {name: b"" if data is None else data.read()}
                yield offset, decode_ids(sample, f"sample {key}", dtype, index.vocab_size)
                offset = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
        except DataError as error:
            yield offset, str(error)
            return
        except tarfile.TarError as error:
            yield offset, f"not a whole tar ({error})"
            return
        stream.seek(offset)
        if stream.read(_BLOCK) != bytes(_BLOCK):  # tarfile takes what is no header for the end
            yield offset, f"no member {MEMBER} and no end of a tar begins here"
