"""Which lane reads which tokens, and which rank holds which lanes: pure functions of numbers, no file is touched.

L lanes, T tokens a window, N tokens in the split, W windows a lane and epoch, S shards.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ssrnn_data.errors import data_error


def check_counts(**numbers: int) -> None:
    """Raises DataError naming the first argument that is no positive integer."""
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise data_error(name, f"{number!r} came", "a positive integer is allowed")


def check_seed(seed: int) -> None:
    """Raises DataError for what is no integer of 0 or more."""
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise data_error("seed", f"{seed!r} came", "an integer of 0 or more is allowed")


def check_rank(rank: int, world_size: int) -> None:
    """Raises DataError unless 0 <= rank < world_size."""
    check_counts(world_size=world_size)
    if not isinstance(rank, int) or isinstance(rank, bool) or not 0 <= rank < world_size:
        raise data_error("rank", f"{rank!r} came", f"0 to {world_size - 1} is allowed in a world of {world_size}")


def deal_lanes(lanes: int, world_size: int, rank: int) -> range:
    """The lanes of a rank: contiguous, ⌊L/world⌋ or one more, the larger shares first.

    Raises DataError for more ranks than lanes or a rank outside the world.
    """
    check_counts(lanes=lanes)
    check_rank(rank, world_size)
    if world_size > lanes:
        raise data_error(
            "world_size", f"{world_size} ranks for {lanes} lanes", f"at most {lanes} ranks (lanes) are allowed"
        )
    share, rest = divmod(lanes, world_size)
    start = rank * share + min(rank, rest)
    return range(start, start + share + (rank < rest))


def windows_per_epoch(tokens: int, lanes: int, sequence_length: int, where: str = "lanes") -> int:
    """W = (N - 1) // (L T): the windows that each lane has in an epoch; DataError where there is not one."""
    check_counts(lanes=lanes, sequence_length=sequence_length)
    windows = (tokens - 1) // (lanes * sequence_length)
    if windows >= 1:
        return windows
    if tokens >= 2:
        would_do = [f"lanes × sequence_length up to {tokens - 1:,}"]
        if tokens > sequence_length:
            would_do.append(f"such as {(tokens - 1) // sequence_length} lanes × {sequence_length}")
        if tokens > lanes:
            would_do.append(
                f"{'or' if tokens > sequence_length else 'such as'} {lanes} lanes × {(tokens - 1) // lanes}"
            )
        allowed = " ".join(would_do) + " would do, or more text"
    else:
        allowed = "more text is needed"
    needed = lanes * sequence_length + 1
    came = f"{tokens:,} tokens for one step of {lanes} lanes × {sequence_length}, which needs {needed:,}"
    raise data_error(where, came, allowed)


def shard_order(shards: int, seed: int, epoch: int) -> np.ndarray:
    """The order (S,) of the shards in an epoch.

    Sorted by raw bits of PCG64, which numpy keeps the same across releases; its permutation() may change (NEP 19).
    """
    bits = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(shards)
    return np.argsort(bits, kind="stable")


@dataclass(frozen=True)
class ShardSequence:
    """Shards read one after another as one row of tokens. order (S,): shard numbers; starts (S + 1,): offsets."""

    order: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, shard_tokens: Sequence[int] | np.ndarray, order: np.ndarray) -> "ShardSequence":
        """From the tokens of each shard (S,) and an order."""
        counts = np.asarray(shard_tokens, np.int64)[order]
        return cls(order, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]))

    @property
    def tokens(self) -> int:
        """N."""
        return int(self.starts[-1])

    def locate(self, offset: int) -> tuple[int, int]:
        """(place in order, tokens to skip in that shard) of the token at an offset < N."""
        place = int(np.searchsorted(self.starts, offset, side="right")) - 1
        return place, offset - int(self.starts[place])


def lane_offset(lane: int, window: int, windows: int, sequence_length: int) -> int:
    """Where a window of a lane begins in the epoch: lane l covers tokens [l W T, (l + 1) W T)."""
    return (lane * windows + window) * sequence_length


def split_at_documents(tokens: int, lanes: int, document_start: Callable[[int], int]) -> list[range]:
    """Cuts N tokens into at most `lanes` non-empty ranges of whole documents, as even as whole documents allow.

    document_start(offset): the first document start at or after an offset, or N. It is asked at ascending offsets, and
    not where the answer is known. Fewer ranges come back than lanes where documents are too few or too long.
    """
    cuts = [0]
    for lane in range(1, lanes):
        wanted = lane * tokens // lanes
        cuts.append(cuts[-1] if wanted <= cuts[-1] else document_start(wanted))
    cuts.append(tokens)
    return [range(start, stop) for start, stop in pairwise(cuts) if stop > start]
