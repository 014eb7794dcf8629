"""Writes the packed windows in a peer's own format. Imports numpy and the peer's library."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from ssrnn_dist.bench.data.tasks.read import HOMES


def prepare(reader: str, windows: str, folder: str) -> dict[str, Callable[..., dict[str, Any]]]:
    """windows: a .npy file of (N, T) ids, uint16 or uint32."""
    home = import_module(f"{__package__}.{HOMES[reader]}")

    def run() -> dict[str, Any]:
        home.write(np.load(windows), folder)
        return {"versions": home.versions()}

    return {"run": run}
