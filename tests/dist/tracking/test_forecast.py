"""The forecast on simulated runs: how far off it is, and how often its range holds what the run then cost."""

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_dist.tracking.forecast import MOST_POINTS, Forecast, Forecaster, forecast, poisson_quantile
from tests.dist.tracking.simulated_run import Look, Plan, looks_of, random_plan

PARTS = (0.1, 0.2, 0.5, 0.9)


def foreseen(plan: Plan) -> Iterator[tuple[Look, Forecast | None]]:
    forecaster = Forecaster(plan.steps)
    for look in looks_of(plan):
        found = forecaster.look(look.step, look.cost_usd, look.usd_per_second, life=look.life, workers=look.workers)
        yield look, found


def at_parts(plans: Iterable[Plan]) -> dict[float, list[tuple[Forecast, float]]]:
    """The first forecast from each part of a run on, and what the run cost in the end."""
    found: dict[float, list[tuple[Forecast, float]]] = {part: [] for part in PARTS}
    for plan in plans:
        told = list(foreseen(plan))
        final = told[-1][0].cost_usd
        for part in PARTS:
            first = next(each for look, each in told if look.step >= part * plan.steps and each is not None)
            found[part].append((first, final))
    return found


def coverage(found: list[tuple[Forecast, float]]) -> float:
    return sum(each.low <= final <= each.high for each, final in found) / len(found)


def widths(found: list[tuple[Forecast, float]]) -> list[float]:
    return sorted((each.high - each.low) / final for each, final in found)


@pytest.mark.parametrize("seed", range(30))
def test_within_a_tenth_from_a_tenth_of_the_run_on(seed: int) -> None:
    """Noise that lasts, drift, warm-up, validation and saving; whatever the moment that is looked at."""
    plan = random_plan(seed, noise=0.1)
    told = list(foreseen(plan))
    final = told[-1][0].cost_usd
    for look, found in told:
        if look.step >= plan.steps / 10:
            assert found is not None
            assert found.usd == pytest.approx(final, rel=0.1), look
            assert found.low <= found.usd <= found.high


def test_there_is_a_forecast_from_the_second_logged_step_on_whatever_happens() -> None:
    plan = random_plan(3, failures=3, resizes=2)
    found = [each for _, each in foreseen(plan)]
    assert found[0] is None
    assert None not in found[1:]


def test_the_range_is_honest() -> None:
    found = at_parts(random_plan(seed) for seed in range(100))
    assert all(coverage(each) >= 0.9 for each in found.values())
    halves = [widths(found[part])[50] for part in PARTS]
    assert halves[0] < 0.25  # not by saying nothing
    assert halves[2] < 0.08
    assert halves == sorted(halves, reverse=True)


def test_the_range_is_honest_where_runs_fail_up_to_three_times() -> None:
    found = at_parts(random_plan(seed, failures=3) for seed in range(100))
    assert all(coverage(each) >= 0.84 for each in found.values())
    assert sum(coverage(each) for each in found.values()) / len(PARTS) >= 0.88


def test_the_range_is_honest_where_workers_come_and_go() -> None:
    found = at_parts(random_plan(seed, resizes=1) for seed in range(100))
    assert all(coverage(each) >= 0.88 for each in found.values())


@pytest.mark.parametrize("seed", range(10))
def test_a_price_that_changes_counts_at_once(seed: int) -> None:
    plan = Plan(seed=seed, noise=0.05, prices=((600, 0.003), (1200, 0.02)))
    told = list(foreseen(plan))
    as_if = {600: list(looks_of(Plan(seed=seed, noise=0.05, prices=((600, 0.003),))))[-1], 1200: told[-1][0]}
    for look, found in told:
        changed = 600 if look.step <= 1200 else 1200
        if look.step > 610 and look.step not in (1210,):
            assert found is not None
            assert found.usd == pytest.approx(as_if[changed].cost_usd, rel=0.1), look


@pytest.mark.parametrize("seed", range(10))
def test_a_resize_counts_from_a_twentieth_of_the_run_on(seed: int) -> None:
    plan = Plan(seed=seed, noise=0.05, resizes=((700, 3, 1.0), (1400, 2, 1.0)))  # the third worker is of no use
    told = list(foreseen(plan))
    for look, found in told:
        if look.step > 1500:
            assert found is not None
            assert found.usd == pytest.approx(told[-1][0].cost_usd, rel=0.1), look


def test_what_a_failure_cost_is_spent_and_in_no_steps_price() -> None:
    forecaster = Forecaster(1000)
    for step in range(10, 210, 10):
        forecaster.look(step, 5 + step * 1.0, life=0, workers=1)
    before = forecaster.look(210, 215.0, life=0, workers=1)
    after = forecaster.look(110, 315.0, life=1, workers=1)  # a hundred steps lost, a hundred dollars for the start
    assert before is not None
    assert after is not None
    assert before.usd == pytest.approx(1005)
    lost = 200 + 200 * 890 / (200 + 500)  # and as much again is to be feared
    assert after.usd == pytest.approx(1005 + lost)
    assert after.high > after.usd + 200


def test_no_price_and_steps_told_twice() -> None:
    forecaster = Forecaster(100)
    assert forecaster.look(1, None) is None
    assert forecaster.look(10, 10.0) is None
    assert forecaster.look(10, 11.0) is None
    found = forecaster.look(20, 20.0)
    assert found is not None
    assert found.usd == pytest.approx(100.0)
    last = [forecaster.look(step, float(step)) for step in range(21, 101)][-1]
    assert last == Forecast(100.0, 100.0, 100.0)


def test_a_long_run_is_remembered_in_few_points() -> None:
    forecaster = Forecaster(20_000)
    found = [forecaster.look(step, step * 0.5 + 7) for step in range(1, 5_000)]
    assert len(forecaster._curve) <= MOST_POINTS
    assert found[-1] is not None
    assert found[-1].usd == pytest.approx(10_007)
    assert found[-1].high < 1.1 * 10_007


curves = st.lists(st.tuples(st.integers(1, 100), st.floats(0, 1e3)), min_size=1, max_size=40)


@given(curves, st.integers(0, 10_000), st.floats(0, 1e6), st.floats(0, 10))
def test_a_forecast_is_never_less_than_what_is_spent(
    stretches: list[tuple[int, float]], left: int, spent: float, usd_per_second: float
) -> None:
    curve = [(0, 0.0)]
    for steps, seconds in stretches:
        curve.append((curve[-1][0] + steps, curve[-1][1] + seconds))
    found = forecast(curve, left, spent, usd_per_second)
    assert found is not None
    assert spent <= found.low <= found.usd * (1 + 1e-9)
    assert found.usd <= found.high * (1 + 1e-9)
    if not left:
        assert found == Forecast(spent, spent, spent)


@pytest.mark.parametrize(("mean", "most"), [(0.0, 0), (0.05, 0), (0.06, 1), (0.5, 2), (1.0, 3), (10.0, 15)])
def test_quantiles_are_the_tables(mean: float, most: int) -> None:
    assert poisson_quantile(mean) == most
