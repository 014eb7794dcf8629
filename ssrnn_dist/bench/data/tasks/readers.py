"""What every reader of the benchmark is asked for, and a window's digest. Imports numpy and torch.

N windows, B lanes of a rank, T tokens a window."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch


@dataclass(frozen=True)
class Reading:
    """What one rank reads. lanes: of all ranks, and a multiple of the world."""

    folder: str
    lanes: int
    sequence_length: int
    rank: int
    world_size: int
    loader_processes: int

    @property
    def rank_lanes(self) -> int:
        return self.lanes // self.world_size


class Reader(Protocol):
    """One rank's batches, epoch after epoch, and where it stands."""

    def epoch(self) -> Iterator[torch.Tensor]:
        """tokens_BT of the next epoch, int64."""
        ...

    def state(self) -> Any:
        """What this reader's user saves at a checkpoint."""
        ...


class LoaderReader:
    """A peer's own data loader as a Reader: epoch after epoch of it, and its own state."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def epoch(self) -> Iterator[torch.Tensor]:
        return iter(self._loader)

    def state(self) -> Any:
        return self._loader.state_dict()


def loader_options(reading: Reading) -> dict[str, Any]:
    """What every peer's loader is given."""
    return {
        "batch_size": reading.rank_lanes,
        "num_workers": reading.loader_processes,
        "persistent_workers": reading.loader_processes > 0,
        "collate_fn": collated,
    }


def collated(rows: Sequence[np.ndarray]) -> torch.Tensor:
    """(B, T) int64 of B rows (T,): one stack and one conversion, the fastest that we found for the peers."""
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def digests(windows_NT: np.ndarray) -> np.ndarray:
    """(N,) uint64: 8 bytes of BLAKE2b of each window's ids as little-endian int64."""
    rows = np.ascontiguousarray(windows_NT, "<i8")
    joined = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(joined, np.uint64)
