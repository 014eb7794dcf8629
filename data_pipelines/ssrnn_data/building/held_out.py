"""What no training document may equal: the digests of all that valid_sources and test_sources hold, sorted on disk.

Mapped, so that neither making nor asking takes memory by their number.
"""

import shutil
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from ssrnn_data.building.work_folder import WorkFolder
from ssrnn_data.files import whole_file

_DIGEST = np.dtype("S32")  # compares as bytes do


class HeldOut:
    """`digest in held_out` asks whether a held-out document has this SHA-256. The file is opened when first asked."""

    def __init__(self, path: Path) -> None:
        """path: 32 bytes a document, ascending; no such file holds out nothing."""
        self._path = path

    @cached_property
    def _sorted(self) -> np.ndarray:
        return _mapped(self._path, "r")

    def __contains__(self, digest: bytes) -> bool:
        place = int(np.searchsorted(self._sorted, np.frombuffer(digest, _DIGEST)[0]))
        return self._sorted[place : place + 1].tobytes() == digest


def held_out_file(work: WorkFolder) -> Path:
    """Where a build keeps them."""
    return work.path / "held_out"


def sort_held_out(work: WorkFolder, parts: Iterable[Path]) -> None:
    """Makes the file of a build from those of its units."""
    with whole_file(held_out_file(work)) as out:
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, out)
        out.flush()
        _mapped(Path(out.name), "r+").sort()


def _mapped(path: Path, mode: Literal["r", "r+"]) -> np.ndarray:
    has_any = path.is_file() and path.stat().st_size
    return np.memmap(path, _DIGEST, mode) if has_any else np.empty(0, _DIGEST)
