"""Which lane works for which source, and on which of its windows, step after step.

Pure. L lanes, S sources, R windows a segment; the windows of a source's epoch are numbered from 0.
"""

from bisect import insort
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ssrnn_data.mixture.shares import Division, Shares

Work = tuple[int, int, int]  # source, epoch, window
NONE = -1  # the window of a lane between two segments, the source of a lane before its first


@dataclass(frozen=True)
class Turn:
    """What each lane reads in one step. begins_L: with this window it takes up a segment, or what is left of one."""

    sources_L: np.ndarray
    epochs_L: np.ndarray
    windows_L: np.ndarray
    begins_L: np.ndarray

    def of(self, lane: int) -> Work:
        """One lane's."""
        return int(self.sources_L[lane]), int(self.epochs_L[lane]), int(self.windows_L[lane])


@dataclass
class LaneState:
    """Where all lanes stand before a step; the same on every rank.

    at: windows read so far, of which given_S since window `since`, when the weights began. epochs_S, next_S: the first
    window that no lane has taken. left_S: (epoch, window) at which segments wait to be gone on with, ascending.
    sources_L, epochs_L, windows_L: each lane's next window; the window is -1 where it has none.
    """

    at: int
    since: int
    given_S: np.ndarray
    epochs_S: list[int]
    next_S: list[int]
    left_S: list[list[tuple[int, int]]]
    sources_L: np.ndarray
    epochs_L: np.ndarray
    windows_L: np.ndarray

    @classmethod
    def start(cls, sources: int, lanes: int) -> "LaneState":
        """Before the first step."""
        return cls(
            at=0,
            since=0,
            given_S=np.zeros(sources, np.int64),
            epochs_S=[0] * sources,
            next_S=[0] * sources,
            left_S=[[] for _ in range(sources)],
            sources_L=np.full(lanes, NONE, np.int64),
            epochs_L=np.zeros(lanes, np.int64),
            windows_L=np.full(lanes, NONE, np.int64),
        )

    def unfinished(self) -> Iterator[Work]:
        """Where each segment that was begun goes on."""
        for source, left in enumerate(self.left_S):
            yield from ((source, epoch, window) for epoch, window in left)
        for lane in np.flatnonzero(self.windows_L != NONE).tolist():
            yield int(self.sources_L[lane]), int(self.epochs_L[lane]), int(self.windows_L[lane])


@dataclass(frozen=True)
class LanePlan:
    """The rule by which lanes work.

    A lane reads a segment to its end and then takes its source's next work: the oldest that is left over, else a new
    segment. Only as many lanes change their source as the division forces; one that does puts the rest of its segment
    back. So every window of an epoch is read once, whoever reads it, and epochs are read in order.
    """

    shares: Shares
    epoch_windows_S: Sequence[int]
    segment_windows: int

    def step(self, state: LaneState) -> tuple[Turn, LaneState]:
        """What is read next, and the state after it."""
        lanes, after = len(state.sources_L), deepcopy(state)
        given = self._division.next(state.since, state.given_S, state.at, lanes)
        wanted_S = np.bincount(given, minlength=self.shares.sources)
        _hand_over(after, wanted_S)
        begins_L = after.windows_L == NONE
        for lane in np.flatnonzero(begins_L).tolist():
            after.epochs_L[lane], after.windows_L[lane] = self._take(after, int(after.sources_L[lane]))
        turn = Turn(after.sources_L.copy(), after.epochs_L.copy(), after.windows_L.copy(), begins_L)
        after.at += lanes
        after.given_S += wanted_S
        after.windows_L += 1
        ended_L = after.windows_L % self.segment_windows == 0
        ended_L |= after.windows_L == np.asarray(self.epoch_windows_S)[after.sources_L]
        after.windows_L[ended_L] = NONE
        after.epochs_L[ended_L] = 0
        return turn, after

    @cached_property
    def _division(self) -> Division:
        return Division(self.shares)

    def windows_read(self, state: LaneState) -> list[int]:
        """Windows read so far, by source: those taken, less what is still to be read of them."""
        read_S = [
            epoch * windows + at
            for epoch, windows, at in zip(state.epochs_S, self.epoch_windows_S, state.next_S, strict=True)
        ]
        for source, _, window in state.unfinished():
            read_S[source] -= self._end_of(source, window) - window
        return read_S

    def _take(self, state: LaneState, source: int) -> tuple[int, int]:
        """(epoch, window) at which a lane of the source goes on."""
        if state.left_S[source]:
            return state.left_S[source].pop(0)
        epoch, window = state.epochs_S[source], state.next_S[source]
        end = self._end_of(source, window)
        is_last = end == self.epoch_windows_S[source]
        state.epochs_S[source], state.next_S[source] = (epoch + 1, 0) if is_last else (epoch, end)
        return epoch, window

    def _end_of(self, source: int, window: int) -> int:
        """Where the segment that holds a window ends."""
        end = (window // self.segment_windows + 1) * self.segment_windows
        return min(end, self.epoch_windows_S[source])


def _hand_over(state: LaneState, wanted_S: np.ndarray) -> None:
    """Moves lanes between sources until each has as many as are wanted.

    Of a source's lanes those between two segments go first, then those with the highest numbers: so where a share is
    no whole number of lanes, it is always the same lane that comes and goes.
    """
    held_S = np.bincount(state.sources_L[state.sources_L != NONE], minlength=len(wanted_S))
    leaving = np.flatnonzero(state.sources_L == NONE).tolist()
    for source in np.flatnonzero(held_S > wanted_S).tolist():
        lanes = np.flatnonzero(state.sources_L == source)
        order = np.lexsort((-lanes, state.windows_L[lanes] != NONE))
        leaving += lanes[order][: held_S[source] - wanted_S[source]].tolist()
    joined = np.repeat(np.arange(len(wanted_S)), np.maximum(wanted_S - held_S, 0)).tolist()
    for lane, source in zip(sorted(leaving), joined, strict=True):
        if state.windows_L[lane] != NONE:
            rest = int(state.epochs_L[lane]), int(state.windows_L[lane])
            insort(state.left_S[int(state.sources_L[lane])], rest)
            state.windows_L[lane] = NONE
        state.sources_L[lane] = source
