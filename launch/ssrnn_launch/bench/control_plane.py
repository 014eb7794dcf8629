"""The driver's side of a run with very many workers, without Ray: what pulses cost, by the real Board and Ledger.

Pure Python in this process; time is simulated, costs are this process's own processor time."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssrnn_dist.tracking.ledger import Ledger
from ssrnn_dist.tracking.lives import SECONDS_PER_HOUR, Rate
from ssrnn_dist.tracking.phases import CHECKPOINTING, DATA_WAIT, PHASES, START_UP, TRAINING
from ssrnn_launch.board import Board, News, Pulse
from ssrnn_launch.watch import TICK_SECONDS, Vitals

TAKES_A_SECOND = round(1 / TICK_SECONDS)
LOST_SECONDS, STALL_SECONDS = 12.0, 600.0
RATE = Rate("worker", 2.5)
WATTS, STEPS_A_SECOND = 300.0, 5
SHARES = {TRAINING: 0.95, DATA_WAIT: 0.01, CHECKPOINTING: 0.01, START_UP: 0.03}


def names_of(workers: int) -> list[str]:
    return [f"0/{rank}" for rank in range(workers)]


def pulse_of(name: str, age_seconds: float) -> Pulse:
    """What a worker says that has trained for so long."""
    seconds = {phase: SHARES.get(phase, 0.0) * age_seconds for phase in PHASES}
    return Pulse(name, int(age_seconds * STEPS_A_SECOND), TRAINING, seconds, WATTS * age_seconds)


def hired(
    path: Path,
    names: Sequence[str],
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> Ledger:
    """A ledger that books these workers from now on."""
    ledger = Ledger(path, clock=clock, wall=wall)
    ledger.open_life("started")
    for name in names:
        ledger.hire(name, RATE)
    ledger.begin(0, 0, len(names))
    return ledger


def book(news: News, vitals: Vitals, ledger: Ledger, now: float) -> None:
    """What the supervisor does with the board's news, twice a second; the ledger is the one that it has.

    AssertionError where it takes a worker for lost."""
    vitals.take(news, now)
    for pulse in news.pulses:
        ledger.pulse(pulse.worker, pulse.phase, pulse.seconds, pulse.joules)
        ledger.reach(pulse.step, 0)
    ledger.beat()
    ledger.totals()
    assert not vitals.silent(now, LOST_SECONDS), "a worker that pulses was taken for lost"
    assert not vitals.stalled(now, STALL_SECONDS)


class Stopwatch:
    """Processor seconds of this thread, by what they went into."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        began = time.thread_time()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.thread_time() - began


def without_ray(workers: int, seconds: int, folder: Path) -> dict[str, Any]:
    """So many workers that pulse for so many simulated seconds; cores that each part would take in real time."""
    now, watch = [0.0], Stopwatch()
    names, board = names_of(workers), Board()
    ledger = hired(folder / f"ledger-{workers}.jsonl", names, clock=lambda: now[0])
    vitals = Vitals(names, 0.0)
    share = -(-workers // TAKES_A_SECOND)
    for tick in range(seconds * TAKES_A_SECOND):
        now[0] += 1 / TAKES_A_SECOND
        at = tick % TAKES_A_SECOND * share
        pulses = [pulse_of(name, now[0]) for name in names[at : at + share]]
        with watch.on("board"):
            for pulse in pulses:
                board.pulse(pulse)
            news = board.take()
        news = News(news.posts, news.pulses, dict.fromkeys(news.ages, 0.0))  # ages are of the real clock
        with watch.on("driver"):
            book(news, vitals, ledger, now[0])
    booked = sum(ledger.totals().seconds_by_phase.values())
    ledger.close()
    assert abs(booked - workers * now[0]) < 1e-6 * booked, "the books don't add up"
    return {"workers": workers, "cores": {what: spent / seconds for what, spent in watch.seconds.items()}}


def ledger_bytes_of_an_hour(folder: Path, workers: int = 8) -> int:
    """How large the file is after the run's first hour; no row grows with the workers, who have one rate."""
    now = [0.0]
    path = folder / "ledger-hour.jsonl"
    names = names_of(workers)
    ledger = hired(path, names, clock=lambda: now[0], wall=lambda: 1.8e9 + now[0])
    for tick in range(int(SECONDS_PER_HOUR) * TAKES_A_SECOND):
        now[0] += 1 / TAKES_A_SECOND
        if tick % TAKES_A_SECOND == 0:
            for name in names:
                pulse = pulse_of(name, now[0])
                ledger.pulse(name, pulse.phase, pulse.seconds, pulse.joules)
        ledger.beat()
    ledger.close()
    return path.stat().st_size
