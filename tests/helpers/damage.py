"""Ways to damage a corpus: its index, a shard's members, its bytes."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from archives import Members

from ssrnn_data.shards import file_sha256


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes index.json, as a build that had gone wrong would have written it."""
    raw = json.loads((folder / "index.json").read_text())
    raw.pop("checksum", None)
    change(raw)
    (folder / "index.json").write_text(json.dumps(raw))


def replace_shard(folder: Path, data: bytes) -> None:
    """Puts other bytes where the first training shard was, with an index that knows their size and checksum."""
    path = folder / "train-000000.tar"
    path.chmod(0o644)
    path.write_bytes(data)

    def change(raw: dict[str, Any]) -> None:
        raw["splits"]["train"]["shards"][0] |= {"size_bytes": len(data), "sha256": file_sha256(path)}

    edit(folder, change)


def members_of(folder: Path) -> Members:
    with tarfile.open(folder / "train-000000.tar") as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()
