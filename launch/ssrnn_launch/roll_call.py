"""Which of the nodes that fell silent still answer: Ray itself may take half a minute to miss one.

Asks each by a task, and its agent's port by a connection. Imports ray: only inside a command."""

import contextlib
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ssrnn_launch.nodes import own_node

ANSWER_SECONDS = 5.0
CONNECT_SECONDS = 0.5


@dataclass(frozen=True)
class _Question:
    asked_at: float
    task: Any | None  # None: nobody is there to run it


class RollCall:
    """Nodes that were asked, and which have not answered yet; one that does so late is trusted again."""

    def __init__(self) -> None:
        self._asked: dict[str, _Question] = {}

    def ask(self, nodes: Iterable[str]) -> None:
        """Ask those that are not being asked; not our own, which is there as long as we are."""
        new = sorted(set(nodes) - self._asked.keys() - {own_node()})
        if not new:
            return
        agents = {each["NodeID"]: (each["NodeManagerAddress"], each["NodeManagerPort"]) for each in ray.nodes()}
        with ThreadPoolExecutor(len(new)) as threads:
            gone = list(threads.map(lambda node: _refuses(*agents[node]) if node in agents else True, new))
        for node, is_gone in zip(new, gone, strict=True):
            self._asked[node] = _Question(time.monotonic(), None if is_gone else _hello_on(node))

    def wait(self) -> None:
        """Until every node has answered or had the time to."""
        for question in list(self._asked.values()):
            left = question.asked_at + ANSWER_SECONDS - time.monotonic()
            if question.task is not None and left > 0:
                ray.wait([question.task], timeout=left)

    def silent(self) -> set[str]:
        """The nodes that were asked and have not answered."""
        for node, question in list(self._asked.items()):
            if question.task is not None and _is_answered(question.task):
                del self._asked[node]
        return set(self._asked)


def _refuses(address: str, port: int) -> bool:
    """Is the machine there, but no agent of Ray on it?  A connection that just takes long says nothing."""
    try:
        with socket.create_connection((address, port), CONNECT_SECONDS):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


def _hello_on(node: str) -> Any:
    return _hello.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()


def _is_answered(task: Any) -> bool:
    ready, _ = ray.wait([task], timeout=0)
    if ready:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(task)
            return True
    return False


@ray.remote(num_cpus=0, max_retries=0)
def _hello() -> None:
    return None
