"""`ssrnn bench launch`: nothing is told of loops that learn different things, and the control plane loses nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_dist.config import RunConfig, check_config
from ssrnn_launch.bench import comparing, control_plane, overhead, plain_loop, recovery, starting, workshop
from ssrnn_launch.bench.comparing import LOSS_TOLERANCE, Timed, check_equal, means_of, ratio_of, windows_of
from ssrnn_launch.bench.measure import PARTS, check_nothing_lost, chosen
from ssrnn_launch.bench.picture import bars_of, draw
from ssrnn_launch.bench.workshop import Workshop
from ssrnn_launch.problems import LaunchFailed
from tests.helpers.launching import only_json, ssrnn

LOSSES = st.lists(st.floats(0.1, 20.0), min_size=1, max_size=6)


@pytest.fixture
def shop(tmp_path: Path, corpus: Path) -> Workshop:
    return Workshop(tmp_path, corpus)


def small(shop: Workshop, name: str, **train: Any) -> dict[str, Any]:
    values = shop.values(name, width=16, steps=8)
    values["train"] |= {"log_every_steps": 2, "sequence_length": 16, "tokens_per_batch": 64, **train}
    return values | {"tracking": {"report": False, "system_metrics": False}}


def plain(config: RunConfig) -> Timed:
    """The plain loop, in this process."""
    found = plain_loop.train(config, 0, 1, lambda: None)
    every = config.train.log_every_steps
    return Timed(windows_of(found["ends"], every), windows_of(found["cpu"], every), means_of(found["losses"], every))


@pytest.mark.long
def test_the_plain_loop_learns_what_the_loop_alone_learns_and_another_is_refused(shop: Workshop) -> None:
    alone = workshop.timed(workshop.train(shop, "alone", small(shop, "alone"), threads=1))
    ours = plain(check_config(small(shop, "plain")))
    rows = overhead.rows_of([{"plain": ours, "alone": alone}])
    assert [row["loop"] for row in rows] == ["plain", "alone"]
    assert rows[1]["ratio"]["median"] == pytest.approx(alone.step_seconds / ours.step_seconds)
    assert len(alone.windows) == 3  # eight steps, two a window, the first one warms up
    assert alone.core_seconds > 0
    other = plain(check_config(small(shop, "other", learning_rate=4e-3)))
    with pytest.raises(LaunchFailed, match=r"the loss of window \d is .* in alone, .* in plain; nothing is told"):
        overhead.rows_of([{"plain": ours, "alone": alone}, {"plain": other, "alone": alone}])


@given(LOSSES, st.data())
def test_losses_are_equal_within_the_tolerance_and_refused_beyond_it(losses: list[float], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(losses) - 1))

    def off_by(relative: float) -> list[float]:
        return [loss * (1 + relative) if number == at else loss for number, loss in enumerate(losses)]

    check_equal("x", {"plain": losses, "other": off_by(0.9 * LOSS_TOLERANCE)})
    with pytest.raises(LaunchFailed, match=f"window {at + 1} "):
        check_equal("x", {"plain": losses, "third": losses, "other": off_by(1.5 * LOSS_TOLERANCE)})


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 2.0, 3.0], [1.0, float("nan")]])
def test_losses_that_are_missing_or_no_number_are_refused(losses: list[float]) -> None:
    with pytest.raises(LaunchFailed, match="nothing is told"):
        check_equal("x", {"plain": [1.0, 2.0], "other": losses})
    with pytest.raises(LaunchFailed):
        check_equal("x", {"plain": losses, "other": [1.0, 2.0]})


@given(st.lists(st.floats(0.01, 10.0), min_size=2, max_size=50), st.integers(1, 10))
def test_windows_are_the_means_of_their_steps_but_for_the_first(seconds: list[float], every: int) -> None:
    ends = [sum(seconds[: at + 1]) for at in range(len(seconds))]
    windows = windows_of(ends, every)
    assert len(windows) == max(0, len(seconds) // every - 1)
    assert windows == pytest.approx(means_of(seconds, every)[1:])


def test_a_ratio_is_taken_round_by_round() -> None:
    found = ratio_of([2.0, 20.0, 6.0], [1.0, 10.0, 2.0])
    assert found == comparing.Ratio(median=2.0, least=2.0, most=3.0)
    assert comparing.judged(found, True, 1.0) is True
    assert comparing.judged(found, False, 1.0) is False
    assert comparing.judged(found, True, 0.9) is None  # rounds that differ by so much prove nothing


@given(st.integers(1, 256).map(lambda count: 16 * count), st.floats(1e-4, 10.0))
def test_a_model_is_made_wider_where_a_step_is_too_short(width: int, step_seconds: float) -> None:
    found = plain_loop.next_width(width, step_seconds, 0.2)
    assert found % 16 == 0
    assert 16 <= found <= 4096
    assert (found >= width) if step_seconds <= 0.2 else (found <= width)


def test_the_control_plane_on_a_real_ray_loses_nothing(tmp_path: Path) -> None:
    words = ["bench", "launch", "--quick", "--part", "control", "--json", "--out", "results.json"]
    done = ssrnn(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = only_json(done.stdout)
    assert json.loads((tmp_path / "results.json").read_text()) == found
    assert {"date", "processor", "cores", "ray", "torch", "git_commit"} <= found.keys()
    of_ray = found["control"]["on_ray"]
    assert of_ray["workers"] == 64
    assert 0 < of_ray["latency_p50_seconds"] <= of_ray["latency_p99_seconds"]
    assert set(of_ray["lost"].values()) == {0}
    assert found["control"]["without_ray"]["cores"].keys() == {"board", "driver"}


def test_a_loss_in_the_control_plane_is_refused() -> None:
    check_nothing_lost({"pulses": 0, "joules": 0.0})
    with pytest.raises(LaunchFailed, match="lost 3 pulses; nothing is told"):
        check_nothing_lost({"pulses": 3, "joules": 0.0})


def test_a_worker_that_is_not_heard_of_does_not_pass_for_a_healthy_one(tmp_path: Path) -> None:
    now = [0.0]
    ledger = control_plane.hired(tmp_path / "ledger.jsonl", ["0/0"], clock=lambda: now[0])
    vitals = control_plane.Vitals(["0/0"], 0.0)
    news = control_plane.News(pulses=[control_plane.pulse_of("0/0", 1.0)], ages={"0/0": 0.0})
    control_plane.book(news, vitals, ledger, 1.0)
    with pytest.raises(AssertionError, match="taken for lost"):
        control_plane.book(replace(news, pulses=[], ages={}), vitals, ledger, 20.0)


def test_stages_follow_each_other_and_make_up_the_whole(tmp_path: Path) -> None:
    stages = starting.stages_of([("", 10.0), ("Ray", 13.0), ("step", 14.5), ("config", 11.0)])
    assert stages == [
        {"stage": "config", "seconds": 1.0},
        {"stage": "Ray", "seconds": 2.0},
        {"stage": "step", "seconds": 1.5},
    ]
    ends = {"noticed_seconds": 2.0, "group_asked_for_seconds": 3.0, "group_ready_seconds": 9.0}
    row = {"what": "a node is killed", **ends, "first_step_seconds": 9.5}
    results = {"start": {"rows": [{"way": "train", "stages": stages}]}, "recovery": {"rows": [row]}}
    assert [(name, sum(seconds for _, seconds in bar)) for name, bar in bars_of(results)] == [
        ("train", 4.5),
        ("a node is killed", 9.5),
    ]
    for shown in (results, {}):
        draw(shown).savefig(tmp_path / "picture.svg")


def test_a_recovery_is_over_with_the_first_step_of_the_next_group(tmp_path: Path) -> None:
    def write(name: str, *rows: dict[str, Any]) -> None:
        with (tmp_path / name).open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def found() -> dict[str, Any] | None:
        return recovery._first_step(tmp_path, 100.0, 100.0, "worker_failed")

    write("ledger.jsonl", {"kind": "life", "time": 10.0})
    write("metrics.jsonl", {"resumed_from": 0}, {"step": 70, "time": 99.0})
    write("events.jsonl", {"time": 50.0, "kind": "worker_failed", "fields": {"step": 3}})  # of an earlier failure
    assert found() is None
    write("events.jsonl", {"time": 102.0, "kind": "worker_failed", "fields": {"step": 70}})
    write("ledger.jsonl", {"kind": "life", "time": 103.0})
    write("events.jsonl", {"time": 108.0, "kind": "resumed", "fields": {"step": 50, "workers": 1}})
    assert found() is None
    write("metrics.jsonl", {"resumed_from": 50}, {"step": 51, "time": 108.5}, {"step": 52, "time": 109.0})
    assert found() == {
        "noticed_seconds": 2.0,
        "group_asked_for_seconds": 3.0,
        "group_ready_seconds": 8.0,
        "first_step_seconds": 8.5,
        "steps_repeated": 20,
        "workers": 1,
    }
    write("events.jsonl", {"time": 120.0, "kind": "resize", "fields": {"step": 80}})
    write("ledger.jsonl", {"kind": "life", "time": 121.0})
    write("events.jsonl", {"time": 125.0, "kind": "resumed", "fields": {"step": 81, "workers": 2}})
    write("metrics.jsonl", {"resumed_from": 81}, {"step": 82, "time": 126.0})
    early = recovery._first_step(tmp_path, 119.0, 123.0, "resize")  # noticed before the cluster said that it stands
    assert early is not None
    keys = ("noticed_seconds", "group_asked_for_seconds", "first_step_seconds")
    assert [early[key] for key in keys] == [0.0, 1.0, 6.0]


def test_what_is_not_allowed_is_told_in_one_line(tmp_path: Path) -> None:
    done = ssrnn("bench", "launch", "--part", "speed", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        f"error: --part: 'speed'; one of {', '.join(PARTS)} is allowed\n",
    )
    assert chosen(["control", "start"]) == ("start", "control")
    assert chosen([]) == PARTS


@pytest.mark.long
def test_all_parts_quickly(tmp_path: Path) -> None:
    done = ssrnn("bench", "launch", "--quick", "--json", "--picture", "all.svg", cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    found = only_json(done.stdout)
    assert found.keys() >= set(PARTS)
    assert [row["event"] for row in found["recovery"]["rows"]] == ["kill"]
    assert (tmp_path / "all.svg").is_file()
