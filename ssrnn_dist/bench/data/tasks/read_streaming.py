"""MosaicML Streaming's reader of packed windows: a fixed-size array a sample, shuffled. Imports `streaming`."""

from importlib import import_module, metadata
from typing import Any

import numpy as np

from ssrnn_dist.bench.data.tasks.readers import LoaderReader, Reading, loader_options

_streaming: Any = import_module("streaming")


class _Windows(_streaming.StreamingDataset):
    def __getitem__(self, at: int) -> np.ndarray:
        tokens: np.ndarray = super().__getitem__(at)["tokens"]
        return tokens


def open_reader(reading: Reading) -> LoaderReader:
    windows = _Windows(local=reading.folder, batch_size=reading.rank_lanes, shuffle=True)
    return LoaderReader(_streaming.StreamingDataLoader(windows, **loader_options(reading)))


def write(windows_NT: np.ndarray, folder: str) -> None:
    """MDS shards of the default size."""
    columns = {"tokens": f"ndarray:{windows_NT.dtype.name}:{windows_NT.shape[1]}"}
    with _streaming.MDSWriter(out=folder, columns=columns) as writer:
        for window in windows_NT:
            writer.write({"tokens": window})


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("mosaicml-streaming", "torch", "numpy")}
