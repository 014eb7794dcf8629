"""The training stream: this rank's lanes, window after window, resumable at any step and any number of ranks.

Shapes: B this rank's lanes, T tokens a window. The only file of the package that imports torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from ssrnn_data.bad_samples import BadSamples, OnBadSample, check_policy
from ssrnn_data.errors import DataError
from ssrnn_data.index import CorpusIndex, as_index
from ssrnn_data.lanes import (
    ShardSequence,
    check_counts,
    check_seed,
    deal_lanes,
    lane_offset,
    shard_order,
    windows_per_epoch,
)
from ssrnn_data.position import Position
from ssrnn_data.reader import Ahead, TokenReader, allow_open_files
from ssrnn_data.shards import BAD_TOKEN

IGNORED_TARGET = -100  # torch's own default: a position whose target does not count


@dataclass(frozen=True)
class Batch:
    """One window of every lane of a rank.

    tokens_BT, targets_BT: int64; a target is the token after, -100 where there is none (in evaluation, at an end) or
    where that or the token itself could not be read.
    reset_BT: bool, true where nothing may flow in from the step before: a document's or a lane's start.
    lane_ids_B: int64, which of all lanes each row is.
    """

    tokens_BT: torch.Tensor
    targets_BT: torch.Tensor
    reset_BT: torch.Tensor
    lane_ids_B: torch.Tensor

    @classmethod
    def of_windows(cls, row: np.ndarray, end_of_text: int, lanes: Sequence[int]) -> "Batch":
        """From rows (B, T + 1) of any integers, signed ones with BAD_TOKENs perhaps; resets at documents' starts."""
        if row.dtype.kind == "u" or row.min() != BAD_TOKEN:
            return cls.from_rows(row, row[:, :-1] == end_of_text, lanes)
        is_bad = row == BAD_TOKEN
        whole = np.where(is_bad, end_of_text, row)
        batch = cls.from_rows(whole, whole[:, :-1] == end_of_text, lanes)
        batch.targets_BT[torch.from_numpy(is_bad[:, 1:] | is_bad[:, :-1])] = IGNORED_TARGET
        return batch

    @classmethod
    def from_rows(cls, row: np.ndarray, reset_BT: np.ndarray, lanes: Sequence[int]) -> "Batch":
        """From rows (B, T + 1) of any integers: inputs and, one later, targets; copies."""
        return cls(
            tokens_BT=torch.from_numpy(row[:, :-1].astype(np.int64, order="C")),
            targets_BT=torch.from_numpy(row[:, 1:].astype(np.int64, order="C")),
            reset_BT=torch.from_numpy(reset_BT),
            lane_ids_B=torch.from_numpy(np.fromiter(lanes, np.int64, len(lanes))),
        )


class LaneStream(ABC):
    """A training stream is its own iterator, and can be closed at any time: iterating goes on from position()."""

    @abstractmethod
    def position(self) -> dict[str, Any]:
        """Of the next batch not yet handed out: JSON-able, the same on every rank, good for any world_size."""

    @abstractmethod
    def epochs(self) -> dict[str, float]:
        """How often each corpus was read so far on all ranks, by its name."""

    @abstractmethod
    def __next__(self) -> Batch:
        """The next batch. DataError for a bad shard, and it stays before it."""

    @abstractmethod
    def close(self) -> None:
        """Closes all files; iterating goes on from position() and opens them again."""

    def __iter__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()


class TokenStream(LaneStream):
    """Iterates over this rank's batches; every rank of a world ends at the same step.

    Each epoch reads the split's N tokens, its shards in an order of (seed, epoch). With W = (N - 1) // (L T), lane l
    covers tokens [l W T, (l + 1) W T): window w of a lane follows window w - 1 without a gap, so state can be carried.
    An interrupted loop goes on where it was, and position() says where that is.
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
        check_seed(seed)
        check_policy(on_bad_sample, max_bad_fraction)
        self.bad = BadSamples(self._split.tokens, max_bad_fraction)
        self._on_bad = self.bad if on_bad_sample == "skip" else None
        self._epochs = epochs
        start = Position(split, seed, lanes, sequence_length, self._index.fingerprint)
        self._position = start if position is None else start.moved_to(position, self.windows_per_epoch)
        self._readers: list[TokenReader] = []
        self._ahead = Ahead(len(self.lanes), sequence_length, self._index.dtype if self._on_bad is None else "int64")

    def position(self) -> dict[str, Any]:
        return self._position.to_dict()

    def epochs(self) -> dict[str, float]:
        """1 where the first epoch ends."""
        return {self._index.title: self._position.epoch + self._position.window / self.windows_per_epoch}

    def __next__(self) -> Batch:
        """The next batch. StopIteration after the last epoch; DataError for a bad shard, and it stays before it."""
        if self._epochs is not None and self._position.epoch >= self._epochs:
            self.close()
            raise StopIteration
        batch = Batch.of_windows(self._read(), self._index.end_of_text, self.lanes)
        if self._position.window == 0:
            batch.reset_BT[:, 0] = True
        epoch = self._position.epoch
        self._position = self._position.next(self.windows_per_epoch)
        if self._position.epoch != epoch:
            self.close()
        return batch

    def _read(self) -> np.ndarray:
        """The next window of every lane (B, T + 1), a view; several are read at once."""
        if self._ahead.is_empty:
            left = self.windows_per_epoch - self._position.window
            try:
                self._read_ahead(min(left, self._ahead.most_windows))
            except DataError:  # the windows before what is bad are still good
                self._read_ahead(1)
        return self._ahead.take()

    def _read_ahead(self, windows: int) -> None:
        try:
            if not self._readers:
                self._open()
            self._ahead.fill(self._readers, windows)
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Puts a reader at the position of each lane."""
        allow_open_files(len(self.lanes))
        shards = [shard.tokens for shard in self._split.shards]
        order = shard_order(len(shards), self._position.seed, self._position.epoch)
        sequence = ShardSequence.of(shards, order)
        offsets = [
            lane_offset(lane, self._position.window, self.windows_per_epoch, self.sequence_length)
            for lane in self.lanes
        ]
        for offset in offsets:
            self._index.prefetch_shard(self._split.shards[int(order[sequence.locate(offset)[0]])])
        for offset in offsets:
            self._readers.append(TokenReader(self._index, self._split, sequence, offset, self._on_bad))

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        self._readers = []
        self._ahead.drop()
