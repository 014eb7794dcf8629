"""MosaicML Streaming's reader of packed windows: a fixed-size array a sample, shuffled. Imports `streaming`."""

from collections.abc import Iterator
from importlib import import_module, metadata
from typing import Any

import numpy as np
import torch

from ssrnn_dist.bench.data.tasks.readers import Reading, collated

_streaming: Any = import_module("streaming")


class _Windows(_streaming.StreamingDataset):
    def __getitem__(self, at: int) -> np.ndarray:
        tokens: np.ndarray = super().__getitem__(at)["tokens"]
        return tokens


class _Streaming:
    def __init__(self, reading: Reading) -> None:
        windows = _Windows(local=reading.folder, batch_size=reading.rank_lanes, shuffle=True)
        self._loader: Any = _streaming.StreamingDataLoader(
            windows,
            batch_size=reading.rank_lanes,
            num_workers=reading.loader_processes,
            persistent_workers=reading.loader_processes > 0,
            collate_fn=collated,
        )

    def epoch(self) -> Iterator[torch.Tensor]:
        return iter(self._loader)

    def state(self) -> Any:
        return self._loader.state_dict()


def open_reader(reading: Reading) -> _Streaming:
    return _Streaming(reading)


def write(windows_NT: np.ndarray, folder: str) -> None:
    """MDS shards of the default size."""
    columns = {"tokens": f"ndarray:{windows_NT.dtype.name}:{windows_NT.shape[1]}"}
    with _streaming.MDSWriter(out=folder, columns=columns) as writer:
        for window in windows_NT:
            writer.write({"tokens": window})


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("mosaicml-streaming", "torch", "numpy")}
