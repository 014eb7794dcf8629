"""How workers find each other: a torch process group whose every socket is on the address that Ray has for the node.

torch's own store would listen on all interfaces; on a loopback Ray nothing must listen beyond it.
Imports torch inside, in the workers only."""

import socket
from dataclasses import dataclass
from datetime import timedelta

import psutil

from ssrnn_dist.config.cluster import NetworkSection

_listening: dict[str, socket.socket] = {}


@dataclass(frozen=True)
class Meeting:
    """Where and as what a worker joins the group. devices: of all workers on its node, in the order of local ranks."""

    address: tuple[str, int]
    rank: int
    world_size: int
    local_rank: int
    local_size: int
    node_rank: int
    own_address: str
    devices: tuple[str, ...] = ()


def listen(host: str) -> tuple[str, int]:
    """On rank 0: open the store's socket, on this node's address alone."""
    _listening["store"] = opened = socket.create_server((host, 0), backlog=4096)
    return host, int(opened.getsockname()[1])


def environment_of(meeting: Meeting, network: NetworkSection) -> dict[str, str]:
    """What torch, DeepSpeed and NCCL read from the environment; set before any of them is imported."""
    variables = {
        "RANK": str(meeting.rank),
        "WORLD_SIZE": str(meeting.world_size),
        "LOCAL_RANK": str(meeting.local_rank),
        "LOCAL_WORLD_SIZE": str(meeting.local_size),
        "NODE_RANK": str(meeting.node_rank),
        "MASTER_ADDR": meeting.address[0],
        "MASTER_PORT": str(meeting.address[1]),
    }
    interface = network.interface or interface_of(meeting.own_address)
    if interface is not None:
        variables |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
    if meeting.devices:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(meeting.devices)
    return variables | dict(network.env)


def join(meeting: Meeting, network: NetworkSection) -> None:
    """Join the group; its environment is set."""
    import torch
    import torch.distributed as dist

    if meeting.devices:
        torch.cuda.set_device(meeting.local_rank)
    timeout = timedelta(seconds=network.collective_timeout_seconds)
    listening = _listening.pop("store").detach() if meeting.rank == 0 else None
    store = dist.TCPStore(
        *meeting.address,
        meeting.world_size,
        is_master=meeting.rank == 0,
        timeout=timeout,
        master_listen_fd=listening,
        wait_for_workers=False,
    )
    backend = "nccl" if meeting.devices else "gloo"
    dist.init_process_group(backend, store=store, rank=meeting.rank, world_size=meeting.world_size, timeout=timeout)


def interface_of(address: str) -> str | None:
    """The network interface that has an address, such as lo for 127.0.0.1."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return name
    return "lo" if address.startswith("127.") else None
