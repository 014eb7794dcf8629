"""What runs on every node: whether it sees the storage that all must share. Removes what it wrote.

Travels to the nodes by value, as probes.py: imports the standard library, what travels along and, inside, fsspec."""

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssrnn_launch.doctor.probes import told

SHARED_SECONDS = 5.0  # a network file system may take a while to show what another node wrote


def write_token(folder: str, name: str, token: str) -> str | None:
    """Put a file of this name into a folder (path or URL), made where it is missing; why not, or None."""
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(folder)
        system.makedirs(path, exist_ok=True)
        system.pipe_file(f"{path}/{name}", token.encode())
    except Exception as error:  # whatever a storage's library raises is what we were asked to find
        return told(error)
    return None


def read_tokens(folder: str, wanted: Mapping[str, str]) -> list[str] | str:
    """The names of those files that are not here, or not with their content, after a while; or why they can't be read.

    Also lists the folder, as resuming a run does."""
    until = time.monotonic() + SHARED_SECONDS
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(folder)
        while True:
            system.invalidate_cache()
            there = {each.rstrip("/").rpartition("/")[2] for each in system.ls(path, detail=False)}
            missing = [
                name
                for name, token in wanted.items()
                if name not in there or system.cat_file(f"{path}/{name}") != token.encode()
            ]
            if not missing or time.monotonic() > until:
                return missing
            time.sleep(0.5)
    except FileNotFoundError:
        return list(wanted)
    except Exception as error:
        return told(error)


def remove_token(folder: str, name: str) -> str | None:
    """Delete the file, and the folder once it is empty; why not, or None."""
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(folder)
        if system.exists(f"{path}/{name}"):
            system.rm_file(f"{path}/{name}")
    except Exception as error:
        return told(error)
    try:
        system.rmdir(path)
    except Exception:
        return None  # not empty yet: another node's turn; or a storage without folders
    return None


def remove_tree(folder: str) -> None:
    """Delete a folder (path or URL) with all in it."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(folder)
    if system.exists(path):
        system.rm(path, recursive=True)


def index_state(index: str, shards: Mapping[str, int]) -> dict[str, Any]:
    """A corpus as seen here: its index's SHA-256 or why it can't be read, and how many shards lack or differ in size.

    shards: of a corpus in a folder, by path."""
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(index)
        found = hashlib.sha256(system.cat_file(path)).hexdigest()
    except Exception as error:
        return {"sha256": None, "error": told(error), "odd_shards": 0}
    odd = sum(1 for shard, size in shards.items() if _size(shard) != size)
    return {"sha256": found, "error": None, "odd_shards": odd}


def _size(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except OSError:
        return None


def offload_error(folder: str) -> str | None:
    """Why a folder of this node can't be written, or None."""
    name = f".ssrnn-doctor-{os.getpid()}"
    return write_token(folder, name, "x") or remove_token(folder, name)
