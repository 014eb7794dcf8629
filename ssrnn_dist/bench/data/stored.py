"""What a corpus holds, read by the standard library's tarfile and not by what is measured; and the pages that hold it.

N tokens of the split, S shards, L lanes, T tokens a window, W windows a lane."""

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ssrnn_data import CorpusIndex, load_tokenizer
from ssrnn_data.lanes import shard_order, windows_per_epoch
from ssrnn_dist.problems import user_error

MOST_TOKENS = 200_000_000  # they are held in memory and written for each peer


def stored_shards(index: CorpusIndex) -> list[np.ndarray]:
    """The ids of each train shard in the order of the index. UserError for a corpus beyond MOST_TOKENS."""
    split = index.split("train")
    if split.tokens > MOST_TOKENS:
        raise user_error("--corpus", f"{split.tokens:,} tokens", f"up to {MOST_TOKENS:,} are allowed, held in memory")
    return [shard_ids(index.shard_path(shard)) for shard in split.shards]


def shard_ids(path: Path) -> np.ndarray:
    """All ids of one tar, sample after sample."""
    with tarfile.open(path) as tar:
        members = [tar.extractfile(member) for member in tar]
        return np.concatenate([np.load(io.BytesIO(each.read())) for each in members if each is not None])


def packed_windows(shards: Sequence[np.ndarray], lanes: int, sequence_length: int) -> np.ndarray:
    """(L·W, T): the tokens one after another, cut into as many windows as our own lanes read in an epoch."""
    tokens = np.concatenate(shards)
    n_windows = lanes * windows_per_epoch(len(tokens), lanes, sequence_length)
    return tokens[: n_windows * sequence_length].reshape(n_windows, sequence_length)


def own_windows(shards: Sequence[np.ndarray], lanes: int, sequence_length: int, seed: int, epoch: int) -> np.ndarray:
    """The same of an epoch's own order of shards: what TokenStream's ranks read together."""
    return packed_windows([shards[at] for at in shard_order(len(shards), seed, epoch)], lanes, sequence_length)


def texts(index: CorpusIndex, shards: Sequence[np.ndarray], most_bytes: int) -> Iterator[str]:
    """The documents' texts, until they are most_bytes together."""
    tokenizer = load_tokenizer(index)
    tokens = np.concatenate(shards)
    starts = np.flatnonzero(tokens == index.end_of_text)
    written = 0
    for start, stop in zip(starts, [*starts[1:], len(tokens)], strict=True):
        text = tokenizer.decode(tokens[start + 1 : stop].tolist())
        written += len(text.encode("utf-8"))
        yield text
        if written >= most_bytes:
            return


def drop_cached_pages(folder: Path) -> None:
    """Asks the kernel to forget the folder's files: written out, then POSIX_FADV_DONTNEED; each file once."""
    files = {path.stat().st_ino: path for path in folder.rglob("*") if path.is_file()}  # large.py gives many names
    for path in files.values():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
