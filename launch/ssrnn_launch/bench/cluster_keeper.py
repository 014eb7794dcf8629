"""Run by `ssrnn bench launch`: a Ray cluster of several nodes on the loopback, changed by lines on stdin.

python -m ssrnn_launch.bench.cluster_keeper NODES FOLDER; Ray's own folder. Lines: kill, freeze, drain (a node that
holds a worker), add; each is answered by a line. Imports ray."""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from ray._private.utils import get_ray_address_file
from ray.cluster_utils import Cluster

HEAD = {"num_cpus": 0, "node_ip_address": "127.0.0.2", "object_store_memory": 80_000_000, "include_dashboard": False}
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}  # each at an address of its own: drivers join the head's
DRAIN_SECONDS = 600.0
PREEMPTION = 2  # autoscaler.proto's DRAIN_NODE_REASON_PREEMPTION


class Keeper:
    """The cluster and its nodes; those that were taken away are not taken again."""

    def __init__(self, nodes: int, folder: str) -> None:
        Path(get_ray_address_file(None)).parent.mkdir(exist_ok=True)  # Cluster writes there whatever its own folder is
        self.cluster: Any = Cluster(initialize_head=True, head_node_args={**HEAD, "temp_dir": folder})
        self._added = 0
        self._nodes = [self._new(wait=False) for _ in range(nodes)]
        self.cluster.wait_for_nodes()

    def _new(self, wait: bool) -> Any:
        self._added += 1
        return self.cluster.add_node(wait=wait, node_ip_address=f"127.0.1.{self._added}", **NODE)

    def do(self, verb: str) -> None:
        if verb == "add":
            self._nodes.append(self._new(wait=True))
            return
        node = next(each for each in self._nodes if _holds_a_worker(each))
        self._nodes.remove(node)
        if verb == "kill":
            self.cluster.worker_nodes.discard(node)
            _signal(node, signal.SIGKILL)
        elif verb == "freeze":
            _signal(node, signal.SIGSTOP)
        elif verb == "drain":
            self._drain(node)

    def _drain(self, node: Any) -> None:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]

        deadline_ms = int((time.time() + DRAIN_SECONDS) * 1000)
        GcsClient(address=self.cluster.address).drain_node(node.node_id, PREEMPTION, "taken away", deadline_ms)


def _processes(node: Any) -> list[psutil.Process]:
    """A node's raylet and all below it."""
    raylets = [psutil.Process(each.process.pid) for each in node.all_processes["raylet"]]
    return [*raylets, *(child for raylet in raylets for child in raylet.children(recursive=True))]


def _holds_a_worker(node: Any) -> bool:
    for process in _processes(node):
        with suppress(psutil.NoSuchProcess):
            if "TrainWorker" in (process.cmdline() or [""])[0]:
                return True
    return False


def _signal(node: Any, number: int) -> None:
    for process in _processes(node):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def main(nodes: int, folder: str) -> None:
    keeper = Keeper(nodes, folder)
    print(keeper.cluster.address, flush=True)
    for line in sys.stdin:
        keeper.do(line.strip())
        print("done", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
    os._exit(0)  # what is left is ended by pid
