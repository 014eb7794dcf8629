"""The plan's decisions: which workers, what they send, which is best, what it costs. No process is started."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_dist.config import RunConfig, check_config
from ssrnn_dist.problems import UserError
from ssrnn_launch.plan.calibrate import settings_of
from ssrnn_launch.plan.calibration import Calibration, Timing, facts_of, load_calibration, save_calibration
from ssrnn_launch.plan.computing import Computing, computing_by_calibration, computing_by_sheet
from ssrnn_launch.plan.devices import GPUS, gpu_named
from ssrnn_launch.plan.forecast import Forecast, Ground, forecast
from ssrnn_launch.plan.memory import Base, Split
from ssrnn_launch.plan.splits import Room, counts_of
from ssrnn_launch.plan.traffic import (
    Collective,
    collectives_of,
    communication_seconds,
    exposed_seconds,
    seconds_of,
    sheet_network,
)
from ssrnn_launch.plan.workload import workload_of

NO_ROOM_KNOWN = Room(None, None)


def config_of(**sections: dict[str, Any]) -> RunConfig:
    values: dict[str, Any] = {
        "name": "plan",
        "data": {"index": "nowhere"},
        "model": {"d_model": 64, "n_layers": 2},
        "train": {"tokens_per_batch": 4096, "sequence_length": 32, "steps": 100},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return check_config(values)


def forecast_of(config: RunConfig, seconds: Any, room: Room = NO_ROOM_KNOWN, **more: Any) -> Forecast:
    """With so many seconds of computing for n workers, and nothing sent."""
    network = sheet_network(gpu_named("H100"), 8, None)
    quick = replace(network, within=dict.fromkeys(network.within, replace(network.within["all_reduce"], hop_seconds=0)))
    ground = Ground(
        computing=lambda n: Computing(seconds(n), 0.0, None, 0.0, 1e12, measured=True),
        network=quick,
        base=Base(),
        room=room,
        watts=more.get("watts"),
        start_seconds=0.0,
        valid_tokens=None,
        on_gpu=config.scale.gpus_per_worker > 0,
    )
    return forecast(workload_of(config, 512), config, counts_of(config), ground)


def test_the_given_workers_and_their_neighbours() -> None:
    assert counts_of(config_of(scale={"workers": 4})) == [1, 2, 4, 8, 16]
    assert counts_of(config_of(scale={"workers": 3})) == [1, 2, 3, 4, 8]
    assert counts_of(config_of(scale={"workers": [3, 6]})) == [1, 2, 3, 4, 5, 6, 8, 16]
    counts = counts_of(
        config_of(scale={"workers": [48, 64]}, train={"tokens_per_batch": 2**20, "sequence_length": 1024})
    )
    assert {16, 32, 48, 64, 128, 256} <= set(counts)
    assert len(counts) < 20
    assert max(counts_of(config_of(scale={"workers": 8}), most=1024)) == 1024


@given(st.integers(1, 4096), st.integers(1, 5000))
def test_ring_traffic_is_what_a_ring_sends(ranks: int, n_bytes: int) -> None:
    reduce, gather = (Collective(kind, 1, n_bytes, ranks) for kind in ("all_reduce", "all_gather"))
    assert reduce.sent_bytes == pytest.approx(2 * gather.sent_bytes)
    assert gather.sent_bytes == pytest.approx(n_bytes * (ranks - 1) / ranks)


def test_stages_send_what_they_are_known_to() -> None:
    """ZeRO 1: a reduction and a gathering of weights a step; 2 reduces each micro-batch; 3 gathers each one, too."""
    config = config_of(model={"d_model": 512}, train={"micro_batch_lanes": 16})
    work = workload_of(config, 512)
    whole = 4 * work.parameters
    assert work.micro_batches(4) == 2
    assert collectives_of(work, Split(1, 3)) == []
    sent = {stage: sum(each.sent_bytes for each in collectives_of(work, Split(4, stage))) for stage in (1, 2, 3)}
    assert sent[1] == pytest.approx((2 + 1) * 3 / 4 * whole, rel=0.001)
    assert sent[2] == pytest.approx((2 * 2 + 1) * 3 / 4 * whole, rel=0.001)
    large = 4 * (work.parameters - work.small_parameters)
    assert sent[3] == pytest.approx(3 / 4 * (2 * whole + 2 * large + 4 * work.small_parameters), rel=0.001)
    by_neighbours = collectives_of(work, Split(4, 3, partition_ranks=2))
    assert {each.ranks for each in by_neighbours} == {2, 4}
    assert sum(each.sent_bytes for each in by_neighbours) < sent[3]


def test_a_network_of_nodes_is_slower_than_one_node_and_unknown_without_one() -> None:
    gpu = gpu_named("H100")
    reduce = Collective("all_reduce", 1, 1e9, 8)
    in_a_node = seconds_of(reduce, sheet_network(gpu, 8, None))
    over_two = seconds_of(reduce, sheet_network(gpu, 4, 100))
    assert in_a_node is not None
    assert over_two is not None
    assert in_a_node == pytest.approx(2 * 7 / 8 * 1e9 / 450e9, rel=0.05)
    assert over_two == pytest.approx(2 * 7 / 8 * 1e9 / 12.5e9, rel=0.01)
    assert seconds_of(reduce, sheet_network(gpu_named("L4"), 4, None)) is None
    work = workload_of(config_of(), 512)
    assert communication_seconds(work, Split(8, 1), sheet_network(gpu_named("L4"), 4, None)) is None


def test_up_to_1024_gpus_latency_and_bandwidth_grow_as_a_ring_does() -> None:
    work = workload_of(config_of(train={"tokens_per_batch": 2**20, "sequence_length": 1024}), 512)
    network = sheet_network(gpu_named("H100"), 8, None)
    times = [communication_seconds(work, Split(1 << power, 3), network) or 0.0 for power in range(1, 11)]
    assert times == sorted(times)
    assert exposed_seconds(1.0, 0.75, Split(8, 3), network) == pytest.approx(0.25)
    assert exposed_seconds(1.0, 0.75, Split(8, 1), network) == 1.0


def test_the_front_the_cheapest_and_the_fastest() -> None:
    config = config_of(scale={"workers": 4}, cost={"usd_per_worker_hour": 36.0})
    seconds = {1: 8.0, 2: 4.5, 4: 2.5, 8: 3.0, 16: 2.0}
    found = forecast_of(config, seconds.__getitem__)
    assert (found.cheapest, found.fastest, found.front) == (1, 16, (1, 2, 4, 16))
    one = found.choices[0]
    assert one.run_seconds == pytest.approx(800, rel=0.01)
    assert one.cost_usd == pytest.approx(8.0, rel=0.01)
    assert one.tokens_per_second == pytest.approx(512, rel=0.01)
    assert one.energy_kwh is None


def test_with_no_price_no_dollars_and_no_front() -> None:
    found = forecast_of(config_of(scale={"workers": 2}), lambda n: 1 / n, watts=700.0)
    assert (found.cheapest, found.fastest, found.front) == (None, 8, ())
    assert {each.cost_usd for each in found.choices} == {None}
    assert found.choices[0].energy_kwh == pytest.approx(700 * 100 / 3.6e6, rel=0.01)


@pytest.mark.parametrize(
    ("sections", "room", "workers", "word"),
    [
        ({"scale": {"workers": 64}}, NO_ROOM_KNOWN, 256, "256 workers for 128 lanes"),
        ({"scale": {"workers": 6, "zero_stage": 3, "partition_ranks": 2}}, NO_ROOM_KNOWN, 2, None),
        ({"scale": {"workers": 6, "zero_stage": 3, "partition_ranks": 3}}, NO_ROOM_KNOWN, 8, "partition_ranks 3"),
        ({"scale": {"workers": 2, "gpus_per_worker": 1}}, Room(None, None, 1), 2, "this machine has 1 GPU"),
        ({"scale": {"workers": 2, "gpus_per_worker": 1}}, Room(1e6, None), 2, "1.0 MB are there"),
        ({"scale": {"workers": 2}}, Room(None, 4e6), 2, "2.0 MB are there"),
        ({"scale": {"workers": 2}}, Room(None, 4e12), 2, None),
    ],
)
def test_a_split_that_cannot_be_says_why(sections: Any, room: Room, workers: int, word: str | None) -> None:
    found = forecast_of(config_of(**sections), lambda n: 1 / n, room)
    (choice,) = [each for each in found.choices if each.workers == workers]
    assert choice.impossible is None if word is None else word in (choice.impossible or "")
    assert word is None or workers not in (found.fastest, *found.front)


def test_too_little_memory_names_what_would_fit() -> None:
    config = config_of(
        model={"d_model": 2048, "n_layers": 22},
        train={"tokens_per_batch": 2**20, "sequence_length": 1024, "micro_batch_lanes": 4, "precision": "bf16"},
        scale={"workers": 64, "gpus_per_worker": 1},
    )
    found = forecast_of(config, lambda n: 1 / n, Room(12e9, None))
    (choice,) = [each for each in found.choices if each.workers == 64]
    assert "12.0 GB are there; scale.zero_stage 2 or train.micro_batch_lanes 2 would fit" in (choice.impossible or "")


def timing_of(workers: int, lanes: int, seconds: float, update: float = 0.0) -> Timing:
    return Timing(workers, 1, lanes, 1, seconds, update, seconds / 3, None, 0.0, 10, 0.0)


def calibration_of(config: RunConfig, *timings: Timing) -> Calibration:
    rate = {"bytes_per_second": 1e9, "hop_seconds": 1e-4, "call_seconds": 0.0}
    rates = dict.fromkeys(("all_reduce", "all_gather", "reduce_scatter"), rate)
    return Calibration("a machine", False, "today", facts_of(config, 512), timings, {"1": 1e11}, rates, 5, 7, 0.1, 3.0)


def test_what_was_timed_is_taken_and_the_rest_lies_on_a_line() -> None:
    config = config_of(scale={"workers": 2})
    work = workload_of(config, 512)
    found = calibration_of(config, timing_of(1, 128, 10.0, 2.0), timing_of(2, 64, 6.0, 2.0), timing_of(2, 16, 3.0, 2.0))

    def step(workers: int, *, here: bool) -> Computing:
        return computing_by_calibration(work, config, found, workers, 2, on_one_machine=here)

    assert step(1, here=True).step == 10.0
    assert step(2, here=True).step == pytest.approx(6.0 - 1.0)  # the update is dealt
    assert step(2, here=True).measured
    elsewhere = step(4, here=False)
    assert elsewhere.step == pytest.approx(6.0 - 3.0 * 32 / 48 - 2.0 * 3 / 4)
    assert not elsewhere.measured
    assert step(4, here=True).step == pytest.approx(2 * elsewhere.step)  # four on two cores take turns
    assert step(4, here=True).peak_flops == pytest.approx(elsewhere.peak_flops / 2)


def test_a_calibration_is_kept_and_refused_for_another_run(tmp_path: Any) -> None:
    config, path = config_of(scale={"workers": 2}), tmp_path / "new" / "calibration.json"
    found = calibration_of(config, timing_of(1, 128, 10.0))
    save_calibration(found, path)
    assert load_calibration(path, config, 512) == found
    assert load_calibration(path, config_of(scale={"workers": 8}, train={"steps": 5}), 512) == found
    with pytest.raises(UserError, match="made for another model and train"):
        load_calibration(path, config_of(model={"d_model": 32}, train={"precision": "bf16"}), 512)
    with pytest.raises(UserError, match="made for another vocab_size"):
        load_calibration(path, config, 513)
    for text in ("", "[]", "{}", '{"format": 1}', '{"format": 9}'):
        path.write_text(text)
        with pytest.raises(UserError, match="no calibration"):
            load_calibration(path, config, 512)


def test_what_is_timed_fits_the_cores() -> None:
    config = config_of(scale={"workers": 2})
    work = workload_of(config, 512)
    settings = settings_of(work, config, counts_of(config), 2)
    assert [(each["workers"], each["threads"], each["lanes"]) for each in settings] == [
        (1, 2, 128),
        (2, 1, 64),
        (2, 1, 16),
    ]
    many = settings_of(work, config_of(scale={"workers": 32}), [8, 16, 32, 64, 128], 48)
    assert max(each["workers"] for each in many) == 32
    assert len({each["workers"] for each in many}) <= 4
    on_a_gpu = settings_of(work, config_of(scale={"workers": 8, "gpus_per_worker": 1}), [4, 8], 48)
    assert {each["workers"] for each in on_a_gpu} == {1}


def test_gpus_go_by_rays_names_and_by_ours() -> None:
    assert gpu_named("A100").name == "A100-40G"
    assert gpu_named("h200").memory_gb == 141
    with pytest.raises(UserError, match="--device: 'T1000'"):
        gpu_named("T1000")


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
@pytest.mark.parametrize("kind", ["selective", "exact"])
def test_a_data_sheets_step_is_below_its_peak(gpu: Any, kind: str) -> None:
    config = config_of(
        model={"d_model": 768, "n_layers": 11},
        feedback={"kind": kind},
        train={"tokens_per_batch": 131072, "sequence_length": 1024, "micro_batch_lanes": 32, "precision": "bf16"},
        scale={"gpus_per_worker": 1},
    )
    work = workload_of(config, 32768)
    found = computing_by_sheet(work, config, gpu, 1)
    mfu = work.flops_per_token * 131072 / found.step / found.peak_flops
    assert 0.01 < mfu < 0.8
