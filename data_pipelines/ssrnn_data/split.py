"""Which split a document belongs to: a pure function of its content and the seed.

Equal documents land in the same split, wherever they came from.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from ssrnn_data.errors import data_error

Split = Literal["train", "valid"]
SPLITS: tuple[Split, ...] = ("train", "valid")


def uniform(digest: bytes, *salt: int) -> float:
    """A number in [0, 1) that the content's SHA-256 and some integers decide."""
    salted = hashlib.sha256(digest + b"".join(number.to_bytes(8, "little", signed=True) for number in salt)).digest()
    return int.from_bytes(salted[:7], "little") / 2**56


def split_of(digest: bytes, seed: int, holdout: float) -> Split:
    """ "valid" with probability holdout, else "train"."""
    return "valid" if uniform(digest, seed) < holdout else "train"


@dataclass
class SplitCounts:
    """What each split would hold, and between which holdouts both hold something."""

    documents: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    text_bytes: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    lowest: float = 1.0
    highest: float = 0.0

    def add(self, digest: bytes, text_bytes: int, seed: int, holdout: float) -> None:
        """Counts one document."""
        split = split_of(digest, seed, holdout)
        self.documents[split] += 1
        self.text_bytes[split] += text_bytes
        where = uniform(digest, seed)
        self.lowest, self.highest = min(self.lowest, where), max(self.highest, where)

    def check(self, holdout: float) -> None:
        """Raises DataError where holdout leaves a split without a document, saying which holdouts would do."""
        if holdout == 0.0 or all(self.documents.values()):
            return
        total = sum(self.documents.values())
        empty = "valid" if self.documents["valid"] == 0 else "train"
        low, high = _round_up(self.lowest), _round_down(self.highest)
        if low < high:
            would_do = (
                f"for these documents a holdout from {low} to {high} would do, or more documents, or 0 (no valid split)"
            )
        else:
            would_do = "more (and different) documents would do, or holdout 0 (no valid split)"
        noun = "document" if total == 1 else "documents"
        came = f"{holdout} of {total:,} {noun} leaves the {empty} split without a document"
        raise data_error("holdout", came, would_do)


def _round_up(value: float) -> float:
    return int(value * 10_000 + 1) / 10_000


def _round_down(value: float) -> float:
    return int(value * 10_000) / 10_000
