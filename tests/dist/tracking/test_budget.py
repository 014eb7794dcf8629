"""The budget: never passed by a run whose steps and checkpoints stay as long as they were, and hardly left unused."""

import random
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssrnn_dist.alone import AloneHooks
from ssrnn_dist.config import check_config
from ssrnn_dist.problems import UserError
from ssrnn_dist.tracking.budget import (
    CHECKPOINT_SECONDS,
    WIND_UP_SECONDS,
    Budget,
    check_budget,
    check_start,
    is_used_up,
    seconds_to_stop,
)
from ssrnn_dist.tracking.ledger import LEDGER, Ledger
from ssrnn_dist.tracking.lives import Life, Rate
from ssrnn_dist.tracking.phases import START_UP, TRAINING
from ssrnn_dist.tracking.totals import Totals, totals_of

TICK_SECONDS = 0.5


@dataclass
class Run:
    """A run in time: the host looks at the budget every half second, the loop asks before each step."""

    budget_usd: float
    usd_per_second: float
    step_seconds: float
    checkpoint_seconds: float
    validation_seconds: float
    seed: int
    now: float = 0.0
    stop: bool = False
    looked_at: float = 0.0

    def __post_init__(self) -> None:
        self.budget = Budget(self.budget_usd)
        self.of = random.Random(self.seed)

    def spend(self, at_most: float) -> None:
        """Time passes; the host looks now and then."""
        until = self.now + at_most * self.of.uniform(0.7, 1.0)
        while self.looked_at + TICK_SECONDS <= until:
            self.looked_at += TICK_SECONDS
            stopping = seconds_to_stop(self.step_seconds, self.checkpoint_seconds, self.validation_seconds)
            self.budget.look(self.looked_at * self.usd_per_second, self.usd_per_second, stopping)
        self.now = until

    def train(self) -> float:
        """Dollars of the whole run, to the release of its workers."""
        step = saved = 0
        self.spend(20.0)
        while not self.budget.is_used_up:
            self.spend(self.step_seconds)
            step += 1
            if step % 20 == 0:
                self.spend(self.validation_seconds)
            if step % 30 == 0:
                saved = step
                self.spend(self.checkpoint_seconds)
        if saved < step:
            self.spend(self.checkpoint_seconds)
        self.spend(WIND_UP_SECONDS - 1.0)  # to notice and to tell takes the rest
        return self.now * self.usd_per_second


@settings(deadline=None)
@given(
    st.floats(200, 3000),
    st.floats(1e-4, 0.1),
    st.floats(0.05, 20),
    st.floats(0.1, 60),
    st.floats(0, 60),
    st.integers(0, 1000),
)
def test_a_budget_is_never_passed_and_hardly_left_unused(
    seconds: float, price: float, step: float, checkpoint: float, validation: float, seed: int
) -> None:
    run = Run(seconds * price, price, step, checkpoint, validation, seed)
    spent = run.train()
    needed = seconds_to_stop(step, checkpoint, validation) * price
    if needed + 20 * price < run.budget_usd:  # else its start alone passes it
        assert spent <= run.budget_usd
        assert run.budget_usd - spent <= needed + TICK_SECONDS * price


def test_stopping_takes_what_is_under_way() -> None:
    assert seconds_to_stop(1.0, 10.0, 3.0) == 2.0 + 10.0 + 3.0 + WIND_UP_SECONDS
    assert not is_used_up(10.0, 8.9, 0.1, 10.0)
    assert is_used_up(10.0, 9.0, 0.1, 10.0)


def test_it_warns_once_at_four_fifths_and_once_at_the_end() -> None:
    budget = Budget(100.0)
    told = [budget.look(float(cost), 0.5, 10.0) for cost in range(120)]
    said = {cost: line for cost, line in enumerate(told) if line is not None}
    assert sorted(said) == [80, 95]
    assert "$80.00 of $100.00 are spent (80%)" in said[80]
    assert "$95.00 of $100.00 are spent, and stopping takes up to 10 s more" in said[95]
    assert budget.is_used_up


@pytest.mark.parametrize(("limit", "cost"), [(None, 1e9), (100.0, None)])
def test_no_budget_or_no_price_stops_nothing(limit: float | None, cost: float | None) -> None:
    budget = Budget(limit)
    assert budget.look(cost, 1.0, 1.0) is None
    assert not budget.is_used_up


def test_a_budget_beside_a_cost_that_nobody_knows_is_refused() -> None:
    """It could not be held: the time that is booked already has no price."""
    check_budget(None, spent(0.0, None))
    with pytest.raises(UserError, match=r"^cost.budget_usd: \$5.00, and what the run has cost .* not known"):
        check_budget(5.0, spent(0.0, None))


def spent(start_usd: float, training_usd: float | None) -> Totals:
    """A run of one life; None: its time has no price."""
    rate = Rate("worker", None if training_usd is None else 3600.0)
    return totals_of((Life(0, "started", 0.0, booked={rate: {START_UP: start_usd, TRAINING: training_usd or 1.0}}),))


def test_a_run_whose_budget_is_spent_is_not_started_again() -> None:
    check_budget(5.0, totals_of(()))
    check_budget(5.0, spent(0.0, 4.99))
    with pytest.raises(UserError, match=r"^cost.budget_usd: \$5.10 of \$5.00 are spent; a larger budget"):
        check_budget(5.0, spent(0.0, 5.1))


def test_nor_where_another_start_would_pass_it() -> None:
    """The longest that any worker took, at what the workers cost now, and the time to stop."""
    stop = seconds_to_stop(0.0, CHECKPOINT_SECONDS)
    earlier = [begun(START_UP, workers=4, seconds=4 * 20.0), begun(START_UP, workers=1, seconds=25.0 - stop)]
    check_start(40.0, 10.0, [], 1.0)  # nobody knows yet how long a start takes
    check_start(None, 10.0, earlier, 1e9)
    check_start(40.0, 39.0 - 20.0 - stop, earlier, 1.0)
    check_start(40.0, 0.0, earlier[1:], 1.59)
    with pytest.raises(UserError, match=r"\$5.00 of \$40.00 are spent, and to start .* \$35.00 \(35 s\); a larger"):
        check_start(40.0, 40.0 - 20.0 - stop, earlier, 1.0)
    with pytest.raises(UserError, match=r"\$0.0000 of \$40.00 are spent, and .* \$40.00 \(25 s\); a larger"):
        check_start(40.0, 0.0, earlier[1:], 1.6)


def begun(phase: str, workers: int, seconds: float) -> Life:
    return Life(0, "started", 0.0, workers=workers, from_step=0, booked={Rate("worker", 1.0): {phase: seconds}})


def test_what_ends_before_a_step_saves_nothing_and_does_not_say_so() -> None:
    told = Budget(10.0).look(9.0, 1.0, 15.0, has_begun=False)
    assert told is not None
    assert "the run ends before a step" in told
    assert "checkpoint and ends" not in told


@pytest.mark.parametrize(
    ("cost", "world", "told"),
    [
        ({"usd_per_worker_hour": 3600.0, "budget_usd": 60.1}, 1, None),
        ({"usd_per_worker_hour": 3600.0, "budget_usd": 60.1}, 2, r"\$25.00 of \$60.10 .* \$70.00 \(35 s\)"),
        ({"usd_per_node_hour": 3600.0, "budget_usd": 60.1}, 2, None),
        ({"usd_per_worker_hour": 3600.0, "budget_usd": 24.0}, 1, r"\$25.00 of \$24.00 are spent; a larger"),
        ({"price_file": True, "budget_usd": 1e6}, 1, r"but node .* has no price, .*cost.instance_type"),
        ({"price_file": True}, 1, None),
    ],
)
def test_a_loop_alone_looks_at_its_money_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: dict[str, Any], world: int, told: str | None
) -> None:
    """The command before took 20 s to start and trained for 5."""
    monkeypatch.setenv("WORLD_SIZE", str(world))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    prices = tmp_path / "prices.yaml"
    prices.write_text("{date: 2026-11-01, source: us, prices: [{instance_type: b, on_demand: 1.0, per: node}]}")
    cost = {**cost, "price_file": str(prices)} if "price_file" in cost else cost
    config = check_config({"name": "alone", "run_root": str(tmp_path), "data": {"index": "x"}, "cost": cost})
    now = [0.0]
    ledger = Ledger(config.folder / LEDGER, clock=lambda: now[0])
    ledger.open_life("started")
    ledger.hire("0", Rate("worker", 3600.0))
    ledger.begin(0, 0, 1)
    now[0] = 25.0
    ledger.pulse("0", TRAINING, {START_UP: 20.0, TRAINING: 5.0})
    ledger.close()
    with nullcontext() if told is None else pytest.raises(UserError, match=told):
        AloneHooks(config)
