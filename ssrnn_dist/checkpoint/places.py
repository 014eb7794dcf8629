"""Where checkpoints come to stand: a folder that all ranks see, or a store. Each is whole there, or absent.

Files only; who calls what when is writer.py's. A folder appears by a rename; in a store checkpoint.json comes last."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ssrnn_dist.checkpoint.names import MANIFEST, VERSION, by_step, rank_file, step_folder, step_name, steps_in
from ssrnn_dist.checkpoint.retention import Retention, steps_to_forget
from ssrnn_dist.files import json_text, write_bytes_atomic, write_json_atomic
from ssrnn_dist.storage.remote import RemoteFolder


@dataclass(frozen=True)
class Contents:
    """What a checkpoint has beside the ranks' files. about: JSON-able.  beside: small files."""

    step: int
    about: Mapping[str, Any]
    beside: Mapping[str, bytes]

    def manifest(self, rank_files: Mapping[str, Any]) -> dict[str, Any]:
        """checkpoint.json.  rank_files: name → sha256, bytes and what else is known, in the order of the ranks."""
        beside = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in self.beside.items()
        }
        return {"version": VERSION, "step": self.step, "files": {**beside, **rank_files}, **self.about}


class Place(Protocol):
    """mark: what tells one attempt at a step from another, the same on every rank."""

    def put(self, step: int, mark: str, rank: int, data: memoryview) -> str:
        """A rank's file, synced; its name there."""

    def publish(self, mark: str, contents: Contents, rank_files: Mapping[str, Any]) -> None:
        """Rank 0, when all have put theirs: the checkpoint stands."""

    def forget(self, step: int, retention: Retention) -> None:
        """Rank 0, when the checkpoint of step stands: those that are to go, go."""

    def discard(self, step: int, mark: str) -> None:
        """Rank 0, after a failure: what has been put goes, as far as it can."""


class SharedFolder:
    """The run's checkpoints/ on a file system that all ranks see."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _partial(self, step: int, mark: str) -> Path:
        return self.root / f".{step_name(step)}.{mark}.partial"

    def clear(self) -> None:
        """What kills have left, before anybody writes."""
        self.root.mkdir(parents=True, exist_ok=True)
        for partial in self.root.glob(".step-*.partial"):
            shutil.rmtree(partial, ignore_errors=True)

    def put(self, step: int, mark: str, rank: int, data: memoryview) -> str:
        partial = self._partial(step, mark)
        partial.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(partial / rank_file(rank), data)
        return rank_file(rank)

    def publish(self, mark: str, contents: Contents, rank_files: Mapping[str, Any]) -> None:
        partial = self._partial(contents.step, mark)
        for name, data in contents.beside.items():
            write_bytes_atomic(partial / name, data)
        write_json_atomic(partial / MANIFEST, contents.manifest(rank_files))
        final = step_folder(self.root, contents.step)
        self._retire(final)  # a torn one
        partial.rename(final)

    def forget(self, step: int, retention: Retention) -> None:
        for each in steps_to_forget(steps_in(self.root), step, retention):
            self._retire(step_folder(self.root, each))

    def _retire(self, folder: Path) -> None:
        """Out of sight at once, so that a kill leaves no torn one."""
        hidden = folder.with_name(f".{folder.name}.old.partial")
        with suppress(FileNotFoundError):
            folder.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)

    def discard(self, step: int, mark: str) -> None:
        shutil.rmtree(self._partial(step, mark), ignore_errors=True)


class RemotePlace:
    """A run's checkpoints/ in a store. A file's name has the attempt's mark: no whole checkpoint is written over.

    here: this node's copy of it, where it keeps one; its own ranks' files need no download then."""

    def __init__(self, remote: RemoteFolder, here: Path | None = None) -> None:
        self.remote, self.here = remote, here

    def put(self, step: int, mark: str, rank: int, data: memoryview) -> str:
        name = rank_file(rank, mark)
        if self.here is not None:
            folder = step_folder(self.here, step)
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(folder / name, data)
        self.remote.write(f"{step_name(step)}/{name}", data)
        return name

    def publish(self, mark: str, contents: Contents, rank_files: Mapping[str, Any]) -> None:
        text = json_text(contents.manifest(rank_files)).encode()
        for name, data in [*contents.beside.items(), (MANIFEST, text)]:
            self.remote.write(f"{step_name(contents.step)}/{name}", data)
        if self.here is not None:
            for name, data in [*contents.beside.items(), (MANIFEST, text)]:
                write_bytes_atomic(step_folder(self.here, contents.step) / name, data)

    def forget(self, step: int, retention: Retention) -> None:
        """Also what cut uploads have left up to this step, other attempts at it too."""
        steps = by_step(self.remote.sizes())
        whole = [each for each, files in steps.items() if MANIFEST in files]
        cut = [each for each in steps.keys() - set(whole) if each <= step]
        for each in sorted([*steps_to_forget(whole, step, retention), *cut]):
            for name in sorted(steps[each], key=lambda name: name != MANIFEST):  # absent from the first removal on
                self.remote.remove(f"{step_name(each)}/{name}")
        self._forget_other_attempts(step, steps.get(step, {}))

    def _forget_other_attempts(self, step: int, listed: Mapping[str, int]) -> None:
        kept = json.loads(self.remote.read(f"{step_name(step)}/{MANIFEST}"))["files"].keys() | {MANIFEST}
        for name in listed.keys() - kept:
            self.remote.remove(f"{step_name(step)}/{name}")

    def forget_here(self, step: int, keep: int) -> None:
        """Any rank: of this node's copies the newest stay; the others are in the store."""
        if self.here is not None:
            for each in steps_to_forget(steps_in(self.here), step, Retention(keep)):
                shutil.rmtree(step_folder(self.here, each), ignore_errors=True)

    def discard(self, step: int, mark: str) -> None:
        """Nothing: without checkpoint.json it is absent, and the next checkpoint's forget removes it."""
