"""The cluster's nodes as they are now. Imports ray: only inside a command."""

import contextlib

import ray
from ray._private import state

from ssrnn_launch.placing import Node


def read_nodes() -> list[Node]:
    """All nodes that Ray believes alive; one that was lost may be among them for a while."""
    free = state.available_resources_per_node()
    draining = state.state.get_draining_nodes()
    return [
        Node(
            id=each["NodeID"],
            address=each["NodeManagerAddress"],
            total=each["Resources"],
            free=free.get(each["NodeID"], {}),
            labels=each.get("Labels") or {},
            draining=each["NodeID"] in draining,
        )
        for each in ray.nodes()
        if each["Alive"]
    ]


def own_node() -> str:
    return str(ray.get_runtime_context().get_node_id())


def ask_for_room(wanted: dict[str, float], workers: int) -> None:
    """Tell the cluster's autoscaler, if it has one, what the run could use; 0 workers: nothing any more."""
    from ray.autoscaler.sdk import request_resources

    with contextlib.suppress(ray.exceptions.RayError, RuntimeError, ValueError):
        request_resources(bundles=[dict(wanted)] * workers)
