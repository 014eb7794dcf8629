"""The feedback scan as Triton kernels: one program a sequence and block of units, all of time in one pass.

The one file of this op that imports triton; op.py imports it when it is asked for. B batch, T time, D state, S states.

A program walks back in time with its carry in registers; the loads, which do not depend on the carry, are pipelined
STAGES steps ahead. A constant decay stays in registers: one array is read and one written."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssrnn_kernels.feedback_scan.shapes import ScanInputs, accumulation_dtype
from ssrnn_kernels.gpu.triton import INTERPRETED, TRITON_DTYPES

BLOCK_D = 64
NUM_WARPS = 1
STAGES = 8


@triton.jit
def _read(pointers, inside, TYPE: tl.constexpr):
    return tl.load(pointers, mask=inside, other=0).to(TYPE)


@triton.jit
def _decay_row(row, decay_j, inside, TYPE: tl.constexpr, COUPLED: tl.constexpr):
    """decay[i, 0] and decay[i, 1] of the row that the pointers stand at; the first twice where there is one state."""
    to_first = _read(row, inside, TYPE)
    to_second = _read(row + decay_j, inside, TYPE) if COUPLED else to_first
    return to_first, to_second


@triton.jit
def feedback_scan_kernel(
    error, decay, reset, delta_next, delta,
    n_steps, d, n_blocks,
    error_b, error_t, error_s, error_d,
    decay_b, decay_t, decay_i, decay_j, decay_d,
    reset_b, reset_t,
    next_b, next_s, next_d,
    delta_b, delta_t, delta_s, delta_d,
    COUPLED: tl.constexpr, VARIES: tl.constexpr, TYPE: tl.constexpr, BLOCK_D: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """value_t = e_t + flow_t;  flow_{t-1}[j] = Σ_i decay_t[i, j] value_t[i], or 0 where step t starts a document.

    reset and delta_next may be None; the second state's lines fall away where there is one."""
    b = (tl.program_id(0) // n_blocks).to(tl.int64)
    units = (tl.program_id(0) % n_blocks).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = units < d
    error += b * error_b + units * error_d
    decay += b * decay_b + units * decay_d
    delta += b * delta_b + units * delta_d
    flow_0 = tl.zeros([BLOCK_D], dtype=TYPE)
    flow_1 = tl.zeros([BLOCK_D], dtype=TYPE)
    if delta_next is not None:
        delta_next += b * next_b + units * next_d
        flow_0 = _read(delta_next, inside, TYPE)
        if COUPLED:
            flow_1 = _read(delta_next + next_s, inside, TYPE)
    decay_00, decay_01 = _decay_row(decay, decay_j, inside, TYPE, COUPLED)
    if COUPLED:
        decay_10, decay_11 = _decay_row(decay + decay_i, decay_j, inside, TYPE, COUPLED)
    for back in tl.range(0, n_steps, num_stages=STAGES):
        t = (n_steps - 1 - back).to(tl.int64)
        if VARIES:
            decay_00, decay_01 = _decay_row(decay + t * decay_t, decay_j, inside, TYPE, COUPLED)
        value_0 = _read(error + t * error_t, inside, TYPE) + flow_0
        tl.store(delta + t * delta_t, value_0.to(delta.dtype.element_ty), mask=inside)
        flow_0 = decay_00 * value_0
        if COUPLED:
            if VARIES:
                decay_10, decay_11 = _decay_row(decay + t * decay_t + decay_i, decay_j, inside, TYPE, COUPLED)
            value_1 = _read(error + t * error_t + error_s, inside, TYPE) + flow_1
            tl.store(delta + t * delta_t + delta_s, value_1.to(delta.dtype.element_ty), mask=inside)
            flow_0 += decay_10 * value_1
            flow_1 = decay_01 * value_0 + decay_11 * value_1
        if reset is not None:
            starts = tl.load(reset + b * reset_b + t * reset_t)
            flow_0 = tl.where(starts, 0.0, flow_0)
            flow_1 = tl.where(starts, 0.0, flow_1)


def scan_triton_into(inputs: ScanInputs, delta_BTSD: Tensor) -> None:
    """Fill δ, as scan_reference_into defines it; ValueError for CPU tensors outside Triton's interpreter."""
    if delta_BTSD.device.type == "cpu" and not INTERPRETED:
        raise ValueError(
            "backend: 'triton' for tensors on the CPU; allowed there: auto, reference, torch, "
            "or triton with TRITON_INTERPRET=1 set before the start"
        )
    if delta_BTSD.numel() == 0:
        return
    n_batch, n_steps, n_states, d = delta_BTSD.shape
    n_blocks = triton.cdiv(d, BLOCK_D)
    with torch.cuda.device_of(delta_BTSD):
        feedback_scan_kernel[(n_batch * n_blocks,)](
            inputs.error_BTSD, inputs.decay, inputs.reset_BT, inputs.delta_next_BSD, delta_BTSD,
            n_steps, d, n_blocks,
            *inputs.error_BTSD.stride(),
            *((0, 0, *inputs.decay.stride()) if not inputs.varies else inputs.decay.stride()),
            *((0, 0) if inputs.reset_BT is None else inputs.reset_BT.stride()),
            *((0, 0, 0) if inputs.delta_next_BSD is None else inputs.delta_next_BSD.stride()),
            *delta_BTSD.stride(),
            COUPLED=n_states == 2, VARIES=inputs.varies, TYPE=TRITON_DTYPES[accumulation_dtype(delta_BTSD)],
            BLOCK_D=BLOCK_D, STAGES=STAGES, num_warps=NUM_WARPS,
        )  # fmt: skip
