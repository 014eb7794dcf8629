"""The plan's memory beside torch's own allocations in real training steps, by ZeRO stage, type, cell and rule."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import run_ranks

from ssrnn_dist.config import check_config
from ssrnn_launch.plan.memory import PARTS, Base, Split, bucket_bytes, host_bytes, memory_of, moments_of
from ssrnn_launch.plan.workload import Workload, workload_of

SCRIPT = Path(__file__).parent / "tensor_peak_rank.py"
WIDE = {"d_model": 256, "n_layers": 2, "vocab_size": 4096}  # weights outweigh activations
LONG = {"d_model": 48, "n_layers": 3, "vocab_size": 512}  # the other way round
WIDE_BATCH = {"tokens_per_batch": 64, "sequence_length": 8}
LONG_BATCH = {"tokens_per_batch": 4096, "sequence_length": 128}


def work_of(case: dict[str, Any]) -> Workload:
    shape = dict(case["model"])
    vocab_size = shape.pop("vocab_size")
    values = {"name": "memory", "data": {"index": "nowhere"}, "model": shape, "train": case["train"]}
    values["feedback"] = case.get("feedback", {})
    return workload_of(check_config(values), vocab_size)


def case_of(stage: int, shape: dict[str, Any], batch: dict[str, Any], **more: Any) -> dict[str, Any]:
    train = {**batch, **more.pop("train", {})}
    return {"stage": stage, "model": {**shape, **more.pop("model", {})}, "train": train, **more}


def by_stage(precision: str, micro_batch_lanes: int | None) -> list[dict[str, Any]]:
    train = {"precision": precision, "micro_batch_lanes": micro_batch_lanes}
    return [case_of(stage, WIDE, WIDE_BATCH, train=train) for stage in (1, 2, 3)]


BY_STAGE = [
    *by_stage("fp32", None),
    *by_stage("fp32", 2),
    *by_stage("bf16", None),
    *by_stage("bf16", 2),
]
BY_SHAPE = [
    case_of(1, LONG, LONG_BATCH),
    *(case_of(stage, LONG, LONG_BATCH, train={"micro_batch_lanes": 8}) for stage in (1, 2)),
    case_of(1, LONG, LONG_BATCH, model={"cell": "lstm"}),
    case_of(1, LONG, LONG_BATCH, model={"cell": "lstm", "output": "hc"}),
    case_of(1, LONG, LONG_BATCH, model={"cell": "elman", "mlp_ratio": 1.0}),
    case_of(1, LONG, LONG_BATCH, model={"n_heads": 4, "tie_embeddings": False}),
    case_of(1, LONG, LONG_BATCH, feedback={"kind": "exact"}),
    case_of(3, WIDE, WIDE_BATCH),
]


@pytest.mark.parametrize(
    ("workers", "cases"),
    [pytest.param(1, BY_SHAPE, id="by shape", marks=pytest.mark.long), pytest.param(2, BY_STAGE, id="by stage")],
)
def test_what_comes_and_goes_within_a_step_is_as_planned(workers: int, cases: list[dict[str, Any]]) -> None:
    (first, *_) = run_ranks(workers, SCRIPT, *map(json.dumps, cases))
    peaks = json.loads(first.strip().splitlines()[-1])["peaks"]
    for case, peak in zip(cases, peaks, strict=True):
        moments = moments_of(work_of(case), Split(workers, case["stage"], on_gpu=True)).values()
        planned = max(sum(parts.values()) for parts in moments)
        assert planned == pytest.approx(peak, rel=0.1), case


def test_what_lasts_is_dealt_by_the_stage() -> None:
    """At the fullest moment of a long window, when no optimizer runs."""
    work = work_of(case_of(1, {**LONG, "d_model": 512}, LONG_BATCH))
    numbers = work.parameters
    found = {stage: memory_of(work, Split(4, stage)) for stage in (1, 2, 3)}
    assert {each.moment for each in found.values()} <= {"loss", "backward begins"}
    of = {stage: each.parts for stage, each in found.items()}
    assert of[1]["weights"] == of[2]["weights"] == 4 * numbers
    assert of[3]["weights"] < 4 * numbers / 2
    assert {parts["optimizer"] for parts in of.values()} == {12 * -(-numbers // 4)}
    with_copies = memory_of(work, Split(4, 3, partition_ranks=2)).parts["weights"]
    assert with_copies == of[3]["weights"] + 4 * -(-numbers // 2)


def test_what_is_offloaded_lies_with_the_host() -> None:
    work = work_of(case_of(1, WIDE, WIDE_BATCH))
    split = Split(2, 2, offload=True, on_gpu=True)
    assert memory_of(work, split).parts["optimizer"] == 0
    share = -(-work.parameters // 2)
    assert host_bytes(work, split) == (12 + 16) * share  # with the checkpoint's copy
    assert host_bytes(work, Split(2, 2, on_gpu=True)) == 12 * share
    assert memory_of(work, Split(2, 2)).parts["checkpoint"] == 12 * share


def test_a_gpu_holds_the_whole_bucket_and_parts_add_up() -> None:
    """A CPU touches of it what is filled: of several micro-batches, nothing before the last."""
    work = work_of(case_of(1, LONG, LONG_BATCH, train={"micro_batch_lanes": 8}))
    assert bucket_bytes(work) == 4 * work.parameters
    assert bucket_bytes(replace(work, parameters=10**9)) == 4 * 500_000_000
    on_gpu, on_cpu = (moments_of(work, Split(2, 1, on_gpu=each)) for each in (True, False))
    for moment, more in (("loss", bucket_bytes(work)), ("backward begins", bucket_bytes(work)), ("backward ends", 0)):
        assert on_gpu[moment]["gradients"] == on_cpu[moment]["gradients"] + more
    fullest = memory_of(work, Split(2, 1, on_gpu=True), Base(framework_bytes=7))
    assert fullest.total == sum(fullest.parts.values())
    assert set(fullest.parts) == set(PARTS)
    assert fullest.parts["framework"] == 7


@given(workers=st.integers(1, 16), stage=st.sampled_from([1, 2, 3]), micro=st.sampled_from([None, 1, 3, 16]))
def test_more_workers_never_need_more_each(workers: int, stage: int, micro: int | None) -> None:
    batch = {"tokens_per_batch": 64 * 8, "sequence_length": 8, "micro_batch_lanes": micro}
    work = WORKS.setdefault(micro, work_of(case_of(stage, LONG, batch)))
    memory = [memory_of(work, Split(n, stage)).total for n in (workers, workers + 1)]
    gradients_kept = 4 * work.parameters  # fewer lanes at a time can mean one micro-batch more, or less
    assert memory[1] <= memory[0] + (gradients_kept if micro else 0)


WORKS: dict[int | None, Workload] = {}
