"""The cluster's nodes as they are now, and whether one still answers. Imports ray: only inside a command."""

import contextlib
from collections.abc import Iterable

import ray
from ray._private import state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ssrnn_launch.placing import Node

HELLO_SECONDS = 5.0


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


def that_answer(nodes: Iterable[str], within_seconds: float = HELLO_SECONDS) -> set[str]:
    """Those of the nodes on which a task runs in time: Ray itself may take half a minute to miss a node."""
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        asked[_hello.options(scheduling_strategy=there).remote()] = node
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=within_seconds) if asked else ([], [])
    answered = set()
    for each in ready:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(each)
            answered.add(asked[each])
    return answered


@ray.remote(num_cpus=0, max_retries=0)
def _hello() -> None:
    return None


def ask_for_room(wanted: dict[str, float], workers: int) -> None:
    """Tell the cluster's autoscaler, if it has one, what the run could use; 0 workers: nothing any more."""
    from ray.autoscaler.sdk import request_resources

    with contextlib.suppress(ray.exceptions.RayError, RuntimeError, ValueError):
        request_resources(bundles=[dict(wanted)] * workers)
