"""Who of a worker group is lost or stalls, and what a running group should do next. Pure, on what the board told.

Imports the config only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ssrnn_launch.board import News, Pulse

TICK_SECONDS = 0.5  # between the driver's looks at the board; workers pulse once a second


@dataclass
class Vitals:
    """What is known of the workers of one life, by name; times are seconds of the driver's clock."""

    names: Sequence[str]
    began: float
    from_step: int = 0  # the step that the group went on from
    heard: dict[str, float] = field(default_factory=dict)
    moved: dict[str, float] = field(default_factory=dict)
    last: dict[str, Pulse] = field(default_factory=dict)

    def take(self, news: News, now: float) -> None:
        """Note what the board told."""
        for worker, age in news.ages.items():
            self.heard[worker] = now - age
        for pulse in news.pulses:
            before = self.last.get(pulse.worker)
            if before is None or before.step != pulse.step:
                self.moved[pulse.worker] = now
            self.last[pulse.worker] = pulse

    @property
    def step(self) -> int:
        """The furthest step that any worker has told of."""
        return max((pulse.step for pulse in self.last.values()), default=self.from_step)

    def silent(self, now: float, seconds: float) -> list[int]:
        """Ranks not heard of for longer than that; who never was has the time that starting may take."""
        return [rank for rank, name in enumerate(self.names) if now - self.heard.get(name, now) > seconds]

    def stalled(self, now: float, stall_seconds: float | None) -> bool:
        """Has no worker made a step for too long?  Also where the first one does not come."""
        if stall_seconds is None:
            return False
        return now - max(self.moved.values(), default=self.began) > stall_seconds

    def noticed(self) -> list[tuple[int, str]]:
        """Ranks whose node will go, and why."""
        found = ((rank, self.last.get(name)) for rank, name in enumerate(self.names))
        return [(rank, pulse.notice[0]) for rank, pulse in found if pulse is not None and pulse.notice is not None]

    def stacks(self) -> Mapping[int, str]:
        """What workers told of their threads, by rank."""
        found = ((rank, self.last.get(name)) for rank, name in enumerate(self.names))
        return {rank: pulse.stack for rank, pulse in found if pulse is not None and pulse.stack}


def place_in(stack: str) -> str:
    """Where the first thread of a stack is, in a line: the innermost frame of our own code, else the innermost."""
    frames = [
        line.strip()
        for line in stack.split("\nthread ", maxsplit=1)[0].splitlines()
        if line.strip().startswith("File ")
    ]
    ours = [frame for frame in frames if "ssrnn_" in frame and "worker.py" not in frame]
    return (ours or frames or ["a place unknown"])[-1].removeprefix("File ")


def should_grow(size: int, possible: int | None, trained_seconds: float, resize_seconds: float) -> bool:
    """Is there room for more workers, and has the group trained for long enough to be worth a restart?"""
    return possible is not None and possible > size and trained_seconds >= resize_seconds
