"""Writes checkpoints behind the back of the training: a copy in host memory is all that it waits for.

One process a rank. The main threads meet in collectives; a thread of each rank writes, and they meet in meeting.py."""

import hashlib
import secrets
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ssrnn_data.background import in_background
from ssrnn_dist.checkpoint.file_format import HostBuffer
from ssrnn_dist.checkpoint.meeting import Meeting
from ssrnn_dist.checkpoint.places import Contents, Place, RemotePlace, SharedFolder
from ssrnn_dist.checkpoint.retention import Retention
from ssrnn_dist.storage.remote import RemoteFolder
from ssrnn_dist.world import World, attempt


@dataclass(frozen=True)
class Destination:
    """root: the run's checkpoints/ on this node.  remote_folder: the URL of the run's folder, if it has one: then
    checkpoints stand there, and root is this node's copy.  copy_folder: the URL of a run's folder for a second copy."""

    root: Path
    remote_folder: str | None = None
    copy_folder: str | None = None


class CheckpointWriter:
    """Every rank makes one and calls the same methods in the same order. One checkpoint is on its way at a time."""

    def __init__(self, destination: Destination, world: World, retention: Retention) -> None:
        """Collective. What kills have left is removed; OSError where the folder cannot be made."""
        self._world, self._retention = world, retention
        self._first: Place
        if destination.remote_folder is None:
            self._first = folder = SharedFolder(destination.root)
            world.all_well(
                attempt(lambda: folder.clear() if world.is_first else None), "making the checkpoints' folder"
            )
        else:
            self._first = RemotePlace(_checkpoints_at(destination.remote_folder), here=destination.root)
        self._copy = RemotePlace(_checkpoints_at(destination.copy_folder)) if destination.copy_folder else None
        self._life = f"{world.first_says(secrets.randbits(40)):010x}"
        self._meeting = Meeting(world, self._life)
        self._buffer = HostBuffer()
        self._count = 0
        self._on_its_way: tuple[_Job, Future[None]] | None = None
        self._news: list[tuple[str, dict[str, Any]]] = []
        self._news_lock = threading.Lock()

    def start(self, tensors: Mapping[str, Tensor], contents: Contents, known: Mapping[str, Any] | None = None) -> None:
        """Collective: begin to write a checkpoint; what the tensors hold now is what it will hold.

        The one before is waited for, and its errors are raised, as by wait().  known: what checkpoint.json also tells
        of this rank's file.  The first call makes the host buffer, as large as the tensors."""
        self.wait()
        self._count += 1
        mark = f"{self._life}-{self._count}"
        self._world.all_well(attempt(lambda: self._buffer.fill(tensors)), "copying what is to be saved")
        data = self._buffer.file
        sizes = {key: value.numel() for key, value in tensors.items()}
        note = {"bytes": len(data), "tensors": sizes, **(known or {})}
        job = _Job(self._world, self._meeting, mark, data, note, contents)
        self._on_its_way = job, in_background(lambda: self._run(job), "ssrnn-checkpoint")

    def wait(self) -> None:
        """Collective: until the last checkpoint stands.

        Raises on every rank where one could not write (an OSError with its errno on a full disk); the older
        checkpoints are untouched."""
        if self._on_its_way is None:
            return
        job, future = self._on_its_way
        error = attempt(future.result)
        self._on_its_way = None
        try:
            self._world.all_well(error, f"writing the checkpoint of step {job.contents.step}")
        except Exception:
            if self._world.is_first:  # now that no rank writes any more
                self._first.discard(job.contents.step, job.mark)
            raise

    def take_news(self) -> list[tuple[str, dict[str, Any]]]:
        """What happened since the last call, in the words of RunHooks.event; on rank 0 alone.

        ("checkpoint", {"step": …}): it stands.  ("warning", {"message": …}): the second copy or a removal failed."""
        with self._news_lock:
            news, self._news = self._news, []
        return news

    def close(self, grace_seconds: float = 5.0) -> None:
        """No collective, for when the run has failed: a checkpoint on its way has so long to come to stand."""
        if self._on_its_way is not None:
            with suppress(Exception):  # nobody is left to tell
                self._on_its_way[1].result(grace_seconds)
        self._meeting.abandoned.set()

    def _tell(self, kind: str, **fields: Any) -> None:
        if self._world.is_first:
            with self._news_lock:
                self._news.append((kind, fields))

    def _run(self, job: "_Job") -> None:
        """In the thread."""
        step = job.contents.step
        job.note["sha256"] = hashlib.sha256(job.data).hexdigest()  # lets go of the interpreter, as writing does
        job.bring(self._first, "written")
        if isinstance(self._first, RemotePlace):
            self._first.forget_here(step, self._retention.keep)
        self._tell("checkpoint", step=step)
        self._forget(self._first, step)
        if self._copy is not None:
            self._make_copy(job, self._copy)

    def _make_copy(self, job: "_Job", place: Place) -> None:
        error = attempt(lambda: job.bring(place, "copied"))
        if error is None:
            self._forget(place, job.contents.step)
        else:
            self._tell("warning", message=f"step {job.contents.step} has no second copy: {error}")

    def _forget(self, place: Place, step: int) -> None:
        error = attempt(lambda: place.forget(step, self._retention) if self._world.is_first else None)
        if error is not None:
            self._tell("warning", message=f"old checkpoints could not be removed: {error}")


@dataclass(frozen=True)
class _Job:
    """One checkpoint on one rank. mark: of this attempt, the same on all ranks.  data: this rank's file."""

    world: World
    meeting: Meeting
    mark: str
    data: memoryview
    note: dict[str, Any]
    contents: Contents

    def bring(self, place: Place, about: str) -> None:
        """This rank's file to a place, told to rank 0; which waits for all and has it stand."""
        meeting_point = f"{self.mark}/{about}"
        try:
            name = place.put(self.contents.step, self.mark, self.world.rank, self.data)
            self.meeting.tell(meeting_point, {**self.note, "file": name})
            if self.world.is_first:
                notes = self.meeting.hear(meeting_point)
                place.publish(self.mark, self.contents, {note.pop("file"): note for note in notes})
        except BaseException as error:
            self.meeting.tell_error(meeting_point, error)
            raise


def _checkpoints_at(run_folder: str) -> RemoteFolder:
    return RemoteFolder(run_folder).below("checkpoints")
