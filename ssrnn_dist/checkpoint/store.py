"""Checkpoints on disk: a folder a step, a safetensors file a rank, and checkpoint.json, without which it is torn.

Imports safetensors and torch; one process a rank, one shared file system. No pickles."""

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ssrnn_dist.checkpoint.slices import Slice, copies_for, parse_key
from ssrnn_dist.files import write_bytes_atomic, write_json_atomic
from ssrnn_dist.problems import user_error
from ssrnn_dist.world import World, attempt

VERSION = 1
MANIFEST = "checkpoint.json"
TOKENIZER = "tokenizer.json"


def step_folder(root: Path, step: int) -> Path:
    return root / f"step-{step:08d}"


def write_checkpoint(
    root: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    about: Mapping[str, Any],
    beside: Mapping[str, bytes],
    world: World,
    keep: int,
) -> Path:
    """Write this rank's tensors; when all ranks have, the checkpoint appears at once, whole.

    root: the run's checkpoints/.  about: JSON-able, from rank 0.  beside: small files that go into the folder, from
    rank 0.  keep: newest checkpoints that stay.
    Raises on every rank where one could not write (a full disk, say); the older checkpoints are untouched."""
    final, partial = step_folder(root, step), root / f".step-{step:08d}.partial"
    world.all_well(attempt(lambda: _clean_slate(partial) if world.is_first else None), "making the checkpoint")
    world.all_well(attempt(lambda: _write_rank(partial, world.rank, tensors)), "writing the checkpoint")

    def finish() -> None:
        files = {name: _write_small(partial / name, data) for name, data in beside.items()}
        for rank in range(world.size):
            note = partial / f"rank-{rank:05d}.json"
            files[_rank_file(rank)] = json.loads(note.read_text())
            note.unlink()
        write_json_atomic(partial / MANIFEST, {"version": VERSION, "step": step, "files": files, **about})
        shutil.rmtree(final, ignore_errors=True)  # a torn one, left by a kill
        partial.rename(final)
        _forget_old(root, keep)

    error = attempt(lambda: finish() if world.is_first else None)
    if error is not None:
        shutil.rmtree(partial, ignore_errors=True)
    world.all_well(error, "finishing the checkpoint")
    return final


def _clean_slate(partial: Path) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)


def _rank_file(rank: int) -> str:
    return f"rank-{rank:05d}.safetensors"


def _write_rank(partial: Path, rank: int, tensors: Mapping[str, Tensor]) -> None:
    path = partial / _rank_file(rank)
    try:
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
        with path.open("r+b") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, SafetensorError):
            raise _as_os_error(error, path) from error
        raise
    write_json_atomic(partial / f"rank-{rank:05d}.json", {"sha256": digest, "bytes": path.stat().st_size})


def _as_os_error(error: SafetensorError, path: Path) -> OSError:
    """With the system's number, which safetensors gives in words only: a full disk must be known as one."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path)) if number else OSError(f"{path}: {error}")


def _write_small(path: Path, data: bytes) -> dict[str, Any]:
    write_bytes_atomic(path, data)
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _forget_old(root: Path, keep: int) -> None:
    for old in sorted(root.glob("step-*"), reverse=True)[keep:]:
        shutil.rmtree(old, ignore_errors=True)


def newest_checkpoint(root: Path, world: World) -> "Checkpoint | None":
    """The newest whole checkpoint below root, the same on every rank; torn ones are skipped with a warning.

    Rank 0 alone reads and hashes."""
    step = world.first_says(_newest_whole_step(root) if world.is_first else -1)
    return Checkpoint(step_folder(root, step)) if step >= 0 else None


def _newest_whole_step(root: Path) -> int:
    for folder in sorted(root.glob("step-*"), reverse=True):
        torn = why_torn(folder)
        if torn is None:
            return int(folder.name.removeprefix("step-"))
        warnings.warn(f"checkpoint {folder} is torn ({torn}) and is skipped", stacklevel=2)
    return -1


def why_torn(folder: Path) -> str | None:
    """What a checkpoint lacks; None where it is whole."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"no readable {MANIFEST}"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} of {expected['bytes']} bytes"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                return f"{name} has another checksum"
    return None


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, read a slice at a time."""

    folder: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        """checkpoint.json. UserError where the folder is no checkpoint of ours."""
        try:
            about = json.loads((self.folder / MANIFEST).read_text())
        except (OSError, ValueError):
            raise user_error(str(self.folder), "no checkpoint", f"a folder with a {MANIFEST} is wanted") from None
        if not isinstance(about, dict) or about.get("version") != VERSION:
            raise user_error(str(self.folder), "a checkpoint of another version", f"version {VERSION} is allowed")
        return about

    @property
    def rank_files(self) -> list[str]:
        return [name for name in self.about["files"] if name.endswith(".safetensors")]

    @cached_property
    def _index(self) -> dict[str, dict[Slice, str]]:
        """kind → slice → file."""
        index: dict[str, dict[Slice, str]] = {}
        for name in self.rank_files:
            with safe_open(self.folder / name, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (not a dict)
                    if "@" in key:
                        kind, piece = parse_key(key, file.get_slice(key).get_shape()[0])
                        index.setdefault(kind, {})[piece] = name
        return index

    def read(self, kind: str, wanted: Slice, out: Tensor) -> None:
        """Fill out (length,) with a slice of a parameter's `kind`, whoever wrote it."""
        stored = self._index.get(kind, {})
        for copy in copies_for(wanted, stored):
            with safe_open(self.folder / stored[copy.source], framework="pt") as file:
                piece = file.get_slice(copy.source.key(kind))[copy.source_start : copy.source_start + copy.length]
            out[copy.target_start : copy.target_start + copy.length].copy_(piece)

    def parameters(self) -> dict[str, int]:
        """Each stored parameter's number of elements."""
        sizes: dict[str, int] = {}
        for piece in self._index.get("weight", {}):
            sizes[piece.name] = max(sizes.get(piece.name, 0), piece.end)
        return sizes

    def rows(self, prefix: str) -> list[dict[str, Tensor]]:
        """Per rank file, the tensors whose name starts with prefix (without it)."""
        found = []
        for name in self.rank_files:
            with safe_open(self.folder / name, framework="pt") as file:
                keys = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118 (not a dict)
                found.append({key.removeprefix(prefix): file.get_tensor(key) for key in keys})
        return found


def lane_states(checkpoint: Checkpoint, lanes: range, n_layers: int) -> tuple[Tensor, ...]:
    """The hidden state (lanes, S) of each layer for the given lanes, whichever ranks had them."""
    rows = checkpoint.rows("hidden/")
    all_lanes = torch.cat([tensors["lanes"] for tensors in rows])
    place_of = {lane: place for place, lane in enumerate(all_lanes.tolist())}
    places = torch.tensor([place_of[lane] for lane in lanes], dtype=torch.int64)
    return tuple(torch.cat([tensors[str(layer)] for tensors in rows])[places] for layer in range(n_layers))
