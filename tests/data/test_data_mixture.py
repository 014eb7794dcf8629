"""The pure part of mixtures: exact shares at every window, lanes that lose and double nothing, positions."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssrnn_data import DataError
from ssrnn_data.mixture.lanes import NONE, LanePlan, LaneState
from ssrnn_data.mixture.position import MixtureIdentity, from_position, to_position
from ssrnn_data.mixture.shares import Division, Knots, Shares, allocate, as_knots, error_bound

numbers = st.one_of(st.sampled_from([0.0, 1e-9, 1.0, 1e9]), st.floats(0, 10))


@st.composite
def weights_of(draw: st.DrawFn, most_sources: int = 8, most_tokens: int = 40_000) -> tuple[Knots, ...]:
    """1 to 8 sources, each with 1 to 5 knots, of which at every knot of any one is above 0."""
    sources = []
    for _ in range(draw(st.integers(1, most_sources))):
        tokens = draw(st.lists(st.integers(0, most_tokens), min_size=1, max_size=5, unique=True))
        sources.append(tuple((at, draw(numbers)) for at in sorted(tokens)))
    base = draw(st.integers(0, len(sources) - 1))
    sources[base] = tuple((at, max(value, 1e-3)) for at, value in sources[base])
    return tuple(sources)


def targets_by_hand(weights: tuple[Knots, ...], sequence_length: int, windows: int) -> np.ndarray:
    """The definition (S, N): trapezoids between knots and the edges of windows, which are exact for linear pieces."""
    knots = np.array(sorted({0, *(at for source in weights for at, _ in source)}), float)
    raw = np.array([np.interp(knots, *np.array(source).T) for source in weights])
    edges = np.arange(windows + 1) * float(sequence_length)
    grid = np.union1d(knots[knots <= edges[-1]], edges)
    shares = np.array([np.interp(grid, knots, each) for each in raw / raw.sum(axis=0)])
    areas = (shares[:, 1:] + shares[:, :-1]) / 2 * np.diff(grid)
    total = np.hstack([np.zeros((len(weights), 1)), areas.cumsum(axis=1)])
    return total[:, np.searchsorted(grid, edges[1:])] / sequence_length


def running_counts(given_N: np.ndarray, sources: int) -> np.ndarray:
    return (given_N == np.arange(sources)[:, None]).cumsum(axis=1)


@settings(max_examples=120, deadline=None)
@given(weights_of(), st.sampled_from([1, 7, 64, 1_000]), st.integers(500, 3_000))
def test_no_source_is_ever_a_window_from_its_target(
    weights: tuple[Knots, ...], sequence_length: int, windows: int
) -> None:
    sources = len(weights)
    shares = Shares.of(weights, sequence_length)
    given_N = allocate(shares, 0, np.zeros(sources, np.int64), 0, windows)
    errors = running_counts(given_N, sources) - targets_by_hand(weights, sequence_length, windows)
    assert np.abs(errors).max() <= error_bound(sources) + 1e-9 < 1


@settings(max_examples=60, deadline=None)
@given(weights_of(), st.integers(0, 30), st.lists(st.integers(1, 300), min_size=1, max_size=12))
def test_windows_are_the_same_however_they_are_asked_for(
    weights: tuple[Knots, ...], since: int, cuts: list[int]
) -> None:
    shares = Shares.of(weights, 16)
    counts_S, at, parts, division = np.zeros(len(weights), np.int64), since, [], Division(shares)
    for windows in cuts:
        parts.append(allocate(shares, since, counts_S, at, windows))
        assert division.next(since, counts_S, at, windows).tolist() == parts[-1].tolist()
        counts_S = counts_S + np.bincount(parts[-1], minlength=len(weights))
        at += windows
    whole = allocate(shares, since, np.zeros(len(weights), np.int64), since, sum(cuts))
    assert np.concatenate(parts).tolist() == whole.tolist()
    assert division.next(since, np.zeros(len(weights), np.int64), since, cuts[0]).tolist() == parts[0].tolist()


@settings(max_examples=60, deadline=None)
@given(weights_of(), st.lists(st.floats(0, 5_000), min_size=1, max_size=20))
def test_when_is_the_inverse_of_targets(weights: tuple[Knots, ...], windows: list[float]) -> None:
    shares = Shares.of(weights, 16)
    targets_SN = shares.targets(np.array(windows))
    assert np.allclose(targets_SN.sum(axis=0), windows)
    for source, targets_N in enumerate(targets_SN):
        found = shares.when(source, targets_N)
        assert np.allclose(shares.targets(found)[source], targets_N, atol=1e-9)


def test_the_order_is_the_same_everywhere() -> None:
    shares = Shares.of([((0, 3.0), (80, 0.0)), ((0, 1.0),), ((0, 0.0), (80, 1.0))], 4)
    order = allocate(shares, 0, np.zeros(3, np.int64), 0, 24).tolist()
    wanted = [0, 0, 1, 0, 0, 1, 0, 2, 1, 0, 1, 2, 0, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1]
    assert order == wanted  # a change here would break every saved position


def test_whole_shares_come_out_exactly() -> None:
    shares = Shares.of([((0, 2.0),), ((0, 1.0),), ((0, 1.0),)], 128)
    given_N = allocate(shares, 0, np.zeros(3, np.int64), 0, 4_000)
    assert all(sorted(four) == [0, 0, 1, 2] for four in given_N.reshape(-1, 4).tolist())


def test_annealing_goes_from_one_source_to_the_other() -> None:
    weights = (((2_000, 1.0), (10_000, 0.0)), ((2_000, 0.0), (10_000, 1.0)))
    given_N = allocate(Shares.of(weights, 10), 0, np.zeros(2, np.int64), 0, 1_200)
    assert not given_N[:200].any()
    assert abs(int(given_N[200:1_000].sum()) - 400) <= 1
    assert abs(int(given_N[200:400].sum()) - 25) <= 1  # a quarter of the way: 200 windows at an eighth
    assert given_N[1_001:].all()


def test_a_source_of_weight_0_is_never_read() -> None:
    given_N = allocate(Shares.of([((0, 1.0),), ((0, 0.0),)], 8), 0, np.zeros(2, np.int64), 0, 1_000)
    assert not given_N.any()


def test_far_from_the_start_floats_do_no_harm() -> None:
    shares = Shares.of([((0, 1.0), (10**15, 3.0)), ((0, 1.0),), ((0, 1 / 3),)], 128)
    since = 10**11
    given_N = allocate(shares, since, np.zeros(3, np.int64), since, 5_000)
    wanted = shares.at(np.array([since])) * np.arange(1, 5_001)
    assert np.abs(running_counts(given_N, 3) - wanted).max() < 1


@pytest.mark.parametrize(
    "weight",
    [
        *(-1, float("nan"), float("inf"), 10**400, True, None, "1", "12", [], [(0, -1)], [(0, 1, 2)], [(0, True)]),
        *([(5, 1), (5, 2)], [(9, 1), (3, 1)], [(0.5, 1)], [(-1, 1)], [(10**400, 1)]),
    ],
)
def test_a_wrong_weight_names_its_source(weight: Any) -> None:
    with pytest.raises(DataError, match="weight of books: .* came; a number of 0 or more is allowed") as caught:
        as_knots(weight, "books")
    assert "\n" not in str(caught.value)


def test_weights_that_are_all_0_are_refused() -> None:
    with pytest.raises(DataError, match="weights: all are 0 at 500 tokens; "):
        Shares.of([((0, 1.0), (500, 0.0), (900, 1.0)), ((400, 1.0), (500, 0.0))], 8)
    assert as_knots([[0, 1], [5, 0.5]], "as YAML has it") == ((0, 1.0), (5, 0.5))


@st.composite
def plans(draw: st.DrawFn) -> tuple[LanePlan, int]:
    weights = draw(weights_of(most_sources=5, most_tokens=3_000))
    epochs = [draw(st.integers(1, 60)) for _ in weights]
    return LanePlan(Shares.of(weights, 4), epochs, draw(st.integers(1, 12))), draw(st.integers(1, 20))


@settings(max_examples=80, deadline=None)
@given(plans())
def test_every_window_of_an_epoch_is_read_once_and_in_order(planned: tuple[LanePlan, int]) -> None:
    plan, lanes = planned
    state = LaneState.start(plan.shares.sources, lanes)
    read: Counter[tuple[int, int, int]] = Counter()
    for _ in range(60):
        before = state
        turn, state = plan.step(before)
        works = [turn.of(lane) for lane in range(lanes)]
        read.update(works)
        waiting = {*before.unfinished()}
        for lane, (source, epoch, window) in enumerate(works):
            own = before.sources_L[lane], before.epochs_L[lane], before.windows_L[lane]
            assert turn.begins_L[lane] == (own != (source, epoch, window))
            assert window % plan.segment_windows == 0 or (source, epoch, window) in waiting
        changed = (turn.sources_L != before.sources_L) & (before.sources_L != NONE)
        lanes_S = [np.bincount(each[each != NONE], minlength=5) for each in (before.sources_L, turn.sources_L)]
        assert changed.sum() == (np.abs(lanes_S[1] - lanes_S[0]).sum() // 2 if before.at else 0)
    assert set(read.values()) == {1}
    taken = [
        (source, epoch, window)
        for source, windows in enumerate(plan.epoch_windows_S)
        for epoch in range(state.epochs_S[source] + 1)
        for window in range(windows if epoch < state.epochs_S[source] else state.next_S[source])
    ]
    unread = set(taken) - set(read)
    assert set(read) <= set(taken)
    segments = {(source, epoch, window // plan.segment_windows) for source, epoch, window in state.unfinished()}
    assert {(source, epoch, window // plan.segment_windows) for source, epoch, window in unread} == segments
    by_source = Counter(source for source, _, _ in read)
    assert plan.windows_read(state) == [by_source[source] for source in range(plan.shares.sources)]


def test_with_constant_whole_shares_no_lane_ever_moves() -> None:
    plan = LanePlan(Shares.of([((0, 3.0),), ((0, 1.0),)], 4), [1_000, 1_000], 8)
    state = LaneState.start(2, 8)
    for step in range(200):
        turn, state = plan.step(state)
        assert turn.sources_L.tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
        assert turn.begins_L.all() == (step % 8 == 0)


def test_one_and_the_same_lane_comes_and_goes_where_shares_are_no_whole_lanes() -> None:
    plan = LanePlan(Shares.of([((0, 1.0),), ((0, 1.0),)], 4), [100, 100], 5)
    state, read = LaneState.start(2, 3), []
    for _ in range(7):
        turn, state = plan.step(state)
        read.append([(source, window) for source, _, window in map(turn.of, range(3))])
    assert read == [  # (source, window); a change here would break every saved position
        [(0, 0), (0, 5), (1, 0)],
        [(0, 1), (1, 5), (1, 1)],  # lane 1 leaves 6 to the next that comes to source 0
        [(0, 2), (1, 6), (0, 6)],  # lane 2 does, and leaves 2 of source 1
        [(0, 3), (1, 7), (1, 2)],
        [(0, 4), (1, 8), (0, 7)],
        [(1, 3), (1, 9), (0, 8)],  # lane 0 has ended its segment, so it goes, and lane 2 may stay
        [(1, 4), (0, 10), (0, 9)],
    ]


def test_what_is_left_over_is_gone_on_with_before_anything_new_the_oldest_first() -> None:
    weights = (((0, 1.0), (100, 0.0), (200, 0.0), (201, 1.0)), ((0, 0.0), (100, 1.0), (200, 1.0), (201, 0.0)))
    plan = LanePlan(Shares.of(weights, 4), [200, 400], 8)
    state = LaneState.start(2, 6)
    while state.at < 48:
        _, state = plan.step(state)
    left = list(state.left_S[0])
    assert left == [(0, 3), (0, 11), (0, 19), (0, 25), (0, 33), (0, 41)]
    while state.left_S[0] == left:
        turn, state = plan.step(state)
    taken = [window for source, _, window in map(turn.of, range(6)) if source == 0]
    assert taken == [3, 11, 19, 25, 33, 41][: len(taken)]
    for _ in range(3):
        turn, state = plan.step(state)
    assert not state.left_S[0]
    assert turn.windows_L.max() < 48


WEIGHTS: tuple[Knots, ...] = (((0, 3.0), (9_000, 0.5)), ((0, 1.0),), ((0, 0.1),))


def stand(lanes: int = 8, steps: int = 37) -> tuple[MixtureIdentity, LanePlan, LaneState]:
    identity = MixtureIdentity("train", 3, lanes, 4, 16, ("a" * 32, "b" * 32, "c" * 32), WEIGHTS)
    plan = LanePlan(Shares.of(WEIGHTS, 4), [900, 500, 40], 16)
    state = LaneState.start(3, lanes)
    for _ in range(steps):
        _, state = plan.step(state)
    return identity, plan, state


@pytest.mark.parametrize("steps", [0, 1, 37, 200])
def test_a_position_is_small_json_and_comes_back_as_it_was(steps: int) -> None:
    identity, plan, state = stand(256, steps)
    position = to_position(identity, state)
    text = json.dumps(position)
    assert json.loads(text) == position
    assert len(text) < 6_000
    again = from_position(json.loads(text), identity, plan)
    assert to_position(identity, again) == position
    assert to_position(identity, plan.step(again)[1]) == to_position(identity, plan.step(state)[1])


@pytest.mark.parametrize("name", ["version", "split", "seed", "lanes", "sequence_length", "segment_windows", "corpora"])
def test_a_position_of_another_mixture_is_refused(name: str) -> None:
    identity, plan, state = stand()
    position = to_position(identity, state)
    changed = {int: lambda value: value + 1, str: lambda value: "other", list: lambda value: value[::-1]}
    position[name] = changed[type(position[name])](position[name])
    with pytest.raises(DataError, match=f"position: it is of {name} .*; this mixture's {name} is") as caught:
        from_position(position, identity, plan)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "broken",
    [
        {"tokens_seen": 7},
        {"tokens_seen": -4},
        {"tokens_seen": True},
        {"tokens_seen": 10**30},
        {"tokens_seen": 37 * 8 * 4 + 32},
        {"weights_since_tokens": 32},
        {"epochs": [0, 0]},
        {"epochs": [0, 1, 2]},
        {"next_windows": [160, 112, 33]},
        {"lane_sources": [0] * 7},
        {"lane_sources": [3] + [0] * 7},
        {"lane_sources": [-1] + [0] * 7},
        {"lane_windows": [5] * 8},
        {"lane_windows": [16] * 8},
        {"left": [[[0, 5]], [], []]},
        {"left": [[[0]], [], []]},
        {"windows_since": [100, 100, 96]},
        {"extra": 1},
    ],
)
def test_a_position_that_is_none_is_refused(broken: dict[str, Any]) -> None:
    identity, plan, state = stand()
    with pytest.raises(DataError, match="position: ") as caught:
        from_position({**to_position(identity, state), **broken}, identity, plan)
    assert "\n" not in str(caught.value)


def test_a_position_with_a_segment_twice_is_refused() -> None:
    identity, plan, state = stand()
    position = to_position(identity, state)
    places = [
        (one, other)
        for one in range(8)
        for other in range(one)
        if position["lane_sources"][one] == position["lane_sources"][other]
        and position["lane_windows"][one] % 16 == position["lane_windows"][other] % 16
        and position["lane_epochs"][one] == position["lane_epochs"][other]
    ]
    one, other = places[0]  # with as much left to read, so that only the double tells
    assert position["lane_windows"][one] != position["lane_windows"][other]
    position["lane_windows"][one] = position["lane_windows"][other]
    with pytest.raises(DataError, match="position: its counts don't fit together"):
        from_position(position, identity, plan)


def test_a_position_whose_counts_are_not_those_of_its_weights_is_refused() -> None:
    identity, plan, state = stand()
    weights: tuple[Knots, ...] = (((0, 1.0),), ((0, 1.0),), ((0, 2.0),))
    other = replace(identity, weights=weights)
    position = to_position(other, state)
    with pytest.raises(DataError, match="position: its counts don't fit together"):
        from_position(position, other, replace(plan, shares=Shares.of(weights, 4)))


@pytest.mark.parametrize("none", [{}, None, [], 3, {"epoch": 1}])
def test_what_is_no_position_is_refused(none: Any) -> None:
    identity, plan, _ = stand()
    with pytest.raises(DataError, match=r"position: .*; a position\(\) of a MixtureStream is allowed"):
        from_position(none, identity, plan)


def test_new_weights_are_refused_unless_allowed_and_then_count_from_there() -> None:
    identity, plan, state = stand()
    position = to_position(identity, state)
    weights: tuple[Knots, ...] = (((0, 1.0),), ((0, 1.0),), ((0, 2.0),))
    other, annealed = replace(identity, weights=weights), replace(plan, shares=Shares.of(weights, 4))
    with pytest.raises(DataError, match=r"it is of weights .*allow_new_weights=True"):
        from_position(position, other, annealed)
    moved = from_position(position, other, annealed, allow_new_weights=True)
    read_before = annealed.windows_read(moved)
    for _ in range(10):
        turn, moved = annealed.step(moved)
        assert np.bincount(turn.sources_L).tolist() == [2, 2, 4]
    assert (np.array(annealed.windows_read(moved)) - read_before).tolist() == [20, 20, 40]
    saved = to_position(other, moved)
    assert saved["weights_since_tokens"] == state.at * 4
    assert to_position(other, from_position(saved, other, annealed)) == saved
    assert to_position(identity, from_position(position, identity, plan, allow_new_weights=True)) == position
