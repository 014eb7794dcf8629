"""How the ranks' background threads tell rank 0 how their files went: by the group's key-value store.

Imports torch.distributed. No collectives, which are the main thread's; nor files, which a full disk would refuse."""

import json
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_store

from ssrnn_dist.world import World

POLL_SECONDS = 0.05
MOST_SECONDS = 3600.0  # a rank that lives but tells nothing for so long is given up


class Abandoned(Exception):
    """The run has ended, and nobody waits for this checkpoint any more."""


class Meeting:
    """The notes of one group of ranks. Every rank makes one, with the same name, which no other has."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        own_connection = _get_default_store().clone()  # type: ignore[attr-defined]  # the other is the main thread's
        self._store = dist.PrefixStore(f"ssrnn-checkpoint/{name}", own_connection)
        self.abandoned = threading.Event()

    def tell(self, about: str, note: Mapping[str, Any]) -> None:
        """This rank's note, for rank 0."""
        self._store.set(f"{about}/{self._world.rank}", json.dumps(note))

    def tell_error(self, about: str, error: BaseException) -> None:
        """That this rank has failed, and with what."""
        note = {"rank": self._world.rank, "said": f"{type(error).__name__}: {error}"}
        if isinstance(error, OSError) and error.errno is not None:
            note |= {"errno": error.errno, "path": str(error.filename or "disk")}
        self._store.set(f"{about}/failed", json.dumps(note))

    def hear(self, about: str) -> list[dict[str, Any]]:
        """Rank 0: the notes of all ranks, in their order, once they have come.

        A rank's failure is raised here as well, an OSError with its errno.  Abandoned: the run has ended."""
        keys = [f"{about}/{rank}" for rank in range(self._world.size)]
        deadline = time.monotonic() + MOST_SECONDS
        while not self._store.check(keys):
            if self._store.check([f"{about}/failed"]):
                raise _as_error(json.loads(self._store.get(f"{about}/failed")))
            if time.monotonic() > deadline:
                raise TimeoutError(f"no word of a rank's part of the checkpoint for {MOST_SECONDS:.0f} s")
            if self.abandoned.wait(POLL_SECONDS):
                raise Abandoned
        notes = [json.loads(self._store.get(key)) for key in keys]
        for key in keys:
            self._store.delete_key(key)
        return notes


def _as_error(note: Mapping[str, Any]) -> Exception:
    if "errno" in note:
        return OSError(note["errno"], os.strerror(note["errno"]), note["path"])
    return RuntimeError(f"rank {note['rank']}: {note['said']}")
