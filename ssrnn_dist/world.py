"""The group of ranks that train together: joined once, asked for sums and barriers. The only file that starts a group.

Imports torch.distributed; Ray or torchrun may have prepared the group, alone it is a group of one."""

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This rank, how many there are, and the device that it computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks of a tensor of the same shape everywhere; a new tensor on the same device."""
        total = values.to(self.device, copy=True)
        dist.all_reduce(total)
        return total.to(values.device)

    def first_says(self, number: int) -> int:
        """The number that rank 0 has."""
        value = torch.tensor([number], dtype=torch.int64, device=self.device)
        dist.broadcast(value, src=0)
        return int(value.item())

    def all_well(self, error: Exception | None, what: str) -> None:
        """A barrier that passes on failures: raises this rank's own error, or says that another rank had one."""
        failed = torch.zeros(self.size, dtype=torch.int64)
        failed[self.rank] = int(error is not None)
        failed = self.sum(failed)
        if error is not None:
            raise error
        if failed.any():
            ranks = ", ".join(str(rank) for rank in failed.nonzero().flatten().tolist())
            raise RuntimeError(f"{what} failed on rank {ranks}")


def attempt(action: Callable[[], object]) -> Exception | None:
    """Do it; the exception that came of it, for World.all_well."""
    try:
        action()
    except Exception as error:
        return error
    return None


@contextmanager
def joined_world(uses_gpu: bool) -> Iterator[World]:
    """Join the group of Ray or torchrun, or make a group of one; leave it in the end if we made it."""
    made_here = not dist.is_initialized()
    if made_here:
        _start_group("nccl" if uses_gpu else "gloo")
    device = torch.device("cuda", torch.cuda.current_device()) if uses_gpu else torch.device("cpu")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        if made_here:
            dist.destroy_process_group()


def end_process(code: int) -> NoReturn:
    """End a rank's process: its atexit handlers, its output, and no more; sys.exit would take Python apart as well.

    DeepSpeed keeps its groups to the end, and so gloo's threads live: one that lets go of a tensor while Python is
    being taken apart aborts the process ("terminate called without an active exception")."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _start_group(backend: str) -> None:
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed reads it
    if os.environ.get("MASTER_ADDR", "localhost") in {"localhost", "127.0.0.1"}:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
