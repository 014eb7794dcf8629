"""The Triton kernel without a GPU: run in Triton's interpreter, and compiled ahead of time for each architecture."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import triton.language as tl
from ahead_of_time import compile_ahead, resource_usage
from interpreted import assert_passed, interpreted_tests

from ssrnn_kernels import feedback_scan
from ssrnn_kernels.feedback_scan.triton import BLOCK_D, INTERPRETED, NUM_WARPS, STAGES, feedback_scan_kernel

HERE = Path(__file__).resolve().parent
ARCHS = (80, 90, 100)
DTYPES = [("fp32", "fp32"), ("bf16", "fp32"), ("bf16", "bf16"), ("fp16", "fp32"), ("fp16", "fp16"), ("fp64", "fp64")]
SOON = {*((arch, pair) for arch in ARCHS for pair in DTYPES[:2]), *((90, pair) for pair in DTYPES[:4])}
BUILDS = [
    pytest.param(arch, pair, marks=[] if (arch, pair) in SOON else pytest.mark.long, id=f"sm_{arch}-{'-'.join(pair)}")
    for arch in ARCHS
    for pair in DTYPES
]
not_interpreted = pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET=1: nothing is compiled")


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> Iterator["subprocess.Popen[str]"]:
    """Started first and looked at last, so that it runs beside the compilations."""
    with interpreted_tests(HERE / "test_feedback_scan.py") as process:
        yield process


def build(
    arch: int, dtypes: tuple[str, str], coupled: bool, varies: bool, with_options: bool = True, sums_up: bool = False
) -> Any:
    """The kernel as launched on dense units, D a multiple of 16; with_options: with resets and delta_next.

    sums_up: as it is launched first where time is cut into chunks."""
    error_dtype, decay_dtype = dtypes
    constants: dict[str, Any] = {
        "COUPLED": coupled,
        "VARIES": varies,
        "TYPE": tl.float64 if error_dtype == "fp64" else tl.float32,
        "BLOCK_D": BLOCK_D,
        "STAGES": STAGES,
        **dict.fromkeys(("error_d", "decay_d", "next_d", "delta_d"), 1),
        **({} if with_options else {"reset": None}),
        **({} if with_options and not sums_up else {"delta_next": None}),
        **({} if sums_up else {"through": None}),
    }
    types = dict.fromkeys(feedback_scan_kernel.arg_names, "i64")
    any_number = {"n_steps", "chunk_steps", "n_chunks", "n_blocks"}
    types |= dict.fromkeys((*any_number, "d"), "i32")
    summed = "*fp64" if error_dtype == "fp64" else "*fp32"
    types |= {"error": f"*{error_dtype}", "decay": f"*{decay_dtype}", "reset": "*i1", "delta_next": f"*{error_dtype}"}
    types |= {"delta": summed if sums_up else f"*{error_dtype}", "through": summed}
    any_number |= {"reset_b", "reset_t"}
    return compile_ahead(feedback_scan_kernel, arch, types, constants, any_number, num_warps=NUM_WARPS)


@not_interpreted
@pytest.mark.parametrize(("arch", "dtypes"), BUILDS)
@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize("coupled", [False, True])
def test_compiles_ahead_of_time_without_spills(
    arch: int, dtypes: tuple[str, str], coupled: bool, varies: bool, tmp_path: Path
) -> None:
    compiled = build(arch, dtypes, coupled, varies)
    assert f".target sm_{arch}" in compiled.asm["ptx"]
    assert ".local" not in compiled.asm["ptx"]
    assert "cp.async" in compiled.asm["ptx"], "the loads are not fetched ahead"
    usage = resource_usage(compiled, tmp_path)
    assert usage["STACK"] == usage["LOCAL"] == 0
    assert 0 < usage["REG"] <= 64


@not_interpreted
@pytest.mark.parametrize(("arch", "dtypes"), BUILDS[:: len(DTYPES)] + BUILDS[len(DTYPES) + 1 : 2 * len(DTYPES)])
@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize("coupled", [False, True])
def test_the_chunks_sums_compile_without_spills(
    arch: int, dtypes: tuple[str, str], coupled: bool, varies: bool, tmp_path: Path
) -> None:
    """They run where programs are few: registers are not short."""
    usage = resource_usage(build(arch, dtypes, coupled, varies, sums_up=True), tmp_path)
    assert usage["STACK"] == usage["LOCAL"] == 0
    assert 0 < usage["REG"] <= 128


@not_interpreted
@pytest.mark.parametrize("coupled", [False, True])
def test_compiles_without_resets_and_without_a_future(coupled: bool, tmp_path: Path) -> None:
    compiled = build(90, ("fp32", "fp32"), coupled, varies=True, with_options=False)
    assert resource_usage(compiled, tmp_path)["STACK"] == 0


@not_interpreted
def test_cpu_tensors_outside_the_interpreter_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"backend: 'triton' for tensors on the CPU; allowed there: auto, .* TRITON_INT"
    ):
        feedback_scan(torch.zeros(1, 2, 3), torch.zeros(3), backend="triton")


def test_the_interpreter_agrees_with_the_reference(interpreter: "subprocess.Popen[str]") -> None:
    assert_passed(interpreter)
