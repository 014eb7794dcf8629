"""A rank that reads: a cold epoch, warm ones, and one whose windows are told. Imports torch and one reader's library.

The clock runs from an epoch's first batch to its last, so that what an epoch's start costs is told apart."""

import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch

from ssrnn_dist.bench.data.tasks.readers import Reader, Reading, digests

STATE_EVERY = 10  # batches: every reader's state is taken so often
HOMES = {"ssrnn": "read_own", "mosaicml-streaming": "read_streaming", "litdata": "read_litdata"}


def prepare(reader: str, reading: Mapping[str, Any]) -> dict[str, Callable[..., dict[str, Any]]]:
    """What the process can be asked: cold(), warm(epochs), told(file)."""
    torch.set_num_threads(1)
    home = import_module(f"{__package__}.{HOMES[reader]}")
    session = _Session(lambda: home.open_reader(Reading(**reading)))
    return {"cold": session.cold, "warm": session.warm, "told": session.told, "versions": home.versions}


class _Session:
    """One reader, opened by the cold epoch."""

    def __init__(self, open_reader: Callable[[], Reader]) -> None:
        self._open_reader = open_reader
        self._reader: Reader | None = None
        self._epochs = 0

    def cold(self) -> dict[str, Any]:
        """The first epoch; first_batch_seconds with the opening in it."""
        began = time.perf_counter()
        self._reader = self._open_reader()
        return self._timed(began)

    def warm(self, epochs: int) -> dict[str, Any]:
        """The sums over so many more epochs."""
        each = [self._timed(time.perf_counter()) for _ in range(epochs)]
        return {key: sum(one[key] for one in each) for key in each[0]}

    def told(self, file: str) -> dict[str, Any]:
        """Writes the digests (N,) of one more epoch's windows to a .npy file; which epoch it was, from 0."""
        assert self._reader is not None
        np.save(file, np.concatenate([digests(tokens_BT.numpy()) for tokens_BT in self._reader.epoch()]))
        self._epochs += 1
        return {"epoch": self._epochs - 1}

    def _timed(self, began: float) -> dict[str, Any]:
        assert self._reader is not None
        first, tokens = 0.0, 0
        for step, tokens_BT in enumerate(self._reader.epoch()):
            if step == 0:
                first = time.perf_counter()
            else:
                tokens += tokens_BT.numel()
            if step % STATE_EVERY == STATE_EVERY - 1:
                self._reader.state()
        self._epochs += 1
        return {"tokens": tokens, "seconds": time.perf_counter() - first, "first_batch_seconds": first - began}
