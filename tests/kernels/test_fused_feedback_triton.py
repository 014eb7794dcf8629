"""The cells' Triton kernels without a GPU: run in the interpreter, and compiled ahead of time for each architecture.

A pass of feedback, and the two that keep a head's weights on the chip: the forward and BPTT."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import triton.language as tl
from ahead_of_time import compile_ahead, resource_usage
from interpreted import assert_passed, interpreted_tests
from windows import each_cell

from ssrnn_kernels.cells import CELLS
from ssrnn_kernels.fused_bptt.triton import bptt_kernel
from ssrnn_kernels.fused_feedback.triton import (
    BLOCK_D,
    MOST_REGISTERS,
    NUM_WARPS,
    STAGES,
    feedback_pass_kernel,
)
from ssrnn_kernels.fused_recurrence.triton import recurrence_kernel
from ssrnn_kernels.gpu.triton import BLOCK_B, HEAD_WARPS, INTERPRETED, block_of_head, device_functions

PASSES = {  # selective, first, last
    "selective, alone": (True, True, True),
    "selective, first": (True, True, False),
    "selective, last": (True, False, True),
    "constant, between": (False, False, False),
}
BUILDS = [
    pytest.param(arch, dtype, marks=[] if (arch, dtype) == (90, "fp32") else pytest.mark.long, id=f"sm_{arch}-{dtype}")
    for arch in (80, 90, 100)
    for dtype in ("fp32", "bf16")
]
not_interpreted = pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET=1: nothing is compiled")


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> Iterator["subprocess.Popen[str]"]:
    """Started first and looked at last, so that it runs beside the compilations."""
    with interpreted_tests(Path(__file__).with_name("test_fused_feedback.py")) as process:
        yield process


def build(arch: int, dtype: str, name: str, selective: bool, first: bool, last: bool) -> Any:
    """The kernel as launched on widths that 16 divides, with resets."""
    cell, functions, kernel = CELLS[name], device_functions(CELLS[name]), feedback_pass_kernel
    constants: dict[str, Any] = {
        "BACK": functions.back,
        "GATES": len(cell.GATES), "STATES": cell.N_STATES, "SAVED": cell.N_SAVED,
        "SELECTIVE": selective, "FIRST": first, "LAST": last,
        "TYPE": tl.float32, "BLOCK_D": BLOCK_D, "STAGES": STAGES,
        **({"flow": None} if first else {"error": None}),
        **({"rest_before": None} if first or selective else {}),
        **({"rest": None} if last or selective else {}),
        **({} if last and functions.inputs_differ else {"inputs": None}),
    }  # fmt: skip
    any_number = {"n_steps", "n_batch", "n_blocks"}
    types = dict.fromkeys(kernel.arg_names, f"*{dtype}") | {"squares": "*fp32", "reset": "*i1"}
    types |= dict.fromkeys((*any_number, "d", "head_size"), "i32")
    options = {"num_warps": NUM_WARPS, "maxnreg": MOST_REGISTERS}
    return compile_ahead(kernel, arch, types, constants, any_number, **options)


@not_interpreted
@each_cell
@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize(("arch", "dtype"), BUILDS)
def test_compiles_ahead_of_time_without_spills(arch: int, dtype: str, which: str, name: str, tmp_path: Path) -> None:
    compiled = build(arch, dtype, name, *PASSES[which])
    assert f".target sm_{arch}" in compiled.asm["ptx"]
    usage = resource_usage(compiled, tmp_path)
    assert usage["STACK"] == usage["LOCAL"] == 0
    assert 0 < usage["REG"] <= MOST_REGISTERS
    assert "cp.async" in compiled.asm["ptx"], "the loads are not fetched ahead"


SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # that a program may take
HEADS = [("bf16", 16), ("bf16", 64), ("bf16", 128), ("fp32", 32)]
HEAD_BUILDS = [
    pytest.param(arch, *each, marks=[] if (arch, each) == (90, ("bf16", 128)) else pytest.mark.long)
    for arch in (80, 90, 100)
    for each in HEADS
    if (arch, each[1]) != (80, 128)  # an LSTM's weights do not fit there
]


@not_interpreted
@each_cell
@pytest.mark.parametrize("kernel", [recurrence_kernel, bptt_kernel], ids=["forward", "bptt"])
@pytest.mark.parametrize(("arch", "dtype", "head_size"), HEAD_BUILDS)
def test_heads_compile_ahead_of_time_without_spills(
    arch: int, dtype: str, head_size: int, kernel: Any, name: str, tmp_path: Path
) -> None:
    cell, functions = CELLS[name], device_functions(CELLS[name])
    constants = {
        "GATES": len(cell.GATES), "STATES": cell.N_STATES, "SAVED": cell.N_SAVED,
        "TYPE": tl.float32, "BLOCK_B": BLOCK_B, "BLOCK_K": block_of_head(head_size),
    }  # fmt: skip
    if kernel is bptt_kernel:
        constants |= {"BACK": functions.back, **({} if functions.inputs_differ else {"inputs": None})}
    else:
        constants |= {"STEP": functions.step, "SAVES": True}
    any_number = {"n_steps", "n_batch"}
    types = dict.fromkeys(kernel.arg_names, f"*{dtype}") | {"reset": "*i1"}
    types |= dict.fromkeys((*any_number, "d", "head_size"), "i32")
    compiled = compile_ahead(kernel, arch, types, constants, any_number, num_warps=HEAD_WARPS)
    usage = resource_usage(compiled, tmp_path)
    assert usage["STACK"] == usage["LOCAL"] == 0
    assert compiled.metadata.shared <= SHARED_BYTES[arch]
    assert ("mma" in compiled.asm["ptx"]) == (dtype == "bf16"), "products of bf16 are the matrix units' work"


def test_the_interpreter_agrees_with_torch(interpreter: "subprocess.Popen[str]") -> None:
    assert_passed(interpreter)


@not_interpreted
@pytest.mark.long
def test_the_interpreter_agrees_with_torch_in_the_long_tests() -> None:
    with interpreted_tests(Path(__file__).with_name("test_fused_feedback.py"), "-m", "long") as process:
        assert_passed(process, seconds=1000)
