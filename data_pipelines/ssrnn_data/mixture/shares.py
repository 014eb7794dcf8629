"""Whose the next window is: weights by tokens seen, the shares that they come to, and an exact division by them.

Pure functions of numbers. S sources, K knots, N values; time is counted in windows, one lane's tokens of one step.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np

from ssrnn_data.errors import data_error

Weight = float | Sequence[Sequence[float]]
Knots = tuple[tuple[int, float], ...]
_CALLS_AHEAD = 16
_NEVER = float(1 << 50)  # in windows or tokens: later than any run goes, and exact as a float


def as_knots(weight: Weight, name: str) -> Knots:
    """A weight as (tokens seen, weight) knots, between which it is linear and outside which it is constant.

    weight: a number or such knots. Raises DataError, naming the source, for anything else than weights of 0 or more
    at ascending whole numbers of tokens.
    """
    knots = [(0, weight)] if isinstance(weight, int | float) else weight
    is_right = isinstance(knots, Sequence) and len(knots) > 0 and all(map(_is_knot, knots))
    if not is_right or any(later[0] <= earlier[0] for earlier, later in pairwise(knots)):
        allowed = "a number of 0 or more is allowed, or pairs (tokens seen, number) with ascending tokens"
        raise data_error(f"weight of {name}", f"{str(weight)[:80]} came", allowed)
    return tuple((int(tokens), float(value)) for tokens, value in knots)


def _is_knot(knot: object) -> bool:
    if not isinstance(knot, Sequence) or len(knot) != 2:
        return False
    tokens, value = knot
    if isinstance(tokens, bool) or isinstance(value, bool):
        return False
    return isinstance(tokens, int) and isinstance(value, int | float) and 0 <= tokens < _NEVER and 0 <= value < 1e300


@dataclass(frozen=True)
class Shares:
    """The share of each source over time, linear between knots, and its integral, in which everything is counted.

    knots_K: in windows, from 0 on. shares_SK sum to 1 over S. slopes_SK: of the piece that begins at a knot.
    targets_SK: windows due up to a knot.
    """

    knots_K: np.ndarray
    shares_SK: np.ndarray
    slopes_SK: np.ndarray
    targets_SK: np.ndarray

    @classmethod
    def of(cls, weights: Sequence[Knots], sequence_length: int) -> "Shares":
        """From each source's weight. Weights are normalised at every source's knots, and shares are linear between.

        Raises DataError where all weights are 0 at once.
        """
        tokens_K = sorted({0, *(tokens for knots in weights for tokens, _ in knots)})
        weights_SK = np.array([np.interp(tokens_K, *np.array(knots).T) for knots in weights])
        largest_K = weights_SK.max(axis=0)
        if not largest_K.all():
            came = f"all are 0 at {tokens_K[int(largest_K.argmin())]:,} tokens"
            raise data_error("weights", came, "at any moment one or more above 0 are needed")
        shares_SK = weights_SK / largest_K
        shares_SK /= shares_SK.sum(axis=0)
        knots_K = np.array(tokens_K) / sequence_length
        widths = np.diff(knots_K)
        nothing = np.zeros((len(weights), 1))
        slopes_SK = np.hstack([np.diff(shares_SK) / widths, nothing])
        areas = (shares_SK[:, 1:] + shares_SK[:, :-1]) / 2 * widths
        return cls(knots_K, shares_SK, slopes_SK, np.hstack([nothing, areas.cumsum(axis=1)]))

    @property
    def sources(self) -> int:
        """S."""
        return len(self.shares_SK)

    def at(self, windows_N: np.ndarray) -> np.ndarray:
        """Shares (S, N) after so many windows."""
        piece_N, into_N = self._pieces(windows_N)
        return self.shares_SK[:, piece_N] + self.slopes_SK[:, piece_N] * into_N

    def targets(self, windows_N: np.ndarray) -> np.ndarray:
        """Windows due (S, N), fractions included, in the first so many windows."""
        piece_N, into_N = self._pieces(windows_N)
        mean_SN = self.shares_SK[:, piece_N] + self.slopes_SK[:, piece_N] * into_N / 2
        return self.targets_SK[:, piece_N] + mean_SN * into_N

    def when(self, source: int, targets_N: np.ndarray) -> np.ndarray:
        """The inverse: after how many windows (N,) a source's target is reached; infinite where it never is."""
        targets_K = self.targets_SK[source]
        piece_N = np.searchsorted(targets_K, targets_N, side="right") - 1
        missing_N = targets_N - targets_K[piece_N]
        share_N, slope_N = self.shares_SK[source, piece_N], self.slopes_SK[source, piece_N]
        root_N = np.sqrt(np.maximum(share_N**2 + 2 * slope_N * missing_N, 0))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            into_N = np.where(missing_N > 0, 2 * missing_N / (share_N + root_N), 0)
        widths_K = np.append(np.diff(self.knots_K), np.inf)
        return self.knots_K[piece_N] + np.minimum(into_N, widths_K[piece_N])

    def _pieces(self, windows_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        piece_N = np.searchsorted(self.knots_K, windows_N, side="right") - 1
        return piece_N, windows_N - self.knots_K[piece_N]


def error_bound(sources: int) -> float:
    """How far, at most, a source's windows ever are from its target: 1 - 1 / 2S windows."""
    return 1 - 1 / (2 * sources)


def targets_since(shares: Shares, since: int, windows_N: np.ndarray) -> np.ndarray:
    """Windows due (S, N) between window `since` and each of the windows."""
    return shares.targets(windows_N) - shares.targets(np.array([since]))


def allocate(shares: Shares, since: int, counts_S: np.ndarray, at: int, windows: int) -> np.ndarray:
    """The source (windows,) of each of the next windows, of which `at` came before: counts_S since `since`.

    Tijdeman, The chairman assignment problem (Discrete Mathematics 32, 1980): a source may have its next window c once
    its target reaches c + θ, it must have it before the target passes c + 1 - θ, and of the sources that may, the one
    goes first that must first. Then no source is ever more than 1 - θ from its target, for any weights. He proves it
    for θ up to 1 / (2S - 2); 1 / 2S leaves room for what floats round. The same however the windows are cut into calls.
    """
    sources = shares.sources
    theta = 1 - error_bound(sources)
    begun_S = shares.targets(np.array([since]))[:, 0]
    due_S = shares.targets(np.array([at + windows]))[:, 0] - begun_S
    released, keys = list[np.ndarray](), list[np.ndarray]()
    for source in range(sources):
        most = max(int(counts_S[source]), math.floor(due_S[source]) + 2)
        next_N = np.arange(counts_S[source], most) + begun_S[source]
        released.append(np.ceil(shares.when(source, next_N + theta)))
        deadline_N = np.floor(shares.when(source, next_N + 1 - theta)) + 1
        keys.append(np.minimum(deadline_N, _NEVER).astype(np.int64) * sources + source)
    return _earliest_deadline_first(np.concatenate(released), np.concatenate(keys), at, windows) % sources


class Division:
    """allocate(), worked out for several calls at once where they follow one another: most of its cost is by call."""

    def __init__(self, shares: Shares) -> None:
        self.shares = shares
        self._next: tuple[int, int, bytes] | None = None
        self._ahead = np.empty(0, np.int64)

    def next(self, since: int, counts_S: np.ndarray, at: int, windows: int) -> np.ndarray:
        """What allocate() gives."""
        if self._next != (since, at, counts_S.tobytes()) or len(self._ahead) < windows:
            self._ahead = allocate(self.shares, since, counts_S, at, windows * _CALLS_AHEAD)
        taken, self._ahead = self._ahead[:windows], self._ahead[windows:]
        after_S = counts_S + np.bincount(taken, minlength=self.shares.sources)
        self._next = (since, at + windows, after_S.tobytes())
        return taken


def _earliest_deadline_first(released_N: np.ndarray, keys_N: np.ndarray, at: int, windows: int) -> np.ndarray:
    """The keys (windows,) that are served: at each window the least of those released by then."""
    order_N = np.argsort(released_N, kind="stable")
    released, keys = [*released_N[order_N].tolist(), math.inf], keys_N[order_N].tolist()
    waiting, served, known = list[int](), list[int](), 0
    for window in range(at + 1, at + windows + 1):
        while released[known] <= window:
            heappush(waiting, keys[known])
            known += 1
        served.append(heappop(waiting))
    return np.array(served, np.int64)
