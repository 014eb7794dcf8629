"""A run on a Ray that we are connected to: one worker group after the other until it is done, and the books of it all.

Decides with watch.py and failures.py; acts through seating.py and group.py. Imports ray: only inside a command."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ssrnn_dist.bookkeeping import Books
from ssrnn_dist.config import RunConfig
from ssrnn_dist.hooks import Finished, StepMetrics
from ssrnn_dist.problems import UserError
from ssrnn_dist.tracking.budget import USED_UP
from ssrnn_launch import nodes, placing
from ssrnn_launch.board import News
from ssrnn_launch.board_actor import BoardActor
from ssrnn_launch.failures import Failure, why_give_up
from ssrnn_launch.group import Group
from ssrnn_launch.machine import WorkerShape
from ssrnn_launch.problems import LaunchFailed, Stopped, user_error_of
from ssrnn_launch.renting import Renting
from ssrnn_launch.seating import Seating
from ssrnn_launch.watch import TICK_SECONDS, Vitals, place_in, should_grow

LOOK_SECONDS = 2.0  # between looks at the cluster's nodes
STACK_SECONDS = 3.0  # for a worker that stalls to tell where it is

Wish = Literal["stop", "resize"]


@dataclass
class Life:
    """One worker group from its first step to its end: what it was told, and how it ended."""

    group: Group
    vitals: Vitals
    wish: Wish | None = None
    began_at: float | None = None
    finished: Finished | None = None
    failure: Failure | None = None

    @property
    def size(self) -> int:
        return len(self.group.members)

    def node_of(self, worker: str) -> str:
        """The address of a worker's node."""
        return next((each.seat.node.address for each in self.group.members if each.name == worker), "unknown")


class Supervisor:
    """Brings a run to its end. Whoever wants to stop it sets a wish; the loop is follow()."""

    def __init__(
        self,
        config: RunConfig,
        shape: WorkerShape,
        books: Books,
        show: Callable[[str, dict[str, Any]], None],
        poll: Callable[[], None],
    ) -> None:
        """show: brings an event to the person.  poll: called twice a second; may raise to end it all."""
        self.config, self._shape, self._books, self._show, self._poll = config, shape, books, show, poll
        self._logs = str(config.folder.absolute() / "logs")
        self._wanted = placing.needs(config.scale, shape.cpus)
        self._board = BoardActor()
        self._renting = Renting(config.cost, books.ledger, self._wanted, self._warn)
        self._seating = Seating(config, self._wanted, self._renting, self._warn)
        self._failures: list[Failure] = []
        self._looked_at = float("-inf")
        self._stop_wanted = False
        self.stop_why: str | None = None
        self.life: Life | None = None

    def want_stop(self, why: str) -> None:
        """The run should save a checkpoint and end; why is for the summary."""
        if not self._stop_wanted:
            self._stop_wanted, self.stop_why = True, why

    @property
    def has_begun(self) -> bool:
        """Does a worker group train, so that there is something to save?"""
        return self.life is not None and self.life.began_at is not None

    def run(self) -> Finished:
        """One life after the other; how the last one ended.

        LaunchFailed: it cannot go on.  UserError: the input is wrong.  StoppedWaiting: there was nothing to stop.
        Stopped: the budget allows no other life."""
        if self.config.cluster.address:
            nodes.ask_for_room(self._wanted, self.config.scale.most_workers)
        why = "started"
        while True:
            number = self._books.ledger.open_life(why)
            life = self._live(number, self._seating.wait(lambda: self._tick(None)), is_first=why == "started")
            if life.failure is not None:
                self._note_failure(life.failure)
                why = "failure"
            elif life.wish == "resize" and life.finished is not None and life.finished.step < self.config.train.steps:
                why = "resize"
            elif life.finished is not None:
                return life.finished
            else:
                raise LaunchFailed("the workers ended without a word", self._logs)

    def close(self) -> None:
        """Ask for nothing any more."""
        if self.config.cluster.address:
            nodes.ask_for_room(self._wanted, 0)

    # One life

    def _live(self, number: int, seats: list[placing.Seat], is_first: bool) -> Life:
        """A group from its start to its release."""
        self._board.make_ready()
        group = Group(self.config, self._shape, seats, self._board.handle, number)
        life = self.life = Life(group, Vitals([each.name for each in group.members], time.monotonic()))
        try:
            self._hire(group, is_first)
            life.failure = group.start(self._logs, self._books.reached_step, lambda: self._tick(life))
            for worker, began_at in group.began_at.items():
                self._books.ledger.backdate(worker, time.monotonic() - began_at)
            while life.failure is None and life.finished is None:
                self._tick(life)
                self._look_at_group(life)
        finally:
            self._release(life)
        return life

    def _hire(self, group: Group, is_first: bool) -> None:
        """From now on the group is paid for. What a budget refuses is at first the user's error, later the end."""
        try:
            self._renting.hire_all({member.name: member.seat.node for member in group.members})
        except UserError as refused:
            if is_first:
                raise
            self._books.event("warning", {"message": str(refused)})
            raise Stopped(str(refused), signal.SIGTERM) from None
        self._seating.avoid_unpriced = True

    def _look_at_group(self, life: Life) -> None:
        ended = life.group.ended(life.vitals.step, TICK_SECONDS)
        if isinstance(ended, Failure):
            life.failure = ended
        elif ended:
            self._take(life)
            if life.finished is None:
                life.failure = Failure("the workers ended without a word", life.vitals.step)
        else:
            self._check_health(life)
            self._consider_resize(life)

    def _release(self, life: Life) -> None:
        life.group.release()
        for member in life.group.members:
            self._renting.release(member.name)
        self._books.reached_step = max(self._books.reached_step, life.vitals.step)
        self._books.ledger.reach(life.vitals.step, 0)
        self.life = None

    def _tick(self, life: Life | None) -> None:
        """What is done twice a second, whatever else goes on."""
        self._poll()
        if life is not None:
            self._take(life)
        if self._books.tick():
            self.want_stop(USED_UP)
        if self._stop_wanted:
            if life is None or life.began_at is None:
                raise StoppedWaiting
            self._ask_to_stop(life, "stop")

    def _take(self, life: Life) -> None:
        """Bring what the board was told to the books and to the person."""
        news = self._board.take()
        if news is None:
            life.failure = life.failure or Failure("the process that workers report to ended", life.vitals.step)
            return
        life.vitals.take(news, time.monotonic())
        for pulse in news.pulses:
            self._books.ledger.pulse(pulse.worker, pulse.phase, pulse.seconds, pulse.joules)
            self._books.ledger.reach(pulse.step, 0)
            if pulse.system is not None:
                self._books.tracker.log_system(life.node_of(pulse.worker), pulse.system)
        for kind, fields in news.posts:
            self._post(life, kind, fields)
        if news.failure is not None:
            raise _failure(*news.failure, self._logs)
        life.finished = news.finished or life.finished

    def _post(self, life: Life, kind: str, fields: dict[str, Any]) -> None:
        if kind == "begin":
            life.began_at = time.monotonic()
            life.vitals.from_step = fields["step"]
            self._books.begin(**fields)
        elif kind == "metrics":
            metrics = self._books.report(StepMetrics(**fields))
            self._show("metrics", metrics.as_dict())
        else:
            self._tell(kind, fields)

    def _ask_to_stop(self, life: Life, wish: Wish) -> None:
        """Once a life; a wish to end comes before one to resize."""
        if life.wish is None:
            self._board.request_stop()
        if life.wish is None or wish == "stop":
            life.wish = wish

    # Health and size

    def _check_health(self, life: Life) -> None:
        scale, now = self.config.scale, time.monotonic()
        doubtful = life.vitals.silent(now, scale.lost_seconds / 2)
        self._seating.ask(life.group.members[rank].seat.node.id for rank in doubtful)
        lost = life.vitals.silent(now, scale.lost_seconds)
        if lost:
            life.failure = life.group.lost(lost, life.vitals.step, scale.lost_seconds)
        elif life.vitals.stalled(now, scale.stall_seconds):
            life.failure = self._stall(life)

    def _stall(self, life: Life) -> Failure:
        """Ask who stalls for its stack, print it, and give the group up."""
        self._board.request_stacks(life.vitals.names)
        until = time.monotonic() + STACK_SECONDS
        while len(life.vitals.stacks()) < life.size and time.monotonic() < until:
            time.sleep(TICK_SECONDS)
            life.vitals.take(self._board.take() or News(), time.monotonic())
        for rank, stack in sorted(life.vitals.stacks().items()):
            self._tell("stalled", {"rank": rank, "at": place_in(stack), "stack": stack})
        seconds = self.config.scale.stall_seconds or 0.0
        return Failure(f"no step for {seconds:.0f} s", life.vitals.step)

    def _consider_resize(self, life: Life) -> None:
        """Every few seconds: does a node go, is there room for more?"""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS or life.began_at is None:
            return
        self._looked_at = now
        seats = [member.seat for member in life.group.members]
        held = Counter(seat.node.id for seat in seats)
        possible = self._seating.possible_size(held)
        noticed = {seats[rank].node.id: f"{seats[rank].node.address}: {why}" for rank, why in life.vitals.noticed()}
        going = self._seating.going(held, noticed)
        self._check_priced()
        if life.wish is not None:
            return
        if going:
            self._leave(life, going)
        elif should_grow(life.size, possible, now - life.began_at, self.config.scale.resize_seconds):
            self._resize(life, f"room for {possible} workers")

    def _check_priced(self) -> None:
        """A node came that is paid for and has no price: what is spent from now on, nobody could tell."""
        try:
            self._renting.check_priced()
        except UserError as refused:
            if not self._stop_wanted:
                self._warn(f"{refused}; the run saves a checkpoint and ends")
                self.want_stop("a node without a price, so cost.budget_usd could not hold")

    def _leave(self, life: Life, going: dict[str, str]) -> None:
        """Nodes will go: without them, unless ours is among them, or the run has no other."""
        why = "; ".join(sorted(set(going.values())))
        if nodes.own_node() in going or not self.config.cluster.address:
            self._tell("notice", {"step": life.vitals.step, "why": why})
            self.want_stop(why)
        else:
            self._resize(life, why)

    def _resize(self, life: Life, why: str) -> None:
        self._tell("resize", {"step": life.vitals.step, "workers": life.size, "why": why})
        self._ask_to_stop(life, "resize")

    def _note_failure(self, failure: Failure) -> None:
        """Tell of it; give up, or find out which nodes still answer."""
        self._failures.append(failure)
        self._tell("worker_failed", {"rank": failure.rank, "error": failure.reason, "step": failure.step})
        given_up = why_give_up(self._failures, self.config.scale.max_restarts)
        if given_up is not None:
            raise LaunchFailed(given_up, self._logs)
        self._seating.suspect(failure.lost_nodes)

    def _tell(self, kind: str, fields: dict[str, Any]) -> None:
        """To the person, and to the run's page."""
        self._show(kind, fields)
        self._books.event(kind, fields)

    def _warn(self, message: str) -> None:
        self._tell("warning", {"message": message})


class StoppedWaiting(Exception):
    """The run was to stop while no group was there that could save anything."""


def _failure(user_is_at_fault: bool, lines: list[str], logs: str) -> UserError | LaunchFailed:
    return user_error_of(lines) if user_is_at_fault else LaunchFailed(lines[0], logs)
