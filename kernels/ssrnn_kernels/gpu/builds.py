"""Every way in which the ops launch their Triton kernels, to be compiled ahead of time; `python -m` writes the table.

    python -m ssrnn_kernels.gpu.builds > kernels/RESOURCES.md

Imports the ops' Triton kernels."""

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from ssrnn_kernels.backends import MOST_HEAD_SIZE_BEFORE_SM90, MOST_HEAD_SIZE_OF_AMD
from ssrnn_kernels.cell import Shape
from ssrnn_kernels.cells import CELLS
from ssrnn_kernels.feedback_scan.triton import BLOCK_D as SCAN_BLOCK_D
from ssrnn_kernels.feedback_scan.triton import CHUNK_STAGES, feedback_scan_kernel
from ssrnn_kernels.feedback_scan.triton import NUM_WARPS as SCAN_WARPS
from ssrnn_kernels.feedback_scan.triton import STAGES as SCAN_STAGES
from ssrnn_kernels.fused_bptt.triton import bptt_kernel
from ssrnn_kernels.fused_bptt.triton_spread import spread_bptt_kernel
from ssrnn_kernels.fused_feedback.triton import BLOCK_D, MOST_REGISTERS, NUM_WARPS, STAGES, feedback_pass_kernel
from ssrnn_kernels.fused_recurrence.triton import recurrence_kernel
from ssrnn_kernels.fused_recurrence.triton_spread import spread_recurrence_kernel
from ssrnn_kernels.gpu.ahead_of_time import SHARED_BYTES, TARGETS, Build, Usage, usage_of
from ssrnn_kernels.gpu.spread import BACKWARD, FORWARD, Chip, spread_over
from ssrnn_kernels.gpu.triton import BLOCK_B, FORWARD_WARPS, backward_warps, block_of_head, device_functions

SCAN_DTYPES = [  # of errors and decays
    ("fp32", "fp32"), ("bf16", "fp32"), ("bf16", "bf16"), ("fp16", "fp32"), ("fp16", "fp16"), ("fp64", "fp64"),
]  # fmt: skip
PASSES = {  # selective, first, last
    "selective, alone": (True, True, True),
    "selective, first": (True, True, False),
    "selective, last": (True, False, True),
    "constant, between": (False, False, False),
}
PASS_DTYPES = ("fp32", "bf16")
SPREADS = [(256, 16), (768, 16), (1024, 16), (768, 64)]  # units a head, sequences
CHIPS = {  # A100, H100, B200
    "sm_80": Chip(108, SHARED_BYTES["sm_80"]),
    "sm_90": Chip(132, SHARED_BYTES["sm_90"]),
    "sm_100": Chip(148, SHARED_BYTES["sm_100"]),
}
HEADS = [("bf16", 16), ("bf16", 32), ("bf16", 64), ("bf16", 128), ("fp32", 32)]


def scan_build(
    dtypes: tuple[str, str], coupled: bool, varies: bool, sums_up: bool = False, *, options: bool = True
) -> Build:
    """On dense units.  sums_up: as first launched on chunks.  options: with resets, and with delta_next or not."""
    error, decay = dtypes
    summed = "fp64" if error == "fp64" else "fp32"
    constants: dict[str, Any] = {
        "COUPLED": coupled, "VARIES": varies, "TYPE": getattr(tl, summed.replace("fp", "float")),
        "BLOCK_D": SCAN_BLOCK_D, "STAGES": CHUNK_STAGES if sums_up else SCAN_STAGES,
        **dict.fromkeys(("error_d", "decay_d", "next_d", "delta_d"), 1),
        **({} if options else {"reset": None}),
        **({} if options and not sums_up else {"delta_next": None}),
        **({} if sums_up else {"through": None}),
    }  # fmt: skip
    types = dict.fromkeys(feedback_scan_kernel.arg_names, "i64")
    any_number = {"n_steps", "chunk_steps", "n_chunks", "n_blocks"}
    types |= dict.fromkeys((*any_number, "d"), "i32")
    types |= {"error": f"*{error}", "decay": f"*{decay}", "reset": "*i1", "delta_next": f"*{error}"}
    types |= {"delta": f"*{summed if sums_up else error}", "through": f"*{summed}"}
    what = ", ".join(
        (
            "two states" if coupled else "one state",
            "varying" if varies else "constant",
            *(["chunks' sums"] if sums_up else []),
        )
    )
    any_number |= {"reset_b", "reset_t"}
    settings = {"num_warps": SCAN_WARPS}
    return Build(
        "feedback_scan", what, f"{error}, {decay}", feedback_scan_kernel, types, constants, any_number, settings
    )


def pass_build(cell_name: str, which: str, dtype: str) -> Build:
    """With resets."""
    cell, functions, (selective, first, last) = CELLS[cell_name], device_functions(CELLS[cell_name]), PASSES[which]
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
    types = dict.fromkeys(feedback_pass_kernel.arg_names, f"*{dtype}") | {
        "squares": "*fp32",
        "carried": "*fp32",
        "reset": "*i1",
    }
    types |= dict.fromkeys((*any_number, "d", "head_size"), "i32")
    settings = {"num_warps": NUM_WARPS, "maxnreg": MOST_REGISTERS}
    return Build(
        "fused_feedback", f"{cell_name}, {which}", dtype, feedback_pass_kernel, types, constants, any_number, settings
    )


def head_build(op: str, cell_name: str, dtype: str, head_size: int) -> Build:
    """fused_recurrence or fused_bptt, with resets."""
    cell, functions = CELLS[cell_name], device_functions(CELLS[cell_name])
    constants = {
        "GATES": len(cell.GATES), "STATES": cell.N_STATES, "SAVED": cell.N_SAVED,
        "TYPE": tl.float32, "BLOCK_B": BLOCK_B, "BLOCK_K": block_of_head(head_size),
    }  # fmt: skip
    if op == "fused_bptt":
        kernel = bptt_kernel
        constants |= {"BACK": functions.back, **({} if functions.inputs_differ else {"inputs": None})}
        warps = backward_warps(block_of_head(head_size), 2 if dtype == "bf16" else 4)
    else:
        kernel, warps = recurrence_kernel, FORWARD_WARPS
        constants |= {"STEP": functions.step, "SAVES": True}
    any_number = {"n_steps", "n_batch"}
    types = dict.fromkeys(kernel.arg_names, f"*{dtype}") | {"reset": "*i1"}
    types |= dict.fromkeys((*any_number, "d", "head_size"), "i32")
    what = f"{cell_name}, heads of {head_size}"
    return Build(op, what, dtype, kernel, types, constants, any_number, {"num_warps": warps}, head_size)


def spread_build(op: str, cell_name: str, head_size: int, n_batch: int) -> Build:
    """The same, in bf16, of a head spread over an H100's multiprocessors, and of GPUs that spread it alike."""
    cell, functions = CELLS[cell_name], device_functions(CELLS[cell_name])
    shape, tiles = Shape(len(cell.GATES), cell.N_STATES, 1, head_size), BACKWARD if op == "fused_bptt" else FORWARD
    placed = {arch: spread_over(chip, shape, n_batch, tiles) for arch, chip in CHIPS.items()}
    spread = placed["sm_90"]
    assert spread is not None, f"{cell_name}: {head_size} units do not spread"
    constants = spread.constants(shape)
    options = {name: constants.pop(name) for name in list(constants) if name.islower()}
    constants |= {"GATES": shape.n_gates, "STATES": shape.n_states, "SAVED": cell.N_SAVED}
    if op == "fused_bptt":
        kernel = spread_bptt_kernel
        constants |= {"BACK": functions.back, "AT_ONCE": spread.gates_at_once}
        constants |= {} if functions.inputs_differ else {"inputs": None}
    else:
        kernel = spread_recurrence_kernel
        constants |= {"STEP": functions.step, "SUM": functions.sum, "SAVES": True}
    any_number = {name for name in kernel.arg_names if name.startswith(("n_", "first_", "end_"))}
    types = dict.fromkeys(kernel.arg_names, "*bf16") | {"reset": "*i1", "arrived": "*i32"}
    types |= {"beside": "*fp32"} if op == "fused_bptt" else {}
    types |= dict.fromkeys((*any_number, "d", "head_size"), "i32")
    what, archs = f"{cell_name}, {head_size} units spread, batch {n_batch}", [a for a in placed if placed[a] == spread]
    return Build(op, what, "bf16", kernel, types, constants, any_number, options, archs=archs)


def all_builds() -> Iterator[Build]:
    """Every op, variant, cell and type."""
    yes_no = (False, True)
    yield from (
        scan_build(dtypes, coupled, varies, sums_up)
        for sums_up in yes_no
        for coupled in yes_no
        for varies in yes_no
        for dtypes in SCAN_DTYPES
    )
    yield from (pass_build(cell, which, dtype) for cell in CELLS for which in PASSES for dtype in PASS_DTYPES)
    for op in ("fused_recurrence", "fused_bptt"):
        yield from (head_build(op, cell, *head) for cell in CELLS for head in HEADS)
        yield from (spread_build(op, cell, *sizes) for cell in CELLS for sizes in SPREADS)


def serves(build: Build, arch: str) -> bool:
    """Does the choice of a backend give this build to such a GPU? (backends.py)"""
    most = {"sm_80": MOST_HEAD_SIZE_BEFORE_SM90, "gfx942": MOST_HEAD_SIZE_OF_AMD}.get(arch)
    return arch in build.archs and (build.head_size is None or most is None or build.head_size <= most)


def table() -> Iterator[str]:
    """Markdown, line by line: registers a thread and, where there is any, shared memory."""
    yield "# What the Triton kernels take of a GPU\n"
    yield f"Compiled ahead of time by Triton {triton.__version__}, without a GPU: `python -m ssrnn_kernels.gpu.builds`."
    yield "Registers a thread; kB of shared memory a program. `–`: not given to such a GPU, or it spreads otherwise.\n"
    yield f"| op | variant | type | {' | '.join(TARGETS)} |"
    yield "|---|---|---|" + "---|" * len(TARGETS)
    for build in all_builds():
        cells = (cell(usage_of(build.compiled(arch))) if serves(build, arch) else "–" for arch in TARGETS)
        yield f"| {build.op} | {build.what} | {build.dtype} | {' | '.join(cells)} |"


def cell(usage: Usage) -> str:
    """Of the table."""
    shared = f"; {usage.shared_bytes / 1024:.1f} kB" if usage.shared_bytes else ""
    return f"{usage.registers}{shared}" + (f" (spills {usage.spilled_bytes} B)" if usage.spilled_bytes else "")


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
