"""Our reader: TokenStream, whose batches have targets and resets, too. Imports ssrnn_data."""

from collections.abc import Iterator
from importlib import metadata
from typing import Any

import torch

from ssrnn_data import TokenStream
from ssrnn_dist.bench.data.tasks.readers import Reading


class _Own:
    def __init__(self, reading: Reading) -> None:
        self._stream = TokenStream(
            reading.folder,
            lanes=reading.lanes,
            sequence_length=reading.sequence_length,
            rank=reading.rank,
            world_size=reading.world_size,
        )

    def epoch(self) -> Iterator[torch.Tensor]:
        for _ in range(self._stream.windows_per_epoch):
            yield next(self._stream).tokens_BT

    def state(self) -> Any:
        return self._stream.position()


def open_reader(reading: Reading) -> _Own:
    return _Own(reading)


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("torch", "numpy")}
