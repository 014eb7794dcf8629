"""What a run's workers and its driver tell each other: workers pulse and post, the driver asks them to stop.

Board is a plain class; board_actor.py makes it a Ray actor. Imports ray only inside BoardHooks' methods."""

import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from ssrnn_dist.hooks import Finished, RunHooks, StepMetrics
from ssrnn_dist.tracking.phases import PhaseClock

LARGEST_BACKLOG = 10_000


@dataclass(frozen=True)
class Pulse:
    """What a worker says of itself every second: that it lives, how far it is, what its time went into.

    seconds: by phase, of its whole life.  joules: since it began, None without a meter.
    notice: (reason, deadline in Unix seconds or None), where its node will be taken away.
    stack: of its threads, where it was asked for it.  system: the node's own numbers, from one worker of a node."""

    worker: str
    step: int
    phase: str
    seconds: dict[str, float]
    joules: float | None = None
    notice: tuple[str, float | None] | None = None
    stack: str | None = None
    system: dict[str, float] | None = None


@dataclass(frozen=True)
class Orders:
    """What a worker is told when it pulses."""

    stop: bool = False
    dump: bool = False


@dataclass
class News:
    """What came since the driver last looked; ages: seconds since each worker was last heard of."""

    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    pulses: list[Pulse] = field(default_factory=list)
    ages: dict[str, float] = field(default_factory=dict)
    finished: Finished | None = None
    failure: tuple[bool, list[str]] | None = None


class Board:
    """Holds what is told until the other side takes it, for one life of the worker group at a time."""

    def __init__(self) -> None:
        self._posts: deque[tuple[str, dict[str, Any]]] = deque(maxlen=LARGEST_BACKLOG)
        self.clear()

    def clear(self) -> None:
        """A new worker group begins: what the old one said of itself and was told counts no more."""
        self._pulses: dict[str, Pulse] = {}
        self._heard: dict[str, float] = {}
        self._stop, self._dump = False, set[str]()
        self._finished: Finished | None = None
        self._failure: tuple[bool, list[str]] | None = None

    def post(self, kind: str, fields: dict[str, Any]) -> None:
        self._posts.append((kind, fields))

    def pulse(self, pulse: Pulse) -> Orders:
        """The newest of each worker counts; what is said only once is kept until it is taken."""
        before = self._pulses.get(pulse.worker)
        if before is not None:
            kept = {name: getattr(pulse, name) or getattr(before, name) for name in ("notice", "stack", "system")}
            pulse = Pulse(**{**vars(pulse), **kept})
        self._pulses[pulse.worker] = pulse
        self._heard[pulse.worker] = time.monotonic()
        orders = Orders(self._stop, pulse.worker in self._dump)
        self._dump.discard(pulse.worker)
        return orders

    def finish(self, finished: Finished) -> None:
        self._finished = finished

    def fail(self, user_is_at_fault: bool, lines: list[str]) -> None:
        """A failure that trying again would not mend; the first one counts."""
        self._failure = self._failure or (user_is_at_fault, lines)

    def take(self) -> News:
        now = time.monotonic()
        ages = {worker: now - heard for worker, heard in self._heard.items()}
        news = News(list(self._posts), list(self._pulses.values()), ages, self._finished, self._failure)
        self._posts.clear()
        self._pulses.clear()
        return news

    def request_stop(self) -> None:
        self._stop = True

    def request_stacks(self, workers: list[str]) -> None:
        """Ask these for the stacks of their threads, in their next pulse."""
        self._dump.update(workers)


class BoardHooks(RunHooks):
    """A worker's hooks: posts are sent and forgotten; whether to stop came with the answer to the last pulse."""

    def __init__(self, board: Any, clock: PhaseClock, reached_step: int) -> None:
        super().__init__(clock, reached_step)
        self._board = board
        self.step = 0
        self.stop_told = False

    def begin(self, step: int, tokens: int, workers: int) -> None:
        self.step = step
        self.event("begin", step=step, tokens=tokens, workers=workers)

    def report(self, metrics: StepMetrics) -> None:
        self._board.post.remote("metrics", metrics.as_dict())

    def event(self, kind: str, **fields: Any) -> None:
        self._board.post.remote(kind, fields)

    def should_stop(self) -> bool:
        return self.stop_told

    def heartbeat(self, step: int) -> None:
        self.step = step

    def finish(self, finished: Finished) -> dict[str, Any]:
        import ray

        ray.get(self._board.finish.remote(finished))
        return asdict(finished)
