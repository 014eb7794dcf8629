"""The training stream of a mixture: corpora in exact proportions, resumable at any step and any number of ranks.

Shapes: B this rank's lanes, T tokens a window.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ssrnn_data.bad_samples import BadSamples, OnBadSample, check_policy
from ssrnn_data.lanes import ShardSequence, check_counts, check_seed, deal_lanes, shard_order
from ssrnn_data.mixture.lanes import LanePlan, LaneState, Turn, Work
from ssrnn_data.mixture.position import MixtureIdentity, from_position, to_position
from ssrnn_data.mixture.shares import Shares
from ssrnn_data.mixture.sources import MixtureSource, open_sources
from ssrnn_data.reader import TokenReader, allow_open_files
from ssrnn_data.stream import Batch, LaneStream

SEGMENT_WINDOWS = 64


class MixtureStream(LaneStream):
    """Iterates without end over this rank's batches, each a window of every lane.

    Every window of a lane is of one source, and at any window no source is a whole window away from its share of all
    windows. A lane reads segment_windows windows without a gap, then goes on elsewhere: there, and where it takes over
    what another lane left, reset is true. Each token of a source's epoch is read once, but for at most a window at
    its end, others each time as its shards come in an order of (seed, source, epoch).
    """

    def __init__(
        self,
        sources: Sequence[MixtureSource],
        *,
        split: str = "train",
        lanes: int,
        sequence_length: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        segment_windows: int = SEGMENT_WINDOWS,
        position: Mapping[str, Any] | None = None,
        allow_new_weights: bool = False,
        on_bad_sample: OnBadSample = "error",
        max_bad_fraction: float = 0.001,
    ) -> None:
        """position: of position(), to resume; with allow_new_weights other weights count from there on.

        on_bad_sample, max_bad_fraction: as TokenStream has them, the fraction of all sources' tokens together.

        Raises DataError for sources that don't go together, weights that are all 0 at once, more ranks than lanes, a
        position of another mixture, split, seed or shape.
        """
        check_counts(lanes=lanes, segment_windows=segment_windows)
        check_seed(seed)
        check_policy(on_bad_sample, max_bad_fraction)
        self._sources = open_sources(sources, split, sequence_length)
        self.lanes = deal_lanes(lanes, world_size, rank)
        self.sequence_length = sequence_length
        self.bad = BadSamples(sum(source.split.tokens for source in self._sources), max_bad_fraction)
        self._on_bad = self.bad if on_bad_sample == "skip" else None
        corpora = tuple(source.index.fingerprint for source in self._sources)
        weights = tuple(source.weight for source in self._sources)
        self._identity = MixtureIdentity(split, seed, lanes, sequence_length, segment_windows, corpora, weights)
        windows_S = [source.epoch_windows for source in self._sources]
        self._plan = LanePlan(Shares.of(weights, sequence_length), windows_S, segment_windows)
        if position is None:
            self._state = LaneState.start(len(weights), lanes)
        else:
            self._state = from_position(position, self._identity, self._plan, allow_new_weights=allow_new_weights)
        self._readers: dict[Work, _Reader] = {}

    def position(self) -> dict[str, Any]:
        return to_position(self._identity, self._state)

    def counts(self) -> dict[str, int]:
        """Windows read so far on all ranks, by source."""
        names = (source.name for source in self._sources)
        return dict(zip(names, self._plan.windows_read(self._state), strict=True))

    def epochs(self) -> dict[str, float]:
        """A source's windows over those of an epoch."""
        counts = self.counts()
        return {source.name: counts[source.name] / source.epoch_windows for source in self._sources}

    def __next__(self) -> Batch:
        turn, after = self._plan.step(self._state)
        try:
            row = self._read(turn)
            self._close_all_but(after)
        except BaseException:
            self.close()
            raise
        self._state = after
        batch = Batch.of_windows(row, self._sources[0].index.end_of_text, self.lanes)
        batch.reset_BT[turn.begins_L[self.lanes], 0] = True
        return batch

    def _read(self, turn: Turn) -> np.ndarray:
        """Rows (B, T + 1), fresh each time; readers move on to the window after."""
        row = np.empty((len(self.lanes), self.sequence_length + 1), np.int64)
        for place, lane in enumerate(self.lanes):
            source, epoch, window = work = turn.of(lane)
            reader = self._readers.pop(work, None) or self._open(work)
            self._readers[source, epoch, window + 1] = reader
            reader.fill(row[place])
        return row

    def _open(self, work: Work) -> "_Reader":
        """A reader at a window."""
        allow_open_files(len(self._readers) + 1)
        place, epoch, window = work
        source = self._sources[place]
        shards = [shard.tokens for shard in source.split.shards]
        order = shard_order(len(shards), _source_seed(self._identity.seed, place), epoch)
        sequence = ShardSequence.of(shards, order)
        offset = window * self.sequence_length
        return _Reader(TokenReader(source.index, source.split, sequence, offset, self._on_bad))

    def _close_all_but(self, state: LaneState) -> None:
        """Keeps the readers of which a next step may make use."""
        first_new = zip(range(len(self._sources)), state.epochs_S, state.next_S, strict=True)
        for work in self._readers.keys() - {*state.unfinished(), *first_new}:
            self._readers.pop(work).close()

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers = {}


class _Reader:
    """Windows one after another, each of T + 1 tokens, of which the first was the last of the window before."""

    def __init__(self, tokens: TokenReader) -> None:
        self._tokens = tokens
        self._last: int | None = None

    def fill(self, row: np.ndarray) -> None:
        """Fills a row (T + 1,)."""
        if self._last is None:
            self._tokens.fill(row)
        else:
            row[0] = self._last
            self._tokens.fill(row[1:])
        self._last = int(row[-1])

    def close(self) -> None:
        """Closes the shard's file."""
        self._tokens.close()


def _source_seed(seed: int, place: int) -> int:
    """A seed of its own for each source, so that a corpus that comes twice is read in two orders."""
    return int(np.random.SeedSequence([seed, place]).generate_state(1, np.uint64)[0])
