"""Where a run's workers go: how many fit, how many are taken, who sits where. Pure.

Imports the config only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ssrnn_dist.config.scale import ScaleSection


@dataclass(frozen=True)
class Node:
    """A node of the cluster as it is now. free: resources that nobody holds.  draining: it is about to go."""

    id: str
    address: str
    total: Mapping[str, float]
    free: Mapping[str, float]
    labels: Mapping[str, str]
    draining: bool = False


@dataclass(frozen=True)
class Room:
    """How many workers of this run fit on a node."""

    node: Node
    places: int


@dataclass(frozen=True)
class Seat:
    """A rank's place."""

    rank: int
    node: Node
    local_rank: int
    local_size: int
    node_rank: int


def needs(scale: ScaleSection, cpus: float) -> dict[str, float]:
    """What a worker asks of Ray."""
    wanted = {"CPU": float(cpus)}
    if scale.gpus_per_worker:
        wanted["GPU"] = float(scale.gpus_per_worker)
    return wanted


def places(node: Node, wanted: Mapping[str, float], held: int, accelerator_type: str | None = None) -> int:
    """How many workers fit on a node, the held ones of ours among them."""
    if accelerator_type is not None and f"accelerator_type:{accelerator_type}" not in node.total:
        return 0
    return min(int((node.free.get(name, 0.0) + held * each + 1e-6) // each) for name, each in wanted.items() if each)


def most_places(node: Node, wanted: Mapping[str, float]) -> int:
    """How many workers an empty node would hold: what a price of the node is divided by; a head may hold none."""
    return min(int((node.total.get(name, 0.0) + 1e-6) // each) for name, each in wanted.items() if each)


def rooms_of(
    nodes: Iterable[Node],
    wanted: Mapping[str, float],
    held: Mapping[str, int],
    avoided: Iterable[str],
    accelerator_type: str | None = None,
) -> list[Room]:
    """The nodes with room, the roomiest first.

    held: workers of ours by node.  avoided: nodes not to be used, as they are lost or about to go."""
    avoided = set(avoided)
    usable = [node for node in nodes if node.id not in avoided and not node.draining]
    found = [Room(node, places(node, wanted, held.get(node.id, 0), accelerator_type)) for node in usable]
    return sorted((room for room in found if room.places > 0), key=lambda room: (-room.places, room.node.id))


def choose_size(rooms: Sequence[Room], scale: ScaleSection) -> int | None:
    """As many workers as there is room for and the config allows; None where there are too few places."""
    size = min(sum(room.places for room in rooms), scale.most_workers)
    size -= size % (scale.partition_ranks or 1)
    return size if size >= scale.fewest_workers else None


def seats_of(rooms: Sequence[Room], size: int) -> list[Seat]:
    """Ranks in order over the nodes, a node's together."""
    seats: list[Seat] = []
    for node_rank, room in enumerate(rooms):
        here = min(room.places, size - len(seats))
        seats += [Seat(len(seats) + at, room.node, at, here, node_rank) for at in range(here)]
    return seats
