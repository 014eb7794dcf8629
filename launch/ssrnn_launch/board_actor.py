"""The board's process as the driver reaches it: started on the driver's node, asked, replaced where it has ended.

Imports ray: only inside a command."""

from collections.abc import Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ssrnn_launch import nodes
from ssrnn_launch.board import Board, News

TAKE_SECONDS = 5.0


class BoardActor:
    """A Board in a process of its own, where the driver lives: a lost node of workers does not take it along."""

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(nodes.own_node(), soft=False)
        self._actor_class = ray.remote(num_cpus=0, scheduling_strategy=here)(Board)
        self.handle: Any = self._actor_class.remote()

    def make_ready(self) -> None:
        """For a new worker group."""
        try:
            ray.get(self.handle.clear.remote())
        except ray.exceptions.RayActorError:
            self.handle = self._actor_class.remote()

    def take(self) -> News | None:
        """What came since it was last asked; None: its process has ended."""
        try:
            news: News = ray.get(self.handle.take.remote(), timeout=TAKE_SECONDS)
        except ray.exceptions.RayActorError:
            return None
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
            return News()  # whether the workers ended is asked of Ray itself
        return news

    def request_stop(self) -> None:
        self.handle.request_stop.remote()

    def request_stacks(self, workers: Sequence[str]) -> None:
        ray.get(self.handle.request_stacks.remote(list(workers)))
