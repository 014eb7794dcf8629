"""The forward over a window as one Triton kernel of any cell, head by head: its weights stay on the chip for all T.

The one file of this op that imports triton. T time, B batch, R rows of the weights, K units a head, S states·units.

A program owns a head and a few sequences: a step is one small product a gate and the cell's own arithmetic on it."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssrnn_kernels.cell import Cell, Shape
from ssrnn_kernels.feedback_scan.shapes import accumulation_dtype
from ssrnn_kernels.fused_recurrence.triton_spread import spread_forward
from ssrnn_kernels.gpu.spread import FORWARD, spread_if_needed
from ssrnn_kernels.gpu.triton import (
    BLOCK_B,
    FORWARD_WARPS,
    TRITON_DTYPES,
    as_type,
    block_of_head,
    device_functions,
    load_as_stored,
    load_values,
    store_values,
)


@triton.jit
def recurrence_kernel(
    x, weights, bias, reset, states, saved, n_steps, n_batch, d, head_size,
    STEP: tl.constexpr, GATES: tl.constexpr, STATES: tl.constexpr, SAVED: tl.constexpr, SAVES: tl.constexpr,
    TYPE: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """states[t + 1] = step(x[t], W_hh h[t] + b, states[t]), from zero where step t starts a document.

    reset may be None."""
    head, batch = tl.program_id(0), tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    units = tl.arange(0, BLOCK_K)
    first_row, inside = head * GATES * head_size, (batch < n_batch)[:, None] & (units < head_size)[None, :]
    at_weights = weights + (first_row + units)[None, :] * head_size + units[:, None]
    square = (units < head_size)[:, None] & (units < head_size)[None, :]
    matrices = load_values(at_weights, head_size * head_size, square, GATES, weights.dtype.element_ty)
    biases = load_values(bias + first_row + units[None, :], head_size, (units < head_size)[None, :], GATES, TYPE)
    at_states = states + batch[:, None] * (STATES * d) + head * head_size + units[None, :]
    state = load_values(at_states, d, inside, STATES, TYPE)
    at_rows = (batch.to(tl.int64) * (GATES * d))[:, None] + first_row + units[None, :]
    x_ahead = load_as_stored(x + at_rows, head_size, inside, GATES)
    starts_ahead = tl.zeros([BLOCK_B], dtype=tl.int1)
    if reset is not None:
        starts_ahead = tl.load(reset + batch, mask=batch < n_batch, other=0) != 0
    for t in tl.range(0, n_steps):
        here = (t * n_batch + batch).to(tl.int64)
        inputs, starts = as_type(x_ahead, GATES, TYPE), starts_ahead
        after, ahead = here + n_batch, batch < n_batch * tl.minimum(n_steps - 1 - t, 1)
        at_rows = (after * (GATES * d))[:, None] + first_row + units[None, :]
        x_ahead = load_as_stored(x + at_rows, head_size, inside & ahead[:, None], GATES)
        if reset is not None:
            starts_ahead = tl.load(reset + after, mask=ahead, other=0) != 0
            carried = ()
            for index in tl.static_range(STATES):
                carried = carried + (tl.where(starts[:, None], 0.0, state[index]),)
            state = carried
        h = state[0].to(weights.dtype.element_ty)
        hidden = ()
        for gate in tl.static_range(GATES):
            product = tl.dot(h, matrices[gate], input_precision="ieee", out_dtype=TYPE)
            hidden = hidden + (product + biases[gate],)
        state, to_save = STEP(inputs, hidden, state)
        store_values(at_states + ((t + 1) * n_batch).to(tl.int64) * (STATES * d), d, state, inside, STATES)
        if SAVES:
            at_saved = saved + (here * (SAVED * d))[:, None] + head * head_size + units[None, :]
            store_values(at_saved, d, to_save, inside, SAVED)


def triton_forward(
    cell: Cell,
    shape: Shape,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_R: Tensor,
    reset_TB: Tensor | None,
    states_TBS: Tensor,
    saved_TBQD: Tensor,
) -> None:
    """Fill states[1:] from states[0], and saved where it has room for all steps (op.py).

    Inputs, states and saved contiguous; backends.py says what fits, on one multiprocessor a head or spread."""
    given = (cell, shape, inputs_TBR, weight_hh_RK, bias_R, reset_TB, states_TBS, saved_TBQD)
    spread = spread_if_needed(inputs_TBR, shape, FORWARD)
    return head_forward(*given) if spread is None else spread_forward(spread, *given)


def head_forward(
    cell: Cell,
    shape: Shape,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_R: Tensor,
    reset_TB: Tensor | None,
    states_TBS: Tensor,
    saved_TBQD: Tensor,
) -> None:
    """The same, a head on one multiprocessor."""
    n_steps, n_batch, _ = inputs_TBR.shape
    functions = device_functions(cell)
    reset_TB = None if reset_TB is None else reset_TB.contiguous()
    with torch.cuda.device_of(inputs_TBR):
        recurrence_kernel[(shape.n_heads, triton.cdiv(n_batch, BLOCK_B))](
            inputs_TBR, weight_hh_RK.contiguous(), bias_R.contiguous(), reset_TB, states_TBS, saved_TBQD,
            n_steps, n_batch, shape.n_units, shape.head_size,
            STEP=functions.step, GATES=shape.n_gates, STATES=shape.n_states, SAVED=cell.N_SAVED,
            SAVES=len(saved_TBQD) == n_steps, TYPE=TRITON_DTYPES[accumulation_dtype(inputs_TBR)],
            BLOCK_B=BLOCK_B, BLOCK_K=block_of_head(shape.head_size), num_warps=FORWARD_WARPS,
        )  # fmt: skip
