"""Reads tokens one after another through a sequence of shards, from any offset, one sample in memory.

The effects behind lanes.py: a lane's reader, windows of many lanes, and the limit of open files that these need.
"""

import resource
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ssrnn_data.index import CorpusIndex, SplitEntry
from ssrnn_data.lanes import ShardSequence
from ssrnn_data.shards import BadSample, read_samples

_FILES_FOR_OTHERS = 256
_AHEAD_BYTES = 4 << 20


class TokenReader:
    """The tokens of a split from an offset on, its shards in the sequence's order."""

    def __init__(
        self,
        index: CorpusIndex,
        split: SplitEntry,
        sequence: ShardSequence,
        offset: int,
        on_bad: Callable[[BadSample], None] | None = None,
    ) -> None:
        """on_bad: is told of samples that can't be used, whose tokens become BAD_TOKEN; None: the first is an error."""
        self._index, self._split, self._sequence, self._on_bad = index, split, sequence, on_bad
        self._place, skip_tokens = sequence.locate(offset)
        self._samples: Iterator[np.ndarray] = iter(())
        self._ids = np.empty(0, np.uint16)
        self._at = 0
        self._open(skip_tokens)

    def fill(self, out: np.ndarray) -> None:
        """Fills out (n,) with the next n tokens; there must be so many."""
        wanted = len(out)
        stop = self._at + wanted
        if stop <= len(self._ids):  # nearly always, and this is the loop that every step runs for every lane
            out[:] = self._ids[self._at : stop]
            self._at = stop
            return
        filled = 0
        while filled < wanted:
            if self._at == len(self._ids):
                self._next_sample()
            count = min(wanted - filled, len(self._ids) - self._at)
            out[filled : filled + count] = self._ids[self._at : self._at + count]
            filled += count
            self._at += count

    def next_sample(self) -> np.ndarray | None:
        """What is left (n,) of the sample at hand, or the next sample; None at the end of the split."""
        if self._at == len(self._ids):
            try:
                self._next_sample()
            except EOFError:
                return None
        ids = self._ids[self._at :]
        self._at = len(self._ids)
        return ids

    def close(self) -> None:
        """Closes the shard's file."""
        self._stream.close()

    def _open(self, skip_tokens: int = 0) -> None:
        shard = self._split.shards[int(self._sequence.order[self._place])]
        self._stream, form = self._index.open_shard(shard), self._index.form_of(shard)
        self._samples = read_samples(self._stream, form, skip_tokens=skip_tokens, on_bad=self._on_bad)
        if self._place + 1 < len(self._sequence.order):
            self._index.prefetch_shard(self._split.shards[int(self._sequence.order[self._place + 1])])

    def _next_sample(self) -> None:
        """The next sample, from the next shard where one ends; EOFError after the last."""
        while True:
            ids = next(self._samples, None)
            if ids is not None:
                self._ids, self._at = ids, 0
                return
            if self._place + 1 == len(self._sequence.order):
                raise EOFError("no tokens are left in the split")
            self._place += 1
            self._open()


class Ahead:
    """Windows of every lane of a rank, read some at a time: a call a lane and window costs more than its tokens."""

    def __init__(self, lanes: int, sequence_length: int, dtype: str) -> None:
        """Holds at most 4 MiB or one window a lane."""
        self._steps, self._dtype, self._lanes = sequence_length, np.dtype(dtype), lanes
        self.most_windows = max(1, _AHEAD_BYTES // (lanes * sequence_length * self._dtype.itemsize))
        self._left = 0
        self._block = np.empty((0, 0), dtype)

    @property
    def is_empty(self) -> bool:
        return self._left == 0

    def fill(self, readers: Sequence[TokenReader], windows: int) -> None:
        """Reads windows of every lane; what was read before must be taken, and its last target is the first input."""
        block = np.empty((self._lanes, windows * self._steps + 1), self._dtype)
        begun = int(self._block.size > 0)
        if begun:
            block[:, 0] = self._block[:, -1]
        for row, reader in zip(block, readers, strict=True):
            reader.fill(row[begun:])
        self._block, self._left = block, windows

    def take(self) -> np.ndarray:
        """The next window of every lane (B, T + 1): a view that stays as it is."""
        stop = self._block.shape[1] - (self._left - 1) * self._steps
        self._left -= 1
        return self._block[:, stop - self._steps - 1 : stop]

    def drop(self) -> None:
        """Forgets all: the next fill begins at new readers' places."""
        self._left, self._block = 0, np.empty((0, 0), self._dtype)


def allow_open_files(count: int) -> None:
    """Raises this process's soft limit of open files, within the hard one, for one open shard a lane."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _FILES_FOR_OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
