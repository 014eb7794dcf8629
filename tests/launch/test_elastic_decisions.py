"""Where workers go, who is lost, when to grow and when to give up: the supervisor's decisions, without a cluster."""

import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_dist.config.cost import CostSection
from ssrnn_dist.config.scale import ScaleSection
from ssrnn_dist.hooks import Finished
from ssrnn_dist.problems import UserError
from ssrnn_dist.tracking.ledger import Ledger
from ssrnn_dist.tracking.lives import Rate
from ssrnn_dist.tracking.prices import Prices
from ssrnn_launch.board import Board, News, Pulse
from ssrnn_launch.failures import Failure, reason_of, root_cause, why_give_up
from ssrnn_launch.placing import Node, choose_size, most_places, needs, places, rooms_of, seats_of
from ssrnn_launch.pulse import stacks
from ssrnn_launch.renting import Renting, unoccupied
from ssrnn_launch.watch import Vitals, place_in, should_grow

CPU = {"CPU": 1.0}


def node(name: str, cpus: float = 4, free: float | None = None, **more: object) -> Node:
    total = {"CPU": cpus, **more.pop("extra", {})}  # type: ignore[dict-item]
    return Node(name, f"10.0.0.{name}", total, {**total, "CPU": cpus if free is None else free}, {}, **more)  # type: ignore[arg-type]


def pulse(worker: str, step: int = 0, **more: object) -> Pulse:
    return Pulse(worker, step, "training", {}, **more)  # type: ignore[arg-type]


scales = st.tuples(st.integers(1, 6), st.integers(0, 6), st.sampled_from([None, 1, 2])).map(
    lambda each: ScaleSection(
        workers=(each[0] * (each[2] or 1), (each[0] + each[1]) * (each[2] or 1)),
        zero_stage=3 if each[2] else 1,
        partition_ranks=each[2],
    )
)
clusters = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=6).map(
    lambda each: [node(str(at), cpus, min(cpus, free), draining=going) for at, (cpus, free, going) in enumerate(each)]
)


@given(clusters, scales, st.integers(0, 3))
def test_every_rank_has_a_place_of_its_own_on_a_node_that_stays(
    nodes: list[Node], scale: ScaleSection, lost: int
) -> None:
    avoided = {str(lost)}
    rooms = rooms_of(nodes, CPU, {}, avoided)
    size = choose_size(rooms, scale)
    available = sum(int(each.free["CPU"]) for each in nodes if not each.draining and each.id not in avoided)
    if size is None:
        assert available < scale.fewest_workers + (scale.partition_ranks or 1) - 1
        return
    assert scale.fewest_workers <= size <= min(scale.most_workers, available)
    assert size % (scale.partition_ranks or 1) == 0
    seats = seats_of(rooms, size)
    assert [seat.rank for seat in seats] == list(range(size))
    for each in {seat.node.id for seat in seats}:
        here = [seat for seat in seats if seat.node.id == each]
        assert [seat.local_rank for seat in here] == list(range(len(here)))
        assert {seat.local_size for seat in here} == {len(here)}
        assert len(here) <= here[0].node.free["CPU"]
        assert not here[0].node.draining
        assert each not in avoided
        ranks = [seat.rank for seat in here]
        assert ranks == list(range(ranks[0], ranks[0] + len(ranks)))  # a node's ranks are neighbours, for hpZ


def test_what_we_hold_ourselves_is_room_and_what_others_hold_is_none() -> None:
    assert places(node("1", cpus=4, free=1), CPU, held=2) == 3
    assert places(node("1", cpus=4, free=0.5), CPU, held=0) == 0
    assert places(node("1", free=4), {"CPU": 1.0, "GPU": 1.0}, held=0) == 0


def test_a_type_of_accelerator_is_asked_for_by_name() -> None:
    has = node("1", extra={"GPU": 8.0, "accelerator_type:H100": 1.0})
    scale = ScaleSection(workers=8, gpus_per_worker=1, accelerator_type="H100")
    wanted = needs(scale, 0.5)
    assert [room.places for room in rooms_of([has], wanted, {}, (), "H100")] == [8]
    assert rooms_of([has], wanted, {}, (), "A100") == []


def test_how_many_workers_an_empty_node_would_hold() -> None:
    assert most_places(node("head", cpus=0), CPU) == 0
    assert most_places(node("1", cpus=4), {"CPU": 2.0}) == 2


def test_rented_places_without_a_worker_are_counted_of_our_nodes_or_of_all() -> None:
    prices = Prices.of(CostSection(usd_per_node_hour=2.0))
    found = [node("head", cpus=0), node("1", cpus=4), node("2", cpus=4)]
    held = {"1": 3}
    quarter, whole = Rate("1/4 of node", 0.5), Rate("node", 2.0)
    assert unoccupied(found, held, prices, CPU, whole=False) == {quarter: 1}
    assert unoccupied(found, held, prices, CPU, whole=True) == {quarter: 1 + 4, whole: 1}
    assert unoccupied(found, held, Prices.of(CostSection(usd_per_worker_hour=2.0)), CPU, whole=True) == {}


def test_a_budget_that_nobody_could_hold_hires_nobody(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("{date: 2026-11-01, source: us, prices: [{instance_type: b, on_demand: 1.0, per: node}]}")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.open_life("started")
    for budget_usd, hires in ((None, True), (5.0, False)):
        renting = Renting(CostSection(price_file=str(file), budget_usd=budget_usd), ledger, CPU, lambda message: None)
        with nullcontext() if hires else pytest.raises(UserError, match="node 10.0.0.1 has no price"):
            renting.hire_all({"0/0": node("1")})
    ledger.close()


def test_a_silent_worker_is_lost_and_one_that_never_spoke_is_given_time() -> None:
    vitals = Vitals(["0/0", "0/1", "0/2"], began=0.0)
    vitals.take(News(pulses=[pulse("0/0"), pulse("0/1")], ages={"0/0": 0.5, "0/1": 0.5}), now=10.0)
    vitals.take(News(pulses=[pulse("0/0")], ages={"0/0": 0.2, "0/1": 10.5}), now=20.0)
    assert vitals.silent(20.0, seconds=12.0) == []
    assert vitals.silent(22.0, seconds=12.0) == [1]


def test_a_stall_is_a_time_without_a_step_of_anybody_the_first_included() -> None:
    vitals = Vitals(["0/0", "0/1"], began=0.0)
    assert not vitals.stalled(9.0, 10.0)
    assert vitals.stalled(11.0, 10.0)
    assert not vitals.stalled(1e9, None)
    vitals.take(News(pulses=[pulse("0/0", 1), pulse("0/1", 0)]), now=12.0)
    vitals.take(News(pulses=[pulse("0/0", 1)]), now=20.0)
    assert not vitals.stalled(21.0, 10.0)
    vitals.take(News(pulses=[pulse("0/1", 1)]), now=21.0)
    assert not vitals.stalled(30.0, 10.0)
    assert vitals.stalled(31.5, 10.0)
    assert vitals.step == 1


def test_the_board_keeps_what_is_said_once_until_it_is_taken() -> None:
    board = Board()
    board.pulse(pulse("0/0", 1, notice=("spot", None), stack="a stack"))
    board.request_stacks(["0/0"])
    orders = board.pulse(pulse("0/0", 2))
    assert (orders.stop, orders.dump) == (False, True)
    board.request_stop()
    assert board.pulse(pulse("0/0", 3)).stop
    board.finish(Finished(3, 30, 1, 1.0))
    news = board.take()
    assert [(each.step, each.notice, each.stack) for each in news.pulses] == [(3, ("spot", None), "a stack")]
    assert news.finished is not None
    assert board.take().pulses == []
    board.clear()
    assert board.pulse(pulse("1/0")).stop is False
    assert board.take().finished is None


@pytest.mark.parametrize(
    ("failures", "most", "told"),
    [
        ([("a", 5)], 3, None),
        ([("a", 5), ("a", 5)], 3, None),
        ([("a", 5), ("a", 5), ("a", 5)], 99, "the same failure 3 times at step 5"),
        ([("a", 5), ("b", 5), ("a", 5)], 99, None),
        ([("a", 5), ("a", 6), ("a", 7)], 99, None),
        ([("b", 1), ("a", 5), ("a", 5), ("a", 5)], 99, "the same failure 3 times at step 5"),
        ([("a", 5)], 0, "no restart is left"),
        ([("a", 5), ("a", 6)], 1, "no restart is left"),
    ],
)
def test_giving_up(failures: list[tuple[str, int]], most: int, told: str | None) -> None:
    found = why_give_up([Failure(reason, step, rank=1) for reason, step in failures], most)
    assert (
        (found is None)
        if told is None
        else (found is not None and told in found and found.startswith("worker 1 failed: a"))
    )


def test_a_death_is_the_cause_of_the_connections_that_it_broke() -> None:
    death = ray.exceptions.ActorDiedError()
    broken = RuntimeError("Connection closed by peer\nand much more")
    assert root_cause({0: broken, 2: death}) == (2, death)
    assert root_cause({1: broken, 0: broken})[0] == 0
    assert reason_of(death) == "its process ended (killed, or out of memory)"
    assert reason_of(broken) == "RuntimeError: Connection closed by peer"


@pytest.mark.parametrize(
    ("size", "possible", "trained", "grows"),
    [(2, 3, 60.0, True), (2, 3, 59.0, False), (2, 2, 99.0, False), (2, None, 99.0, False), (3, 2, 99.0, False)],
)
def test_a_group_grows_where_there_is_room_and_it_was_worth_its_start(
    size: int, possible: int | None, trained: float, grows: bool
) -> None:
    assert should_grow(size, possible, trained, resize_seconds=60.0) is grows


def test_a_stack_says_where_each_thread_is_the_main_one_first() -> None:
    over = threading.Event()
    waiting = threading.Thread(target=over.wait, name="a-waiting-thread")
    waiting.start()
    text = stacks()
    over.set()
    waiting.join()
    assert text.startswith("thread MainThread\n")
    assert "thread a-waiting-thread" in text
    assert "test_a_stack_says_where" in text.split("\nthread ")[0]
    assert "in stacks" in place_in(text)


def test_the_place_of_a_stall_is_in_our_own_code_where_it_can_be() -> None:
    stack = (
        'thread MainThread\n  File "/x/ssrnn_launch/worker.py", line 1, in work\n    y\n'
        '  File "/x/ssrnn_dist/session.py", line 77, in learn\n    z\n'
        '  File "/y/torch/distributed.py", line 9, in all_reduce\n    w\n\n'
        'thread other\n  File "/x/ssrnn_dist/other.py", line 3, in f\n'
    )
    assert place_in(stack) == '"/x/ssrnn_dist/session.py", line 77, in learn'
