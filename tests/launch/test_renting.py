"""What a run pays for once its workers are asked for, and when it is refused before: without cluster or clock."""

from pathlib import Path
from typing import Any

import pytest

from ssrnn_dist.config.cost import CostSection
from ssrnn_dist.problems import UserError
from ssrnn_dist.tracking.ledger import LEDGER, Ledger
from ssrnn_dist.tracking.phases import IDLE, START_UP, TRAINING
from ssrnn_launch.placing import Node
from ssrnn_launch.renting import Renting

CPU = {"CPU": 1.0}
DOLLAR_A_SECOND = 3600.0


class Books:
    """A run's ledger and what it rents, on a clock that stands until it is told."""

    def __init__(self, folder: Path, **cost: Any) -> None:
        self.now, self.folder, self.cost, self.warnings = 0.0, folder, CostSection(**cost), list[str]()
        self.open()

    def open(self) -> None:
        """Another command."""
        self.ledger = Ledger(self.folder / LEDGER, clock=lambda: self.now, wall=lambda: self.now)
        self.renting = Renting(self.cost, self.ledger, CPU, self.warnings.append)
        self.ledger.open_life("started")

    def life(self, workers: int, start_up: float, training: float) -> None:
        """A command from its start to its end; training 0: it never comes to its first step."""
        names = [f"0/{rank}" for rank in range(workers)]
        self.renting.hire_all({name: node("1", cpus=8) for name in names})
        self.now += start_up
        if training:
            self.ledger.begin(0, 0, workers)
            for name in names:
                self.ledger.pulse(name, TRAINING, {START_UP: start_up})
        self.now += training
        self.ledger.close()
        self.open()


def node(name: str, cpus: float = 4, **labels: str) -> Node:
    return Node(name, f"10.0.0.{name}", {"CPU": cpus}, {"CPU": cpus}, labels)


def test_another_start_that_would_pass_the_budget_is_refused_before_anybody_trains(tmp_path: Path) -> None:
    """A start of 20 s and a stop of 15 s, each second of two workers a dollar."""
    priced = {"usd_per_worker_hour": DOLLAR_A_SECOND / 2}
    books = Books(tmp_path, budget_usd=65.5, **priced)
    books.life(2, start_up=20.0, training=10.0)  # the first one is let through, whatever it takes
    books.life(1, start_up=1.0, training=0.0)  # the longest start counts, not the last one
    books.renting.hire_all({"2/0": node("1")})  # 30.5 + 17.5: one worker may start
    books.ledger.close()
    books.open()
    with pytest.raises(UserError) as caught:
        books.renting.hire_all({f"3/{rank}": node("1") for rank in range(2)})
    told = "cost.budget_usd: $30.50 of $65.50 are spent, and to start and to stop takes up to $35.00 (35 s); "
    assert str(caught.value) == f"{told}a larger budget goes on from the newest checkpoint"
    assert books.ledger.totals().cost_usd == pytest.approx(30.5)
    books.ledger.close()
    Books(tmp_path, budget_usd=65.6, **priced).life(2, start_up=20.0, training=0.0)


def test_starts_that_end_before_a_step_cannot_creep_past_the_budget(tmp_path: Path) -> None:
    """Nobody knows how long a start takes; the time to stop is wanted all the same."""
    books = Books(tmp_path, budget_usd=40.0, usd_per_worker_hour=DOLLAR_A_SECOND)
    books.life(1, start_up=25.0, training=0.0)
    with pytest.raises(UserError, match=r"\$25\.00 of \$40\.00 are spent, and .* \$15\.00 \(15 s\)"):
        books.life(1, start_up=25.0, training=0.0)


PRICES = """
date: 2026-11-01
source: made up for this test
prices:
  - {labels: {kind: worker}, on_demand: 7200, per: node}
"""


@pytest.mark.parametrize(
    ("rented", "unpriced"), [("workers", None), ("workers", "2"), ("cluster", "2"), ("cluster", "head")]
)
def test_a_budget_that_could_not_hold_is_refused_and_nothing_is_booked(
    tmp_path: Path, rented: str, unpriced: str | None
) -> None:
    """With rented: cluster the head is paid for, too."""
    (tmp_path / "prices.yaml").write_text(PRICES)
    books = Books(tmp_path, budget_usd=5.0, price_file=str(tmp_path / "prices.yaml"), rented=rented)
    found = {
        name: node(name, cpus, **({} if name == unpriced else {"kind": "worker"}))
        for name, cpus in (("1", 4), ("2", 4), ("head", 0))
    }
    books.renting.look(list(found.values()))
    seats = {"0/0": found["1"], "0/1": found["2"]}
    if unpriced is None:
        books.renting.hire_all(seats)
        assert books.ledger.usd_per_second() == pytest.approx(2 * 2.0)
        return
    with pytest.raises(UserError) as caught:
        books.renting.hire_all(seats)
    assert str(caught.value).startswith(f"cost.budget_usd: $5.00, but node 10.0.0.{unpriced} has no price, so it could")
    assert "wanted in cost.price_file: an entry with labels" in str(caught.value)
    books.now += 10.0
    assert books.ledger.totals().worker_hours == 0.0


@pytest.mark.parametrize(("rented", "empty"), [("workers", 2), ("cluster", 2 + 4 + 1)])
def test_no_place_is_booked_twice_while_workers_start(tmp_path: Path, rented: str, empty: float) -> None:
    """The cluster is looked at before workers are hired, and not again until they train."""
    books = Books(tmp_path, usd_per_node_hour=DOLLAR_A_SECOND, rented=rented)
    found = [node("1"), node("2"), node("3", cpus=0)]
    books.renting.look(found)
    books.renting.hire_all({"0/0": found[0], "0/1": found[0]})
    books.now += 10.0
    seconds = books.ledger.totals().seconds_by_phase
    assert (seconds[START_UP], seconds[IDLE]) == (20.0, 10.0 * empty)
    assert books.ledger.totals().cost_usd == pytest.approx(10.0 * (1 if rented == "workers" else 3))


@pytest.mark.parametrize("rented", ["workers", "cluster"])
def test_a_node_without_a_price_that_joins_under_a_budget_is_named_and_leaves_the_cost_known(
    tmp_path: Path, rented: str
) -> None:
    """Where all of the cluster is paid for, the budget can hold no longer; else no worker may go to that node."""
    (tmp_path / "prices.yaml").write_text(PRICES)
    books = Books(tmp_path, budget_usd=500.0, price_file=str(tmp_path / "prices.yaml"), rented=rented)
    priced, joined = node("1", kind="worker"), node("2")
    books.renting.look([priced])
    books.renting.hire_all({"0/0": priced})
    books.renting.check_priced()
    assert books.renting.unpriced == set()
    books.renting.look([priced, joined])
    assert books.renting.unpriced == {"2"}
    if rented == "workers":
        books.renting.check_priced()
    else:
        with pytest.raises(UserError, match=r"node 10\.0\.0\.2 has no price, so it could not hold; wanted in cost"):
            books.renting.check_priced()
    with pytest.raises(UserError, match=r"10\.0\.0\.2 has no price"):
        books.renting.hire_all({"1/0": joined})
    books.now += 10.0
    assert books.ledger.totals().cost_usd == pytest.approx(20.0)
    (tmp_path / "prices.yaml").write_text(PRICES + "  - {labels: {kind: other}, on_demand: 3600, per: node}\n")
    books.renting.look([priced, node("2", kind="other")])
    assert books.renting.unpriced == set()
