"""The clock of phases: every second in exactly one, whatever is entered from within whatever."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_dist.tracking.phases import CHECKPOINTING, DATA_WAIT, PHASES, START_UP, TRAINING, PhaseClock


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.sampled_from(PHASES), st.integers(0, 1000))))
def test_every_second_is_in_one_phase(entered: list[tuple[str, int]]) -> None:
    clock = Clock()
    phases = PhaseClock(clock)
    expected, now = dict.fromkeys(PHASES, 0.0), START_UP
    for phase, seconds in entered:
        assert phases.enter(phase) == now
        clock.now += seconds
        expected[phase] += seconds
        now = phase
        assert phases.read() == (now, expected)


def test_a_phase_within_another_gives_the_time_back_also_where_it_fails() -> None:
    clock = Clock()
    phases = PhaseClock(clock)
    clock.now += 1
    phases.enter(TRAINING)

    def save() -> None:
        with phases.phase(CHECKPOINTING):
            clock.now += 4
            raise OSError("full")

    with phases.phase(DATA_WAIT):
        clock.now += 2
        with pytest.raises(OSError, match="full"):
            save()
    clock.now += 8
    phase, seconds = phases.read()
    assert phase == TRAINING
    assert seconds == {**dict.fromkeys(PHASES, 0.0), START_UP: 1.0, DATA_WAIT: 2.0, CHECKPOINTING: 4.0, TRAINING: 8.0}


def test_a_phase_that_is_none_is_refused_and_loses_no_time() -> None:
    clock = Clock()
    phases = PhaseClock(clock)
    clock.now += 3
    with pytest.raises(KeyError):
        phases.enter("napping")
    clock.now += 4
    assert phases.read() == (START_UP, {**dict.fromkeys(PHASES, 0.0), START_UP: 7.0})


def test_another_thread_reads_while_the_phase_changes() -> None:
    phases = PhaseClock()
    over, seen = threading.Event(), []

    def read() -> None:
        while not over.is_set():
            seen.append(sum(phases.read()[1].values()))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(20_000):
        phases.enter(PHASES[number % len(PHASES)])
    over.set()
    reader.join()
    assert seen == sorted(seen)
