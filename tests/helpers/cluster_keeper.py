"""Run by the tests: a Ray cluster of several nodes on the loopback, changed by lines on stdin, each answered on stdout.

add: one more node of one CPU; kill N: its processes end at once; drain N SECONDS; freeze N: they stand still."""

import os
import signal
import sys
import time
from typing import Any

import psutil
from ray.cluster_utils import Cluster

HEAD = {
    "num_cpus": 0,
    "node_ip_address": "127.0.0.2",
    "object_store_memory": 80_000_000,
    "include_dashboard": False,
    "labels": {"number": "head"},
}
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}  # each at an address of its own: drivers join the head's


def about(at: int) -> dict[str, Any]:
    """What the at-th node is: its address, and its number as a label, which a price file may know."""
    return {**NODE, "node_ip_address": f"127.0.1.{at + 1}", "labels": {"number": str(at)}}


def processes_of(node: Any) -> list[psutil.Process]:
    """A node's raylet and all below it."""
    raylets = [psutil.Process(each.process.pid) for each in node.all_processes["raylet"]]
    return [*raylets, *(child for raylet in raylets for child in raylet.children(recursive=True))]


def signal_all(node: Any, number: int) -> None:
    for each in processes_of(node):
        try:
            each.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def drain(node: Any, address: str, seconds: float) -> None:
    from ray._raylet import GcsClient

    deadline_ms = int((time.time() + seconds) * 1000)
    preemption = 2  # autoscaler.proto's DRAIN_NODE_REASON_PREEMPTION
    GcsClient(address=address).drain_node(node.node_id, preemption, "the test takes this node away", deadline_ms)


def main(first_nodes: int) -> None:
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    nodes = [cluster.add_node(wait=False, **about(at)) for at in range(first_nodes)]
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "add":
            nodes.append(cluster.add_node(**about(len(nodes))))
        elif verb == "kill":
            node = nodes[int(words[0])]
            cluster.worker_nodes.discard(node)
            signal_all(node, signal.SIGKILL)
        elif verb == "freeze":
            signal_all(nodes[int(words[0])], signal.SIGSTOP)
        elif verb == "drain":
            drain(nodes[int(words[0])], cluster.address, float(words[1]))
        print("done", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
    os._exit(0)  # what is left is ended by the test, by pid
