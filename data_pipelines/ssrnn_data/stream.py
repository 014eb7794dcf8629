"""The training stream: this rank's lanes, window after window, resumable at any step and any number of ranks.

Shapes: B this rank's lanes, T tokens a window. The only file of the package that imports torch.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssrnn_data.bad_samples import BadSamples, OnBadSample, check_policy
from ssrnn_data.errors import data_error
from ssrnn_data.index import CorpusIndex, as_index
from ssrnn_data.lanes import ShardSequence, check_counts, deal_lanes, lane_offset, shard_order, windows_per_epoch
from ssrnn_data.position import Position
from ssrnn_data.reader import TokenReader, allow_open_files
from ssrnn_data.shards import BAD_TOKEN

IGNORED_TARGET = -100  # torch's own default: a position whose target does not count


@dataclass(frozen=True)
class Batch:
    """One window of every lane of a rank.

    tokens_BT, targets_BT: int64; a target is the token after, -100 where there is none (only in evaluation).
    reset_BT: bool, true where nothing may flow in from the step before: a document's or a lane's start.
    lane_ids_B: int64, which of all lanes each row is.
    """

    tokens_BT: torch.Tensor
    targets_BT: torch.Tensor
    reset_BT: torch.Tensor
    lane_ids_B: torch.Tensor

    @classmethod
    def of_windows(cls, row: np.ndarray, end_of_text: int, lanes: Sequence[int]) -> "Batch":
        """From int64 rows (B, T + 1) that may hold BAD_TOKEN; resets where documents start."""
        is_bad = row == BAD_TOKEN
        if not is_bad.any():
            return cls.from_rows(row, row[:, :-1] == end_of_text, lanes)
        whole = np.where(is_bad, end_of_text, row)
        batch = cls.from_rows(whole, whole[:, :-1] == end_of_text, lanes)
        batch.targets_BT[torch.from_numpy(is_bad[:, 1:] | is_bad[:, :-1])] = IGNORED_TARGET
        return batch

    @classmethod
    def from_rows(cls, row: np.ndarray, reset_BT: np.ndarray, lanes: Sequence[int]) -> "Batch":
        """From int64 rows (B, T + 1): inputs and, one later, targets."""
        rows = torch.from_numpy(row)  # cloned: of a single row, .contiguous() would share memory between the two
        return cls(
            tokens_BT=rows[:, :-1].clone(memory_format=torch.contiguous_format),
            targets_BT=rows[:, 1:].clone(memory_format=torch.contiguous_format),
            reset_BT=torch.from_numpy(reset_BT),
            lane_ids_B=torch.tensor(lanes, dtype=torch.int64),
        )


class TokenStream:
    """Iterates over this rank's batches; every rank of a world ends at the same step.

    Each epoch reads the split's N tokens, its shards in an order of (seed, epoch). With W = (N - 1) // (L T), lane l
    covers tokens [l W T, (l + 1) W T): window w of a lane follows window w - 1 without a gap, so state can be carried.
    It is its own iterator: an interrupted loop goes on where it was, and position() says where that is.
    """

    def __init__(
        self,
        index: CorpusIndex | str | Path,
        *,
        split: str = "train",
        lanes: int,
        sequence_length: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        epochs: int | None = None,
        position: Mapping[str, Any] | None = None,
        on_bad_sample: OnBadSample = "error",
        max_bad_fraction: float = 0.001,
    ) -> None:
        """index: a CorpusIndex, index.json or its folder. epochs None: endless. position: of position(), to resume.

        on_bad_sample: "skip" puts <|endoftext|> in the place of each token of a bad sample, with target -100 and reset
        true, up to max_bad_fraction of the split's tokens; `bad` says which.

        Raises DataError for an unknown split, a corpus smaller than one batch, more ranks than lanes, a position of
        another corpus, split, seed or shape.
        """
        self._index = as_index(index)
        self._split = self._index.split(split)
        self.windows_per_epoch = windows_per_epoch(self._split.tokens, lanes, sequence_length, f"{split} split")
        self.lanes = deal_lanes(lanes, world_size, rank)
        self.sequence_length = sequence_length
        if epochs is not None:
            check_counts(epochs=epochs)
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise data_error("seed", f"{seed!r} came", "an integer of 0 or more is allowed")
        check_policy(on_bad_sample, max_bad_fraction)
        self.bad = BadSamples(self._split.tokens, max_bad_fraction)
        self._on_bad = self.bad if on_bad_sample == "skip" else None
        self._epochs = epochs
        start = Position(split, seed, lanes, sequence_length, self._index.fingerprint)
        self._position = start if position is None else start.moved_to(position, self.windows_per_epoch)
        self._readers: list[TokenReader] = []
        self._last_B = np.empty(len(self.lanes), np.int64)

    def position(self) -> dict[str, Any]:
        """Of the next batch not yet handed out: JSON-able, the same on every rank, good for any world_size."""
        return self._position.to_dict()

    def __iter__(self) -> "TokenStream":
        return self

    def __next__(self) -> Batch:
        """The next batch. StopIteration after the last epoch; DataError for a bad shard, and it stays before it."""
        if self._epochs is not None and self._position.epoch >= self._epochs:
            self.close()
            raise StopIteration
        try:
            if not self._readers:
                self._open()
            row = self._read()
        except BaseException:
            self.close()
            raise
        batch = Batch.of_windows(row, self._index.end_of_text, self.lanes)
        if self._position.window == 0:
            batch.reset_BT[:, 0] = True
        self._last_B = row[:, -1].copy()
        epoch = self._position.epoch
        self._position = self._position.next(self.windows_per_epoch)
        if self._position.epoch != epoch:
            self.close()
        return batch

    def _read(self) -> np.ndarray:
        """Rows (B, T + 1), fresh each time since the batch keeps its memory; the first column was the last target."""
        row = np.empty((len(self.lanes), self.sequence_length + 1), np.int64)
        row[:, 0] = self._last_B
        for place, reader in enumerate(self._readers):
            reader.fill(row[place, 1:])
        return row

    def _open(self) -> None:
        """Puts a reader at the position of each lane, its first token read."""
        allow_open_files(len(self.lanes))
        shards = [shard.tokens for shard in self._split.shards]
        order = shard_order(len(shards), self._position.seed, self._position.epoch)
        sequence = ShardSequence.of(shards, order)
        for place, lane in enumerate(self.lanes):
            offset = lane_offset(lane, self._position.window, self.windows_per_epoch, self.sequence_length)
            reader = TokenReader(self._index, self._split, sequence, offset, self._on_bad)
            self._readers.append(reader)
            reader.fill(self._last_B[place : place + 1])

    def close(self) -> None:
        """Closes all files; iterating goes on from position() and opens them again."""
        for reader in self._readers:
            reader.close()
        self._readers = []

    def __enter__(self) -> "TokenStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()
