"""The forward over a window as one Triton kernel of any cell whose weights need many multiprocessors, for all T.

Imports triton. T time, B batch, R rows of the weights, K units a head, S states·units.

A program owns some units of a head, whose weights stay on its multiprocessor, for a few sequences. After each step the
programs of a head meet (gpu/spread.py), and every one reads the whole state of the head from the second-level cache."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssrnn_kernels.cell import Cell, Shape
from ssrnn_kernels.gpu.spread import Spread, arrive, launches, load_tiles, wait
from ssrnn_kernels.gpu.triton import as_type, device_functions, load_as_stored, load_values, store_values


@triton.jit
def spread_recurrence_kernel(
    x, weights, bias, reset, states, saved, arrived, first_step, end_step, n_batch, d, head_size, n_blocks,
    STEP: tl.constexpr, SUM: tl.constexpr, GATES: tl.constexpr, STATES: tl.constexpr, SAVED: tl.constexpr,
    SAVES: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_U: tl.constexpr, PARTS: tl.constexpr, BLOCK_K: tl.constexpr,
    CHUNKS: tl.constexpr, APART: tl.constexpr,
):  # fmt: skip
    """states[t + 1] = step(x[t], W_hh h[t] + b, states[t]), from zero where step t starts a document.

    arrived: a counter a group, zero.  reset may be None."""
    TYPE: tl.constexpr = tl.float32
    TERMS: tl.constexpr = PARTS * BLOCK_K
    arrived += (tl.program_id(1) * tl.num_programs(2) + tl.program_id(2)) * APART
    units = tl.program_id(0) * BLOCK_U + tl.arange(0, BLOCK_U)
    batch = tl.program_id(2) * BLOCK_B + tl.arange(0, BLOCK_B)
    first_row, first_unit = tl.program_id(1) * GATES * head_size, tl.program_id(1) * head_size
    known, inside = units < head_size, (batch < n_batch)[:, None] & (units < head_size)[None, :]
    parts = tl.arange(0, PARTS)[:, None, None] * BLOCK_K
    down, across = parts + tl.arange(0, BLOCK_K)[None, :, None], parts + tl.arange(0, BLOCK_K)[None, None, :]
    at_weights = weights + (first_row + units)[None, None, :] * head_size + down
    matrices = load_tiles(
        at_weights, head_size * head_size, TERMS, down, head_size, known[None, None, :], GATES, CHUNKS, TERMS, False
    )
    biases = load_values(bias + first_row + units[None, :], head_size, known[None, :], GATES, TYPE)
    at_states = states + batch[:, None] * (STATES * d) + first_unit + units[None, :]
    at_h = states + batch[None, :, None] * (STATES * d) + first_unit + across
    first = first_step.to(tl.int64) * n_batch + batch
    state = load_values(at_states + (first - batch)[:, None] * (STATES * d), d, inside, STATES, TYPE)
    at_rows = (first * (GATES * d))[:, None] + first_row + units[None, :]
    x_ahead = load_as_stored(x + at_rows, head_size, inside, GATES)
    starts_ahead = tl.zeros([BLOCK_B], dtype=tl.int1)
    if reset is not None:
        starts_ahead = tl.load(reset + first, mask=batch < n_batch, other=0) != 0
    for step in tl.range(0, end_step - first_step):
        t = first_step + step
        here = t.to(tl.int64) * n_batch + batch
        inputs, goes_on = as_type(x_ahead, GATES, TYPE), (batch < n_batch) & ~starts_ahead
        after, ahead = here + n_batch, batch < n_batch * tl.minimum(end_step - 1 - t, 1)
        at_rows = (after * (GATES * d))[:, None] + first_row + units[None, :]
        x_ahead = load_as_stored(x + at_rows, head_size, inside & ahead[:, None], GATES)
        if reset is not None:
            starts_ahead = tl.load(reset + after, mask=ahead, other=0) != 0
        all_states = t.to(tl.int64) * n_batch * (STATES * d)
        wait(arrived, n_blocks * step)
        h = load_tiles(at_h + all_states, 0, TERMS, across, head_size, goes_on[None, :, None], 1, CHUNKS, TERMS, True)
        carried, sums = (), ()
        for index in tl.static_range(STATES):
            carried = carried + (tl.where(goes_on[:, None], state[index], 0.0),)
        for gate in tl.static_range(GATES):
            total = tl.zeros([PARTS, BLOCK_B, BLOCK_U], dtype=TYPE)
            for chunk in tl.static_range(CHUNKS):
                total = tl.dot(h[chunk], matrices[gate * CHUNKS + chunk], total)
            sums = sums + (total,)
        added = SUM(sums)
        hidden = ()
        for gate in tl.static_range(GATES):
            hidden = hidden + (added[gate] + biases[gate],)
        new_state, to_save = STEP(inputs, hidden, carried)
        store_values(at_states + all_states + n_batch * (STATES * d), d, new_state, inside, STATES)
        arrive(arrived)
        if SAVES:
            at_saved = saved + (here * (SAVED * d))[:, None] + first_unit + units[None, :]
            store_values(at_saved, d, to_save, inside, SAVED)
        state = ()
        for index in tl.static_range(STATES):  # rounded, as the others read it
            state = state + (new_state[index].to(states.dtype.element_ty).to(TYPE),)


def spread_forward(
    spread: Spread,
    cell: Cell,
    shape: Shape,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_R: Tensor,
    reset_TB: Tensor | None,
    states_TBS: Tensor,
    saved_TBQD: Tensor,
) -> None:
    """Fill states[1:] from states[0], and saved where it has room for all steps (op.py)."""
    n_steps, n_batch, _ = inputs_TBR.shape
    functions = device_functions(cell)
    reset_TB = None if reset_TB is None else reset_TB.contiguous()
    with torch.cuda.device_of(inputs_TBR):
        for first_step, end_step in launches(n_steps):
            spread_recurrence_kernel[spread.grid](
                inputs_TBR, weight_hh_RK.contiguous(), bias_R.contiguous(), reset_TB, states_TBS, saved_TBQD,
                spread.counters(inputs_TBR.device), first_step, end_step, n_batch, shape.n_units, shape.head_size,
                spread.n_blocks, STEP=functions.step, SUM=functions.sum, GATES=shape.n_gates, STATES=shape.n_states,
                SAVED=cell.N_SAVED, SAVES=len(saved_TBQD) == n_steps, **spread.constants(shape),
            )  # fmt: skip
