"""The doctor's decisions on good and bad clusters, from plain facts."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_dist.config import RunConfig
from ssrnn_dist.config.scale import ScaleSection
from ssrnn_launch import placing
from ssrnn_launch.doctor.before import check_node_prices, check_price
from ssrnn_launch.doctor.checks import Check, listed, report
from ssrnn_launch.doctor.facts import Link, Need, Node, NodeFacts, Offset, offset_of
from ssrnn_launch.doctor.job import MARK, checks_in
from ssrnn_launch.doctor.judge_network import (
    judge_all_reduce,
    judge_gpus,
    judge_interface,
    judge_links,
    more_pairs,
    ring,
)
from ssrnn_launch.doctor.judge_nodes import (
    judge_clocks,
    judge_code,
    judge_disks,
    judge_limits,
    judge_lost,
    judge_memory,
    judge_room,
    judge_secrets,
    judge_versions,
    room_on,
)
from ssrnn_launch.doctor.judge_storage import judge_indexes, judge_mlflow, judge_offload, judge_shared
from ssrnn_launch.doctor.judge_trial import judge_trial, scratch_config

GB = 10**9
VERSIONS = {"python": "3.11.7", "torch": "2.13.0", "deepspeed": "0.19.8", "ray": "2.60.0", "mlflow": "3.17.2"}
GOOD = NodeFacts(
    versions={**VERSIONS, "triton": "3.9.0", "nccl": None},
    code="c0ffee",
    cores=8,
    memory_free_bytes=64 * GB,
    shm_bytes=32 * GB,
    open_files=65536,
    free_bytes={"run_root": 500 * GB, "/tmp": 50 * GB},
    interfaces={"lo": ["127.0.0.1"], "eth0": ["10.0.0.1"]},
)
GPU = {
    "index": "0",
    "name": "H100",
    "driver_version": "570.1",
    "memory.used": "3",
    "memory.total": "81559",
    "ecc.errors.uncorrected.volatile.total": "0",
    "processes": [],
    "slowed": "0x0000000000000001",
}
NEED = Need(checkpoint_bytes=10 * GB, checkpoints=2, gradient_bytes=2 * GB)


def two(**changes: Any) -> dict[str, NodeFacts]:
    """A good node, and one with these changes."""
    return {"good": GOOD, "bad": replace(GOOD, **changes)}


def only(checks: list[Check]) -> Check:
    assert len(checks) == 1, checks
    return checks[0]


def test_a_line_is_one_line() -> None:
    assert str(Check("room", "ok", "2 places")) == "ok    room — 2 places"
    assert str(Check("ray", "fail", "no\n head", "start  one")) == "FAIL  ray — no head; start one"


def test_the_report_counts_and_only_failures_are_not_ok() -> None:
    checks = [Check("a", "ok", ""), Check("b", "warn", "", "x"), Check("c", "warn", "", "x")]
    assert report(checks) | {"checks": []} == {"ok": True, "passed": 1, "warnings": 2, "failed": 0, "checks": []}
    assert report([*checks, Check("d", "fail", "", "x")])["ok"] is False


def test_many_names_are_cut() -> None:
    assert listed(f"n{at:02}" for at in range(20)) == "n00, n01, n02, n03 and 16 more"


@pytest.mark.parametrize(
    ("node", "scale", "places"),
    [
        (Node("1", "a", "10.0.0.1", cpus=8), {}, 8),
        (Node("1", "a", "10.0.0.1", cpus=8), {"cpus_per_worker": 3}, 2),
        (Node("1", "a", "10.0.0.1", cpus=8, gpus=2), {"gpus_per_worker": 1}, 2),
        (Node("1", "a", "10.0.0.1", cpus=1, gpus=2), {"gpus_per_worker": 1}, 1),
        (Node("1", "a", "10.0.0.1", cpus=8, gpus=2), {"gpus_per_worker": 1, "accelerator_type": "H100"}, 0),
        (Node("1", "a", "10.0.0.1", 8, 2, frozenset({"H100"})), {"gpus_per_worker": 1, "accelerator_type": "H100"}, 2),
        (Node("1", "head", "10.0.0.1", cpus=0), {}, 0),
    ],
)
def test_room_on_a_node(node: Node, scale: dict[str, Any], places: int) -> None:
    assert room_on(node, ScaleSection(**scale)) == places


@pytest.mark.parametrize(
    ("workers", "state"), [(4, "ok"), ((2, 4), "ok"), ((2, 6), "warn"), (6, "fail"), ((5, 6), "fail")]
)
def test_room_for_the_fewest_and_the_most(workers: Any, state: str) -> None:
    nodes = [Node("1", "a", "", cpus=2), Node("2", "b", "", cpus=2)]
    assert judge_room(nodes, ScaleSection(workers=workers)).state == state


def test_no_room_says_which_gpus_there_are() -> None:
    nodes = [Node("1", "a", "", 8, 8, frozenset({"A100"}))]
    check = judge_room(nodes, ScaleSection(gpus_per_worker=1, accelerator_type="H100"))
    assert check.state == "fail"
    assert "A100" in check.detail


def test_nodes_that_are_silent_have_a_line_each() -> None:
    checks = judge_lost(["gone"], {"b": "no answer within 60 s", "a": "it died"})
    assert [(check.name, check.state) for check in checks] == [
        ("node a", "fail"),
        ("node b", "fail"),
        ("nodes", "warn"),
    ]


def test_equal_versions_are_one_line() -> None:
    assert only(judge_versions(two(), GOOD, uses_gpu=False)).state == "ok"


@pytest.mark.parametrize(
    ("package", "version", "uses_gpu", "state"),
    [
        ("torch", "2.12.0", False, "fail"),
        ("python", "3.12.1", False, "fail"),
        ("mlflow", "3.16.0", False, "warn"),
        ("mlflow", None, False, "fail"),
        ("triton", None, False, "ok"),
        ("triton", None, True, "fail"),
        ("nccl", "2.27", True, "warn"),
    ],
)
def test_a_version_that_differs_on_one_node(package: str, version: str | None, uses_gpu: bool, state: str) -> None:
    facts = two(versions={**GOOD.versions, package: version})
    check = only(judge_versions(facts, GOOD, uses_gpu))
    assert check.state == state
    if state != "ok":
        assert package in check.name
        assert f"{version or 'none'} on bad" in check.detail


def test_a_package_that_is_missing_everywhere_fails() -> None:
    none = replace(GOOD, versions={**GOOD.versions, "mlflow": None})
    assert only(judge_versions({"a": none}, none, uses_gpu=False)).state == "fail"


@pytest.mark.parametrize("code", ["0ther", None])
def test_other_code_on_a_node(code: str | None) -> None:
    check = judge_code(two(code=code), GOOD)
    assert check.state == "fail"
    assert f"{code or 'none'} on bad" in check.detail
    assert judge_code(two(), GOOD).state == "ok"


@pytest.mark.parametrize(
    ("seconds", "error", "state"),
    [
        (0.0, 0.001, "ok"),
        (2.0, 0.01, "warn"),
        (-2.0, 0.01, "warn"),
        (40.0, 0.1, "fail"),
        (40.0, 39.5, "ok"),
        (40.0, 15.0, "warn"),
    ],
)
def test_clocks_count_by_what_is_certain(seconds: float, error: float, state: str) -> None:
    check = judge_clocks({"good": Offset(0.0, 0.001), "bad": Offset(seconds, error)})
    assert check.state == state
    assert state == "ok" or "bad" in check.detail


def test_no_clock_at_all_fails() -> None:
    assert judge_clocks({}).state == "fail"


@given(st.floats(-1e4, 1e4), st.floats(0, 10), st.floats(0, 10))
def test_the_true_offset_is_within_the_error(offset: float, there: float, back: float) -> None:
    found = offset_of(sent=1000.0, there=1000.0 + there + offset, received=1000.0 + there + back)
    assert abs(found.seconds - offset) <= found.error_seconds + 1e-6


def test_memory_for_the_workers_of_a_node() -> None:
    facts = two(memory_free_bytes=1.5 * GB)
    assert only(judge_memory(facts, {"good": 2, "bad": 1})).state == "ok"
    check = only(judge_memory(facts, {"good": 2, "bad": 2}))
    assert check.state == "warn"
    assert check.detail.startswith("bad: ")


def test_dockers_64_megabytes_of_shared_memory() -> None:
    checks = judge_memory(two(shm_bytes=64 << 20), {"good": 1, "bad": 1})
    assert [(check.name, check.state) for check in checks] == [("memory", "ok"), ("/dev/shm", "warn")]
    assert "bad" in checks[1].detail
    assert len(judge_memory(two(shm_bytes=None), {"good": 1, "bad": 1})) == 1


@pytest.mark.parametrize(("files", "state"), [(65536, "ok"), (1024, "warn"), (-1, "ok")])
def test_open_files(files: int, state: str) -> None:
    assert judge_limits(two(open_files=files)).state == state


@pytest.mark.parametrize(("free", "state"), [(31 * GB, "ok"), (29 * GB, "warn"), (9 * GB, "fail")])
def test_a_disk_holds_the_checkpoints(free: int, state: str) -> None:
    facts = two(free_bytes={"run_root": free, "/tmp": 50 * GB})
    states = {check.name: check.state for check in judge_disks(facts, NEED)}
    assert states == {"disk of run_root": state, "disk of /tmp": "ok"}


@pytest.mark.parametrize(("free", "state"), [(2 * GB, "ok"), (GB // 2, "warn"), (0, "warn")])
def test_a_full_disk_is_told_of_where_nobody_knows_what_checkpoints_take(free: int, state: str) -> None:
    check = only(judge_disks({"a": replace(GOOD, free_bytes={"run_root": free})}, Need(0, 2, 0)))
    assert check.state == state
    assert ("known once the corpus stands" in check.detail) == (state == "ok")


def test_a_disk_that_nobody_can_measure_is_left_out() -> None:
    assert judge_disks({"a": replace(GOOD, free_bytes={"run_root": None})}, NEED) == []


def test_secrets_by_name() -> None:
    assert judge_secrets(two(), []) == []
    assert only(judge_secrets(two(), ["TOKEN"])).state == "ok"
    check = only(judge_secrets(two(missing_secrets=("TOKEN",)), ["TOKEN", "OTHER"]))
    assert check.state == "fail"
    assert check.detail == "bad: no TOKEN"


def test_a_shared_folder() -> None:
    check = only(judge_shared("/runs", {"a": None, "b": None}, {"a": [], "b": [], "here": []}))
    assert check.state == "ok"


def test_a_read_only_folder_on_one_node() -> None:
    check = only(judge_shared("/runs", {"a": None, "b": "Read-only file system"}, {"a": [], "b": [], "here": []}))
    assert check.state == "fail"
    assert check.detail == "b: not writable (Read-only file system)"


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ({"a": ["b"], "b": ["a"]}, "a, b can't see each other's files"),
        ({"a": ["c"], "b": ["c"], "c": ["a", "b"]}, "c can't see what a, b wrote"),
        ({"a": [], "b": [], "here": ["a", "b"]}, "here can't see what a, b wrote"),
        ({"a": ["c"], "b": [], "c": []}, "a can't see all that the others wrote"),
    ],
)
def test_a_folder_of_each_nodes_own(missing: dict[str, list[str]], words: str) -> None:
    check = only(judge_shared("/runs", {node: None for node in missing if node != "here"}, missing))
    assert check.state == "fail"
    assert check.detail == f"/runs is not shared: {words}"


def test_a_folder_that_can_be_written_but_not_read() -> None:
    check = only(judge_shared("s3://b/runs", {"a": None}, {"a": "AccessDenied", "here": []}))
    assert check.state == "fail"
    assert "not readable (AccessDenied)" in check.detail


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"sha256": None, "error": "No such file", "odd_shards": 0}, "not readable"),
        ({"sha256": "other", "error": None, "odd_shards": 0}, "another corpus"),
        ({"sha256": "right", "error": None, "odd_shards": 3}, "3 shards"),
    ],
)
def test_a_corpus_that_one_node_lacks(state: dict[str, Any], words: str) -> None:
    right = {"sha256": "right", "error": None, "odd_shards": 0}
    assert only(judge_indexes({"/c": "right"}, {"/c": {"a": right, "b": right}})).state == "ok"
    check = only(judge_indexes({"/c": "right"}, {"/c": {"a": right, "b": state}}))
    assert check.state == "fail"
    assert check.detail.startswith("b: ")
    assert words in check.detail


def test_offload_and_mlflow_fail_where_one_node_can_not() -> None:
    assert only(judge_offload("/nvme", {"a": None, "b": None})).state == "ok"
    assert only(judge_offload("/nvme", {"a": None, "b": "No space left"})).detail == "b: No space left"
    assert only(judge_mlflow("http://m", {"a": None})).state == "ok"
    assert only(judge_mlflow("http://m", {"a": "HTTP 401", "b": "HTTP 401"})).detail == "a, b: HTTP 401"


def test_the_interface_of_the_config() -> None:
    assert judge_interface(two(), None) == []
    assert only(judge_interface(two(), "eth0")).state == "ok"
    check = only(judge_interface(two(interfaces={"lo": ["127.0.0.1"], "eth0": []}), "eth0"))
    assert check.state == "fail"
    assert check.detail == "bad: no eth0 with an IPv4 address (it has: lo)"


@given(st.integers(0, 60), st.integers())
def test_pairs_are_few_and_between_two_nodes(n_nodes: int, seed: int) -> None:
    names = [f"n{at}" for at in range(n_nodes)]
    around = ring(names)
    assert len(around) == (n_nodes if n_nodes > 1 else 0)
    assert (
        {source for source, _ in around} == {target for _, target in around} == (set(names) if n_nodes > 1 else set())
    )
    across = more_pairs(names, seed) if names else []
    assert len(across) <= 8
    assert all(source != target and (source, target) not in around for source, target in across)
    assert len(set(across)) == len(across)


def test_a_closed_port_names_both_ends() -> None:
    links = [Link("a", "b", bytes_per_second=1e9), Link("b", "a", error="10.0.0.1:40000: timed out")]
    check = only(judge_links(links))
    assert check.state == "fail"
    assert "b can't reach a (10.0.0.1:40000: timed out)" in check.detail


def test_the_slow_link_among_fast_ones() -> None:
    fast = [
        Link("a", "b", bytes_per_second=1e9),
        Link("b", "c", bytes_per_second=1.1e9),
        Link("c", "a", bytes_per_second=9e8),
    ]
    assert [check.state for check in judge_links(fast)] == ["ok", "ok"]
    slow = [*fast[:2], replace(fast[2], bytes_per_second=1e8)]
    checks = judge_links(slow)
    assert [check.state for check in checks] == ["ok", "warn"]
    assert "c → a" in checks[1].detail


def test_one_node_needs_no_links() -> None:
    assert only(judge_links([])).state == "ok"


def test_the_all_reduce_tells_what_a_step_takes() -> None:
    check = judge_all_reduce("nccl", 1e9, NEED, workers=4)
    assert check.state == "ok"
    assert "3 s a step" in check.detail  # 2 * 3/4 * 2 GB at 1 GB/s
    assert judge_all_reduce("nccl", 1e8, NEED, workers=4).state == "warn"
    assert judge_all_reduce("nccl", "no route to host", NEED, workers=4).state == "fail"


def test_gpus_that_are_well() -> None:
    assert only(judge_gpus(two(gpus=[GPU]), {"good": 0, "bad": 1})).state == "ok"


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"processes": ["4711"]}, "warn", "bad/0"),
        ({"memory.used": "40000"}, "warn", "bad/0"),
        ({"ecc.errors.uncorrected.volatile.total": "2"}, "fail", "bad/0"),
        ({"ecc.errors.uncorrected.volatile.total": "[N/A]"}, "ok", "idle"),
        ({"slowed": "0x0000000000000040"}, "warn", "bad/0"),
        ({"slowed": None}, "ok", "idle"),
    ],
)
def test_a_gpu_that_is_not_well(changes: dict[str, Any], state: str, words: str) -> None:
    check = only(judge_gpus({"bad": replace(GOOD, gpus=[{**GPU, **changes}])}, {"bad": 1}))
    assert check.state == state
    assert words in check.detail


def test_a_gpu_that_fell_off_a_driver_that_is_missing_and_two_kinds() -> None:
    assert only(judge_gpus({"bad": replace(GOOD, gpus=[GPU])}, {"bad": 2})).state == "fail"
    missing = replace(GOOD, gpu_error="nvidia-smi: No such file")
    assert judge_gpus({"bad": missing}, {"bad": 1})[0].state == "fail"
    mixed = {"a": replace(GOOD, gpus=[GPU]), "b": replace(GOOD, gpus=[{**GPU, "name": "A100"}])}
    assert only(judge_gpus(mixed, {"a": 1, "b": 1})).name == "GPU types"


def test_checks_of_a_job_are_read_as_its_lines_become_whole() -> None:
    line = MARK + '{"name": "room", "state": "ok", "detail": "2 places", "remedy": null}\n'
    text = f"noise\n{line}more noise {line}{line}{line[:30]}"
    assert checks_in(text) == [Check("room", "ok", "2 places")] * 2


def metrics(step: int, loss: float = 5.0) -> Any:
    return SimpleNamespace(step=step, steps=100, train_loss=loss, workers=2, tokens_per_second=1000.0)


def test_the_trial_is_judged_by_its_steps() -> None:
    assert judge_trial([metrics(1), metrics(2)], 12.0, too_late=False).state == "ok"
    assert judge_trial([metrics(1)], 12.0, too_late=True).state == "fail"
    assert judge_trial([], None, too_late=True).state == "fail"
    assert judge_trial([metrics(1), metrics(2, math.nan)], 12.0, too_late=False).state == "fail"


@pytest.mark.parametrize("run_root", ["/shared/runs", "s3://bucket/runs/"])
def test_the_trial_is_the_run_itself_but_leaves_nothing_of_its_own(run_root: str) -> None:
    config = RunConfig(
        name="big",
        run_root=run_root,
        data={"index": "/corpus"},
        train={"steps": 1000, "validate_every_steps": 5},
        tracking={"uri": "http://mlflow", "register_model": "big"},
        checkpoint={"uri": "s3://elsewhere"},
        cost={"usd_per_worker_hour": 2.0, "budget_usd": 1.0},
    )
    scratch = scratch_config(config, "doctor-1")
    assert scratch.run_root == f"{run_root.rstrip('/')}/doctor-1"
    assert (scratch.tracking.uri, scratch.tracking.register_model) == (None, None)
    assert (scratch.checkpoint.uri, scratch.cost.budget_usd) == (None, None)
    assert (scratch.model, scratch.data, scratch.train.steps) == (config.model, config.data, 1000)
    assert RunConfig.model_validate(scratch.model_dump()) == scratch


PRICE_FILE = "{date: 2026-11-01, source: us, prices: [{labels: {kind: worker}, on_demand: 2.0, per: node}]}"


def priced_run(folder: Path, prices: str = PRICE_FILE, **cost: Any) -> RunConfig:
    (folder / "prices.yaml").write_text(prices)
    cost["price_file"] = str(folder / "prices.yaml")
    return RunConfig.model_validate({"name": "priced", "data": {"index": "x"}, "cost": cost})


@pytest.mark.parametrize(
    ("cost", "used", "states", "nodes"),
    [
        ({}, ["1", "2"], ["ok"], ""),
        ({"budget_usd": 5.0}, ["1", "2"], ["ok"], ""),
        ({}, ["1", "3"], ["warn"], "10.0.0.3"),
        ({"budget_usd": 5.0}, ["1", "3"], ["fail"], "10.0.0.3"),
        ({"budget_usd": 5.0, "rented": "cluster"}, ["1"], ["fail"], "10.0.0.3, 10.0.0.4"),
    ],
)
def test_nodes_are_priced_as_the_run_would(
    tmp_path: Path, cost: dict[str, Any], used: list[str], states: list[str], nodes: str
) -> None:
    """Those of a cluster that stands, by their own labels; two have none that fits."""
    found = [
        placing.Node(each, f"10.0.0.{each}", {"CPU": 4.0}, {"CPU": 4.0}, {"kind": kind})
        for each, kind in (("1", "worker"), ("2", "worker"), ("3", "head"), ("4", "head"))
    ]
    checks = check_node_prices(priced_run(tmp_path, **cost), found, used)
    assert [check.state for check in checks] == states
    assert states == ["ok"] or checks[0].detail.startswith(f"{nodes}: no price, so ")
    assert states == ["ok"] or "labels of the node such as kind: head" in (checks[0].remedy or "")
    assert check_node_prices(RunConfig.model_validate({"name": "p", "data": {"index": "x"}}), found, used) == []


@pytest.mark.parametrize(
    ("prices", "state", "detail"),
    [
        ("", "fail", "an empty file"),
        (PRICE_FILE.replace("on_demand: 2.0, per: node", "on_demand: -1, per: nod"), "fail", "and 1 more"),
        (PRICE_FILE, "warn", "it wants an entry with"),
        (PRICE_FILE.replace("{labels: {kind: worker}", "{instance_type: big"), "ok", "a budget of $0.0050"),
        (
            PRICE_FILE.replace("{labels: {kind: worker}", "{instance_type: big").replace("2026", "2020"),
            "warn",
            "days ago",
        ),
    ],
)
def test_the_price_file_is_read_before_any_cluster(tmp_path: Path, prices: str, state: str, detail: str) -> None:
    check = check_price(priced_run(tmp_path, prices, budget_usd=0.005, instance_type="big"))
    assert (check.state, detail in check.detail) == (state, True)
