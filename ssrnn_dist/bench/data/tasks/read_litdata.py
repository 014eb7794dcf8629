"""litdata's reader of tokens: its TokensLoader with blocks of a window, shuffled. Imports `litdata`."""

from importlib import import_module, metadata
from typing import Any

import numpy as np

from ssrnn_dist.bench.data.tasks.readers import LoaderReader, Reading, loader_options

WINDOWS_PER_CHUNK = 8192
_litdata: Any = import_module("litdata")


def open_reader(reading: Reading) -> LoaderReader:
    windows = _litdata.StreamingDataset(
        reading.folder,
        item_loader=_litdata.TokensLoader(block_size=reading.sequence_length),
        shuffle=True,
        drop_last=True,  # what it wants of several ranks
    )
    return LoaderReader(_litdata.StreamingDataLoader(windows, **loader_options(reading)))


def write(windows_NT: np.ndarray, folder: str) -> None:
    """Chunks of whole windows, so that no token is lost between two."""
    length = windows_NT.shape[1]
    _litdata.optimize(
        fn=_itself,
        inputs=list(windows_NT),
        output_dir=folder,
        chunk_size=WINDOWS_PER_CHUNK * length,
        item_loader=_litdata.TokensLoader(block_size=length),
        num_workers=1,
        start_method="fork",
        keep_data_ordered=True,
        verbose=False,
    )


def _itself(window_T: np.ndarray) -> np.ndarray:
    return window_T


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("litdata", "torch", "numpy")}
