"""What becomes of samples that can't be used: the first is an error, or they are skipped, counted and limited.

A skipped sample's tokens keep their places in the lanes, as <|endoftext|> that count for nothing: no other token moves.
"""

from typing import Literal, get_args

from ssrnn_data.errors import DataError, data_error
from ssrnn_data.shards import BadSample

OnBadSample = Literal["error", "skip"]


class BadSamples:
    """The bad samples that this process met, each once. Give it as `on_bad` where they are skipped."""

    def __init__(self, tokens: int, max_fraction: float) -> None:
        """tokens: of the split; more than max_fraction of them in bad samples is a DataError."""
        self._limit, self._of = max_fraction * tokens, f"{max_fraction:g} of {tokens:,} tokens (max_bad_fraction)"
        self._known: set[tuple[str, int]] = set()
        self._untold: list[BadSample] = []
        self.tokens = 0

    @property
    def count(self) -> int:
        return len(self._known)

    def __call__(self, bad: BadSample) -> None:
        """Notes one; DataError where it is one too many."""
        where = (bad.shard, bad.offset_bytes)
        if where in self._known:
            return
        if self.tokens + bad.tokens > self._limit:
            came = f"{bad.said}; with {self.count:,} samples before it {self.tokens + bad.tokens:,} tokens are bad"
            raise DataError(f"{bad.shard}, {bad.key}: {came}; allowed are {self._of}")
        self._known.add(where)
        self._untold.append(bad)
        self.tokens += bad.tokens

    def take(self) -> list[BadSample]:
        """Those that were not taken before."""
        taken, self._untold = self._untold, []
        return taken


def check_policy(on_bad_sample: str, max_bad_fraction: float) -> None:
    """Raises DataError for another policy than error and skip, or a fraction outside [0, 1]."""
    if on_bad_sample not in get_args(OnBadSample):
        raise data_error("on_bad_sample", f"{on_bad_sample!r} came", "error or skip is allowed")
    if not 0 <= max_bad_fraction <= 1:
        raise data_error("max_bad_fraction", f"{max_bad_fraction!r} came", "a fraction in [0, 1] is allowed")
