"""How workers find each other: a torch process group whose every socket is on the address that Ray has for the node.

Ray's own TorchConfig opens a store on all interfaces; on a loopback Ray nothing must listen beyond it.
Imports ray: only for use inside a command. Imports torch in the workers only."""

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import ray
import ray.train
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError  # Ray Train starts anew only after this one

COLLECTIVE_TIMEOUT_SECONDS = 300
DEATH_SECONDS = 5.0  # a death may become known later than the connection that it broke

_listening: dict[str, socket.socket] = {}


@dataclass
class NodeTorchConfig(BackendConfig):
    """A torch process group over the workers.

    backend: gloo or nccl.  timeout_seconds: of a collective."""

    backend: str
    timeout_seconds: int = COLLECTIVE_TIMEOUT_SECONDS

    @property
    def backend_cls(self) -> type[Backend]:
        return _NodeTorchBackend


class _NodeTorchBackend(Backend):
    share_cuda_visible_devices = True  # the local rank picks the device

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        calls = [worker_group.execute_single_async(0, _listen)]
        try:
            address = ray.get(calls[0])
            world_size = len(worker_group)
            calls = [
                worker_group.execute_single_async(
                    rank, _join, backend_config.backend, address, rank, world_size, backend_config.timeout_seconds
                )
                for rank in range(world_size)
            ]
            ray.get(calls)
        except ray.exceptions.RayError:
            death = _first_death(calls)
            if death is None:
                raise
            raise WorkerGroupStartupFailedError("a worker died while the workers met") from death

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Nothing: the workers end, and waiting for a group that lost one would only take time."""


def _first_death(calls: list[Any]) -> ray.exceptions.RayActorError | None:
    """The death behind a failed meeting, which the other workers may only have noticed as a lost connection."""
    done, _ = ray.wait(calls, num_returns=len(calls), timeout=DEATH_SECONDS)
    for each in done:
        try:
            ray.get(each)
        except ray.exceptions.RayActorError as death:
            return death
        except ray.exceptions.RayError:
            continue
    return None


def _listen() -> tuple[str, int]:
    """On rank 0: open the store's socket, on this node's address alone."""
    host = ray.util.get_node_ip_address()
    _listening["store"] = opened = socket.create_server((host, 0), backlog=1024)
    return host, int(opened.getsockname()[1])


def _join(backend: str, address: tuple[str, int], rank: int, world_size: int, timeout_seconds: int) -> None:
    import torch
    import torch.distributed as dist

    context = ray.train.get_context()
    if backend == "nccl":
        torch.cuda.set_device(context.get_local_rank())
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_RANK=str(context.get_local_rank()),
        LOCAL_WORLD_SIZE=str(context.get_local_world_size()),
        NODE_RANK=str(context.get_node_rank()),
        MASTER_ADDR=address[0],
        MASTER_PORT=str(address[1]),
    )
    interface = interface_of(ray.util.get_node_ip_address())
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
    timeout = timedelta(seconds=timeout_seconds)
    listening = _listening.pop("store").detach() if rank == 0 else None
    store = dist.TCPStore(
        *address, world_size, is_master=rank == 0, timeout=timeout, master_listen_fd=listening, wait_for_workers=False
    )
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)


def interface_of(address: str) -> str | None:
    """The network interface that has an address, such as lo for 127.0.0.1."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return name
    return None
