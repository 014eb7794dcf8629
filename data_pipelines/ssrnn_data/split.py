"""Which split a document belongs to, and where in it: pure functions of its content and the seed.

Equal documents land in the same split and the same place, wherever they came from.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ssrnn_data.errors import data_error

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def uniform(digest: bytes, *salt: int) -> float:
    """A number in [0, 1) that the content's SHA-256 and some integers decide."""
    salted = hashlib.sha256(digest + b"".join(number.to_bytes(8, "little", signed=True) for number in salt)).digest()
    return int.from_bytes(salted[:7], "little") / 2**56


def split_of(digest: bytes, seed: int, holdout: float, test: float = 0.0) -> Split:
    """ "valid" with probability holdout, "test" with probability test, else "train"."""
    where = uniform(digest, seed)
    return "valid" if where < holdout else "test" if where < holdout + test else "train"


def order_key(digest: bytes, seed: int) -> int:
    """A document's place in its split: 64 bits, uniform; ascending keys are a random order of the documents."""
    return int.from_bytes(hashlib.sha256(b"order" + seed.to_bytes(8, "little") + digest).digest()[:8], "little")


@dataclass
class SplitCounts:
    """What each split would hold, and between which holdouts train and valid both hold something."""

    documents: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    text_bytes: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    lowest: float = 1.0
    highest: float = 0.0

    def add(self, digest: bytes, text_bytes: int, seed: int, split: Split) -> None:
        """Counts one document."""
        self.documents[split] += 1
        self.text_bytes[split] += text_bytes
        where = uniform(digest, seed)
        self.lowest, self.highest = min(self.lowest, where), max(self.highest, where)

    def merge(self, other: Mapping[str, Any]) -> None:
        """Adds the to_dict() of another part."""
        for split in SPLITS:
            self.documents[split] += other["documents"][split]
            self.text_bytes[split] += other["text_bytes"][split]
        self.lowest, self.highest = min(self.lowest, other["lowest"]), max(self.highest, other["highest"])

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    def check(self, holdout: float, test: float = 0.0) -> None:
        """Raises DataError where a split that is wanted has no document, saying which holdouts would do."""
        wanted: dict[Split, bool] = {"valid": holdout > 0, "train": True, "test": test > 0}
        empty = next((split for split, is_wanted in wanted.items() if is_wanted and not self.documents[split]), None)
        if empty is None:
            return
        total = sum(self.documents.values())
        low, high = _round_up(self.lowest), _round_down(self.highest)
        if low < high and not test:
            would_do = (
                f"for these documents a holdout from {low} to {high} would do, or more documents, or 0 (no valid split)"
            )
        else:
            would_do = "more (and different) documents would do, or holdout 0 (no valid split)"
            would_do += " and test 0 (no test split)" if test else ""
        noun = "document" if total == 1 else "documents"
        came = f"{test if empty == 'test' else holdout} of {total:,} {noun} leaves the {empty} split without a document"
        raise data_error("test" if empty == "test" else "holdout", came, would_do)


def _round_up(value: float) -> float:
    return int(value * 10_000 + 1) / 10_000


def _round_down(value: float) -> float:
    return int(value * 10_000) / 10_000
