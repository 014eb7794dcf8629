"""A checkpoint's file from a store to this node: whole, checked, and once for all ranks of the node.

The lock is the kernel's: a killed process holds none."""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssrnn_data.errors import data_error
from ssrnn_dist.storage.remote import RemoteFolder

TRIES = 3  # downloads whose bytes are other ones than were written


def fetched(remote: RemoteFolder, name: str, entry: Mapping[str, Any], folder: Path) -> Path:
    """folder/name with the size and SHA-256 of its entry in checkpoint.json; downloaded unless it is there already.

    DataError where the store has no such bytes, or does not answer; OSError where the disk takes no more."""
    path = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f".{name}.lock"):
        if path.is_file() and path.stat().st_size == entry["bytes"] and _sha256(path) == entry["sha256"]:
            return path
        for _ in range(TRIES):
            if _download(remote, name, path, entry["sha256"]):
                return path
    came = f"{TRIES} downloads had another SHA-256 than checkpoint.json tells"
    allowed = f"the file as it was written; without {remote.shown}/checkpoint.json the checkpoint before it is taken"
    raise data_error(f"{remote.shown}/{name}", came, allowed)


def _download(remote: RemoteFolder, name: str, path: Path, sha256: str) -> bool:
    """Did the right bytes come?  Then they are at path."""
    temporary = path.with_name(f".{name}.part")
    try:
        with temporary.open("wb") as out:
            remote.download(name, out)
            out.flush()
            os.fsync(out.fileno())
        if _sha256(temporary) != sha256:
            return False
        temporary.replace(path)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
