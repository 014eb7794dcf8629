"""Actors on the nodes of a cluster, asked all at once and each waited for so long only.

Imports ray: only for use inside a command, after ray is connected."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ssrnn_launch.doctor import network_probes, probes, storage_probes
from ssrnn_launch.doctor.facts import Node
from ssrnn_launch.doctor.probes import told

Key = TypeVar("Key")

START_SECONDS = 60.0  # a worker's process on a busy machine
CALLS_AT_ONCE = 16  # one that hangs on a dead file system must not keep the others waiting

for _module in (probes, storage_probes, network_probes):  # nodes may have no code of ours, or another
    ray.cloudpickle.register_pickle_by_value(_module)


@dataclass(frozen=True)
class Answer:
    """What a node said, or why it said nothing."""

    value: Any = None
    error: str | None = None


class Team:
    """An actor of a class on each node. silent: nodes on which none came up, by name, and why."""

    def __init__(self, actor_class: type, nodes: Mapping[str, Node], seconds: float = START_SECONDS, gpus: float = 0):
        """nodes: by the name that an actor is asked by; a node may stand there twice."""
        self._actors = {name: _start(actor_class, node, gpus) for name, node in nodes.items()}
        begun = gather({name: actor.__ray_ready__.remote() for name, actor in self._actors.items()}, seconds)
        self.silent = {name: answer.error for name, answer in begun.items() if answer.error is not None}
        for name in self.silent:
            ray.kill(self._actors.pop(name))

    @property
    def names(self) -> list[str]:
        return list(self._actors)

    def ask(self, method: str, arguments: Mapping[str, Sequence[Any]], seconds: float) -> dict[str, Answer]:
        """Call a method on the actors that there are arguments for, all at once."""
        calls = {name: getattr(self._actors[name], method).remote(*given) for name, given in arguments.items()}
        return gather(calls, seconds)

    def ask_pairs(
        self, method: str, arguments: Mapping[tuple[str, str], Sequence[Any]], seconds: float
    ) -> dict[tuple[str, str], Answer]:
        """Call a method on the first of each pair, all at once."""
        calls = {pair: getattr(self._actors[pair[0]], method).remote(*given) for pair, given in arguments.items()}
        return gather(calls, seconds)

    def ask_together(self, method: str, arguments: Mapping[str, Sequence[Any]], seconds: float) -> dict[str, Answer]:
        """As ask, where each waits for the others: once one has failed only what is known by then is told."""
        calls = {name: getattr(self._actors[name], method).remote(*given) for name, given in arguments.items()}
        until, left = time.monotonic() + seconds, list(calls.values())
        answers: dict[str, Answer] = {}
        while left and not any(answer.error for answer in answers.values()):
            ready, left = ray.wait(left, num_returns=1, timeout=max(0.0, until - time.monotonic()))
            if not ready:
                return answers | gather({name: call for name, call in calls.items() if call in left}, 0.0)
            answers |= {name: _answer(call) for name, call in calls.items() if call in ready}
        return answers

    def ask_all(self, function: Any, *arguments: Any, seconds: float) -> dict[str, Answer]:
        """The same function on every node (of a team of Agents)."""
        return self.ask("call", dict.fromkeys(self.names, (function, *arguments)), seconds)

    def end(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor)


def _start(actor_class: type, node: Node, gpus: float) -> Any:
    there = NodeAffinitySchedulingStrategy(node.id, soft=False)
    how = {"num_cpus": 0, "num_gpus": gpus, "scheduling_strategy": there, "max_concurrency": CALLS_AT_ONCE}
    return ray.remote(**how)(actor_class).remote()


def gather(calls: Mapping[Key, Any], seconds: float) -> dict[Key, Answer]:
    """What each call came to within so many seconds for all of them."""
    if not calls:
        return {}
    ready, _ = ray.wait(list(calls.values()), num_returns=len(calls), timeout=seconds)
    done = set(ready)
    return {
        name: _answer(call) if call in done else Answer(error=f"no answer within {seconds:g} s")
        for name, call in calls.items()
    }


def _answer(call: Any) -> Answer:
    try:
        return Answer(ray.get(call, timeout=10))
    except ray.exceptions.RayTaskError as error:
        return Answer(error=told(error.cause if isinstance(error.cause, BaseException) else error))
    except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
        return Answer(error=told(error))


def cluster_nodes() -> tuple[list[Node], list[str]]:
    """The nodes that live, with names of their own, and the names of those that have left."""
    found = ray.nodes()
    names = node_names([(each["NodeID"], each["NodeManagerHostname"], each["NodeManagerAddress"]) for each in found])
    alive = [_node(each, names[each["NodeID"]]) for each in found if each["Alive"]]
    return alive, [names[each["NodeID"]] for each in found if not each["Alive"]]


def _node(found: Mapping[str, Any], name: str) -> Node:
    resources = found["Resources"]
    kinds = frozenset(key.partition(":")[2] for key in resources if key.startswith("accelerator_type:"))
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    return Node(found["NodeID"], name, found["NodeManagerAddress"], cpus, gpus, kinds)


def node_names(nodes: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """A name for each (id, host, address): the host, else with its address, else with the start of its id."""
    hosts = Counter(host for _, host, _ in nodes)
    both = Counter((host, address) for _, host, address in nodes)
    return {
        node: host if hosts[host] == 1 else f"{host}/{address if both[host, address] == 1 else node[:6]}"
        for node, host, address in nodes
    }
