"""A worker group of one life of the run: its actors started on chosen seats, watched, and released.

Imports ray: only for use inside a command."""

import contextlib
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ssrnn_dist.config import RunConfig
from ssrnn_launch import nodes
from ssrnn_launch.failures import Failure, reason_of, root_cause
from ssrnn_launch.machine import WorkerShape
from ssrnn_launch.placing import Seat, needs
from ssrnn_launch.rendezvous import Meeting
from ssrnn_launch.worker import Arrival, Task, TrainWorker

POLL_SECONDS = 0.25
HEARING_SECONDS = 0.1
GENTLE_SECONDS = 1.0  # for a process that Ray has told to end; one that stands still hears nothing
END_SECONDS = 3.0  # for a process to end that was killed
ARRIVE_SECONDS = 120.0  # a busy machine takes half a minute to start processes
CAUSE_SECONDS = 2.0  # a death may become known later than the connections that it broke


@dataclass(frozen=True)
class Member:
    """A worker, by the name that it has in the ledger."""

    name: str
    seat: Seat
    actor: Any


class Group:
    """Actors on seats. Everything that fails comes back as a Failure, by ended()."""

    def __init__(self, config: RunConfig, shape: WorkerShape, seats: Sequence[Seat], board: Any, life: int) -> None:
        self._config, self._shape, self._board = config, shape, board
        self.members = [Member(f"{life}/{seat.rank}", seat, self._actor(seat)) for seat in seats]
        self.began_at: dict[str, float] = {}  # when each process began, by the driver's clock
        self._heard_at: dict[int, float] = {}
        self._arrived: dict[int, Arrival] = {}
        self._work: dict[Any, int] = {}
        self._errors: dict[int, BaseException] = {}
        self._cause_until: float | None = None

    def _actor(self, seat: Seat) -> Any:
        scale, wanted = self._config.scale, needs(self._config.scale, self._shape.cpus)
        options: dict[str, Any] = {
            "num_cpus": wanted["CPU"],
            "num_gpus": wanted.get("GPU", 0),
            "scheduling_strategy": NodeAffinitySchedulingStrategy(seat.node.id, soft=False),
            "max_restarts": 0,
        }
        if scale.accelerator_type is not None:
            options["accelerator_type"] = scale.accelerator_type
        if self._shape.env_vars:
            options["runtime_env"] = {"env_vars": dict(self._shape.env_vars)}
        return ray.remote(TrainWorker).options(**options).remote(self._board)

    def start(self, logs: str, reached_step: int, poll: Callable[[], None]) -> Failure | None:
        """Have all arrive, meet and work; what kept them from it.

        poll: called now and then while they are waited for; may raise."""
        self._poll = poll
        arrivals = {member.actor.arrive.remote(): member.seat.rank for member in self.members}
        arrived, failure = self._gather(arrivals, "did not start")
        if failure is not None:
            return failure
        for member in self.members:
            arrival = self._arrived[member.seat.rank] = arrived[member.seat.rank]
            self.began_at[member.name] = self._heard_at[member.seat.rank] - arrival.age_seconds
        first = self.members[0]
        address, failure = self._gather({first.actor.listen.remote(first.seat.node.address): 0}, "did not listen")
        if failure is not None:
            return failure
        by_node: dict[str, list[str]] = defaultdict(list)
        for member in self.members:
            by_node[member.seat.node.id] += arrived[member.seat.rank].devices
        config = self._config.model_dump(mode="json")
        for member in self.members:
            meeting = self._meeting(member.seat, address[0], tuple(by_node[member.seat.node.id]))
            task = Task(member.name, config, logs, self._shape.threads, reached_step, meeting)
            self._work[member.actor.work.remote(task)] = member.seat.rank
        return None

    def _meeting(self, seat: Seat, address: tuple[str, int], devices: tuple[str, ...]) -> Meeting:
        size = len(self.members)
        return Meeting(
            address, seat.rank, size, seat.local_rank, seat.local_size, seat.node_rank, seat.node.address, devices
        )

    def _gather(self, calls: dict[Any, int], what: str) -> tuple[dict[int, Any], Failure | None]:
        """The answers by rank, or the failure of the first who gave none."""
        answers: dict[int, Any] = {}
        waiting, until = list(calls), time.monotonic() + ARRIVE_SECONDS
        while waiting and time.monotonic() < until:
            ready, waiting = ray.wait(waiting, timeout=POLL_SECONDS)
            self._poll()
            for each in ready:
                try:
                    answers[calls[each]] = ray.get(each)
                    self._heard_at[calls[each]] = time.monotonic()
                except ray.exceptions.RayError as error:
                    return answers, self._failure({calls[each]: error}, 0)
        if waiting:
            late = [calls[each] for each in waiting]
            nodes = frozenset(self.members[rank].seat.node.id for rank in late)
            return answers, Failure(f"it {what} within {ARRIVE_SECONDS:.0f} s", 0, late[0], nodes)
        return answers, None

    def ended(self, step: int, within_seconds: float) -> Failure | bool:
        """True once all workers have ended well; the failure, once it is known what it was; else False."""
        ready = self._wait(within_seconds)
        for each in ready:
            rank = self._work[each]
            if rank not in self._errors:
                with contextlib.suppress(ray.exceptions.GetTimeoutError):
                    try:
                        ray.get(each, timeout=1)
                    except ray.exceptions.RayError as error:
                        self._errors[rank] = error
        if not self._errors:
            return len(ready) == len(self._work)
        self._cause_until = self._cause_until or time.monotonic() + CAUSE_SECONDS
        _, cause = root_cause(self._errors)
        if isinstance(cause, ray.exceptions.RayActorError) or time.monotonic() > self._cause_until:
            return self._failure(self._errors, step)
        return False

    def _wait(self, seconds: float) -> list[Any]:
        """Those that have ended by then. In short waits: Python hears two Ctrl-C in one call of Ray's as one."""
        until = time.monotonic() + seconds
        while True:
            ready, waiting = ray.wait(list(self._work), num_returns=len(self._work), timeout=HEARING_SECONDS)
            if not waiting or time.monotonic() >= until:
                return list(ready)

    def _failure(self, errors: dict[int, BaseException], step: int) -> Failure:
        rank, cause = root_cause(errors)
        dead = {each for each, error in errors.items() if isinstance(error, ray.exceptions.RayActorError)}
        nodes = frozenset(self.members[each].seat.node.id for each in dead)
        return Failure(reason_of(cause), step, rank, nodes)

    def lost(self, ranks: Sequence[int], step: int, silent_seconds: float) -> Failure:
        """The failure of workers that are not heard of any more."""
        nodes = frozenset(self.members[rank].seat.node.id for rank in ranks)
        return Failure(f"it was not heard of for {silent_seconds:.0f} s", step, ranks[0], nodes)

    def release(self) -> None:
        """End all workers, now, and wait for the end of those on the driver's own node."""
        for member in self.members:
            with contextlib.suppress(ray.exceptions.RayError, ValueError):
                ray.kill(member.actor, no_restart=True)
        here = nodes.own_node()
        pids = [each.pid for rank, each in self._arrived.items() if self.members[rank].seat.node.id == here]
        for pid in _alive_after(pids, GENTLE_SECONDS):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        _alive_after(pids, END_SECONDS)


def _alive_after(pids: list[int], seconds: float) -> list[int]:
    """Those that have not ended in time."""
    until = time.monotonic() + seconds
    while (alive := [pid for pid in pids if _is_alive(pid)]) and time.monotonic() < until:
        time.sleep(0.02)  # they are Ray's children, not ours: nobody tells us
    return alive


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
