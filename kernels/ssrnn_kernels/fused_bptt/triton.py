"""BPTT as one Triton kernel of any cell, head by head: its weights stay on the chip for all T.

The one file of this op that imports triton. T time, B batch, R rows of the weights, K units a head, S states·units.

A program owns a head and a few sequences: a step is the cell's own arithmetic and one small product a gate."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssrnn_kernels.feedback_scan.shapes import accumulation_dtype
from ssrnn_kernels.fused_bptt.triton_spread import spread_bptt
from ssrnn_kernels.gpu.spread import BACKWARD, spread_if_needed
from ssrnn_kernels.gpu.triton import (
    BLOCK_B,
    TRITON_DTYPES,
    as_type,
    backward_warps,
    block_of_head,
    device_functions,
    load_as_stored,
    load_values,
    store_values,
)
from ssrnn_kernels.window import Solved, Window


@triton.jit
def bptt_kernel(
    states, saved, weights, reset, error, delta, gates, inputs, n_steps, n_batch, d, head_size,
    BACK: tl.constexpr, GATES: tl.constexpr, STATES: tl.constexpr, SAVED: tl.constexpr, TYPE: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """δ_t = e_t + J_{t+1}ᵀ δ_{t+1}. BACK gets no own weights: what it carries is what passes beside W_hh.

    reset and inputs may be None."""
    head, batch = tl.program_id(0), tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    units = tl.arange(0, BLOCK_K)
    first_row, first_unit = head * GATES * head_size, head * head_size
    inside = (batch < n_batch)[:, None] & (units < head_size)[None, :]
    square = (units < head_size)[:, None] & (units < head_size)[None, :]
    at_weights = weights + (first_row + units)[:, None] * head_size + units[None, :]
    matrices = load_values(at_weights, head_size * head_size, square, GATES, weights.dtype.element_ty)
    zero = tl.zeros([BLOCK_B, BLOCK_K], dtype=TYPE)
    carry = (zero,) * STATES
    at_end = (n_steps * n_batch + batch).to(tl.int64)[:, None] * (STATES * d) + first_unit + units[None, :]
    state_after = load_values(states + at_end, d, inside, STATES, TYPE)
    at_last = ((n_steps - 1) * n_batch + batch).to(tl.int64)[:, None]
    before_ahead = load_as_stored(states + at_last * (STATES * d) + first_unit + units[None, :], d, inside, STATES)
    saved_ahead = load_as_stored(saved + at_last * (SAVED * d) + first_unit + units[None, :], d, inside, SAVED)
    error_ahead = load_as_stored(error + at_last * (STATES * d) + first_unit + units[None, :], d, inside, STATES)
    starts_ahead = tl.zeros([BLOCK_B, 1], dtype=tl.int1)
    if reset is not None:
        starts_ahead = tl.load(reset + at_last, mask=(batch < n_batch)[:, None], other=0) != 0
    for back in tl.range(0, n_steps):
        here = ((n_steps - 1 - back) * n_batch + batch).to(tl.int64)[:, None]
        at_states = here * (STATES * d) + first_unit + units[None, :]
        at_rows = here * (GATES * d) + first_row + units[None, :]
        state_before, gates_saved = as_type(before_ahead, STATES, TYPE), as_type(saved_ahead, SAVED, TYPE)
        source, starts = as_type(error_ahead, STATES, TYPE), starts_ahead
        there, ahead = here - n_batch, (batch < n_batch * tl.minimum(n_steps - 1 - back, 1))[:, None]
        at_there = there * (STATES * d) + first_unit + units[None, :]
        before_ahead = load_as_stored(states + at_there, d, inside & ahead, STATES)
        saved_ahead = load_as_stored(
            saved + there * (SAVED * d) + first_unit + units[None, :], d, inside & ahead, SAVED
        )
        error_ahead = load_as_stored(error + at_there, d, inside & ahead, STATES)
        if reset is not None:
            starts_ahead = tl.load(reset + there, mask=ahead, other=0) != 0
        before, value = (), ()
        for state in tl.static_range(STATES):
            before = before + (tl.where(starts, 0.0, state_before[state]),)
            value = value + (source[state] + carry[state],)
        beside, _, _, _, to_gates, to_inputs = BACK(
            gates_saved, before, state_after, (zero,) * GATES, (zero,) * (STATES * STATES), value, value
        )
        store_values(delta + at_states, d, value, inside, STATES)
        store_values(gates + at_rows, head_size, to_gates, inside, GATES)
        if inputs is not None:
            store_values(inputs + at_rows, head_size, to_inputs, inside, GATES)
        flow = zero
        for gate in tl.static_range(GATES):
            each = to_gates[gate].to(weights.dtype.element_ty)
            flow += tl.dot(each, matrices[gate], input_precision="ieee", out_dtype=TYPE)
        onward = ()
        for state in tl.static_range(STATES):
            passes_on = beside[state] + flow if state == 0 else beside[state]
            onward = onward + (tl.where(starts, 0.0, zero + passes_on),)
        carry, state_after = onward, state_before


def triton_bptt(window: Window, error_TBS: Tensor) -> Solved:
    """As bptt_reference defines it; backends.py says what fits, on one multiprocessor a head or spread."""
    spread = spread_if_needed(error_TBS, window.shape, BACKWARD)
    return head_bptt(window, error_TBS) if spread is None else spread_bptt(spread, window, error_TBS)


def head_bptt(window: Window, error_TBS: Tensor) -> Solved:
    """The same, a head on one multiprocessor."""
    shape, error_TBS = window.shape, error_TBS.contiguous()
    functions = device_functions(window.cell)
    n_steps, n_batch, _ = error_TBS.shape
    block_k = block_of_head(shape.head_size)
    delta, gates = torch.empty_like(error_TBS), error_TBS.new_empty(n_steps, n_batch, shape.n_rows)
    inputs = torch.empty_like(gates) if functions.inputs_differ else None
    reset_TB = None if window.reset_TB is None else window.reset_TB.contiguous()
    with torch.cuda.device_of(error_TBS):
        bptt_kernel[(shape.n_heads, triton.cdiv(n_batch, BLOCK_B))](
            window.states_TBS, window.saved_TBQD, window.weight_hh_RK.contiguous(), reset_TB, error_TBS, delta, gates,
            inputs, n_steps, n_batch, shape.n_units, shape.head_size,
            BACK=functions.back, GATES=shape.n_gates, STATES=shape.n_states, SAVED=window.cell.N_SAVED,
            TYPE=TRITON_DTYPES[accumulation_dtype(error_TBS)], BLOCK_B=BLOCK_B, BLOCK_K=block_k,
            num_warps=backward_warps(block_k, error_TBS.element_size()),
        )  # fmt: skip
    return Solved(delta, gates, gates if inputs is None else inputs)
