"""Checkpoints as they are read: a folder a step, a safetensors file a rank, and checkpoint.json.

Without that it is torn. No pickles. writer.py writes them; fetch.py brings files from a store."""

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ssrnn_dist.checkpoint.fetch import fetched
from ssrnn_dist.checkpoint.names import (
    MANIFEST,
    TOKENIZER,
    VERSION,
    is_skipped,
    is_torn,
    newest_at,
    step_folder,
    steps_in,
    warn_here,
)
from ssrnn_dist.checkpoint.slices import Slice, copies_for, parse_key
from ssrnn_dist.problems import user_error
from ssrnn_dist.storage.remote import RemoteFolder
from ssrnn_dist.world import World, attempt

__all__ = ["MANIFEST", "TOKENIZER", "Checkpoint", "lane_states", "newest_checkpoint", "step_folder", "why_torn"]


def newest_checkpoint(
    root: Path, world: World, remote_folder: str | None = None, warn: Callable[[str], None] = warn_here
) -> "Checkpoint | None":
    """The newest whole checkpoint of a run, the same on every rank; None where none was ever finished.

    root: the run's checkpoints/.  remote_folder: the URL of the run's folder where it has one; then what stands there
    counts, and root is this node's copy.  warn: hears on rank 0, which alone looks, of each that is skipped.
    UserError where none is whole; DataError where the store cannot be read."""
    remote = RemoteFolder(remote_folder).below("checkpoints") if remote_folder else None
    found = [-1]

    def look() -> None:
        if world.is_first:
            torn: list[str] = []
            found[0] = newest_at(remote, torn.append) if remote else _newest_whole_step(root, torn.append)
            _check_some_whole(remote.shown if remote else str(root), found[0], torn)
            for each in torn:
                warn(is_skipped(each))

    world.all_well(attempt(look), "looking for the newest checkpoint")
    step = world.first_says(found[0])
    if step < 0:
        return None
    folder = step_folder(root, step)
    return Checkpoint(folder, remote.below(folder.name) if remote else None)


def _check_some_whole(where: str, step: int, torn: list[str]) -> None:
    """To begin anew would write over what the user may still save."""
    if step < 0 and torn:
        came = f"no whole checkpoint among {len(torn)}; of the newest: {torn[0]}"
        allowed = "a copy of one of them from elsewhere (checkpoint.uri?), or --fresh, which starts over beside it"
        raise user_error(where, came, allowed)


def _newest_whole_step(root: Path, hear: Callable[[str], None]) -> int:
    """-1: there is none. A folder comes to stand by a rename, whole: one without checkpoint.json was damaged later."""
    for step in sorted(set(steps_in(root)), reverse=True):
        folder = step_folder(root, step)
        lack = why_torn(folder)
        if lack is None:
            return step
        hear(is_torn(str(folder), lack))
    return -1


def why_torn(folder: Path) -> str | None:
    """What a checkpoint lacks; None where it is whole."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        looks = [partial(_why_wrong, folder / name, each["bytes"], each["sha256"]) for name, each in files.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"no readable {MANIFEST}"
    with ThreadPoolExecutor(max_workers=8) as pool:  # hashing lets go of the interpreter
        return next((wrong for wrong in pool.map(lambda look: look(), looks) if wrong), None)


def _why_wrong(path: Path, size_bytes: int, sha256: str) -> str | None:
    if not path.is_file():
        return f"{path.name} is missing"
    if path.stat().st_size != size_bytes:
        return f"{path.name} has {path.stat().st_size} of {size_bytes} bytes"
    with path.open("rb") as file:
        same = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    return None if same else f"{path.name} has another checksum"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, read a slice at a time.

    remote: where it stands, if not in folder; its files come to folder as they are needed, and are checked. Then
    reading raises DataError where one cannot be had."""

    folder: Path
    remote: RemoteFolder | None = None

    @cached_property
    def about(self) -> dict[str, Any]:
        """checkpoint.json. UserError where the folder is no checkpoint of ours."""
        where = str(self.folder)
        try:
            about = json.loads(self.remote.read(MANIFEST) if self.remote else (self.folder / MANIFEST).read_bytes())
        except (OSError, ValueError) as error:
            if self.remote and not isinstance(error, json.JSONDecodeError):
                raise
            raise user_error(where, "no checkpoint", f"a folder with a {MANIFEST} is wanted") from None
        if not isinstance(about, dict) or about.get("version") != VERSION:
            raise user_error(where, "a checkpoint of another version", f"version {VERSION} is allowed")
        return about

    def path(self, name: str) -> Path:
        """One of its files, on this node."""
        if self.remote is None:
            return self.folder / name
        if name not in self._here:
            self._here[name] = fetched(self.remote, name, self.about["files"][name], self.folder)
        return self._here[name]

    @cached_property
    def _here(self) -> dict[str, Path]:
        return {}

    @property
    def rank_files(self) -> list[str]:
        return [name for name in self.about["files"] if name.endswith(".safetensors")]

    def _sizes(self, name: str) -> dict[str, int]:
        """Key → number of elements of what lies in a rank's file. The manifest tells it since files can be far away."""
        told: dict[str, int] | None = self.about["files"][name].get("tensors")
        if told is not None:
            return told
        with safe_open(self.path(name), framework="pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 (not a dict)
        return {key: torch.Size(shape).numel() for key, shape in shapes.items()}

    @cached_property
    def _index(self) -> dict[str, dict[Slice, str]]:
        """kind → slice → file."""
        index: dict[str, dict[Slice, str]] = {}
        for name in self.rank_files:
            for key, length in self._sizes(name).items():
                if "@" in key:
                    kind, piece = parse_key(key, length)
                    index.setdefault(kind, {})[piece] = name
        return index

    def read(self, kind: str, wanted: Slice, out: Tensor) -> None:
        """Fill out (length,) with a slice of a parameter's `kind`, whoever wrote it."""
        stored = self._index.get(kind, {})
        for copy in copies_for(wanted, stored):
            with safe_open(self.path(stored[copy.source]), framework="pt") as file:
                piece = file.get_slice(copy.source.key(kind))[copy.source_start : copy.source_start + copy.length]
            out[copy.target_start : copy.target_start + copy.length].copy_(piece)

    def parameters(self) -> dict[str, int]:
        """Each stored parameter's number of elements."""
        sizes: dict[str, int] = {}
        for piece in self._index.get("weight", {}):
            sizes[piece.name] = max(sizes.get(piece.name, 0), piece.end)
        return sizes

    def tensors(self, name: str, prefix: str) -> dict[str, Tensor]:
        """The tensors of a rank's file whose name starts with prefix (without it)."""
        keys = [key for key in self._sizes(name) if key.startswith(prefix)]
        if not keys:
            return {}
        with safe_open(self.path(name), framework="pt") as file:
            return {key.removeprefix(prefix): file.get_tensor(key) for key in keys}

    def files_with_lanes(self, lanes: range) -> Iterable[str]:
        """The rank files that may hold the states of some of these lanes."""
        for name in self.rank_files:
            held = self.about["files"][name].get("lanes")
            if held is None or (held[0] < lanes.stop and lanes.start < held[1]):
                yield name


def lane_states(checkpoint: Checkpoint, lanes: range, n_layers: int) -> tuple[Tensor, ...]:
    """The hidden state (lanes, S) of each layer for the given lanes, whichever ranks had them."""
    rows = [checkpoint.tensors(name, "hidden/") for name in checkpoint.files_with_lanes(lanes)]
    all_lanes = torch.cat([tensors["lanes"] for tensors in rows])
    place_of = {lane: place for place, lane in enumerate(all_lanes.tolist())}
    places = torch.tensor([place_of[lane] for lane in lanes], dtype=torch.int64)
    return tuple(torch.cat([tensors[str(layer)] for tensors in rows])[places] for layer in range(n_layers))
