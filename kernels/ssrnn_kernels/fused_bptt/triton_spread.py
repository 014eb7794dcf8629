"""BPTT as one Triton kernel of any cell whose weights need many multiprocessors, for all T.

Imports triton. T time, B batch, R rows of the weights, K units a head, S states·units.

A program owns some units of a head, with the weights that lead to them, for a few sequences. After each step the
programs of a head meet (gpu/spread.py), and every one reads all of its gates' gradients from the second-level cache."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssrnn_kernels.gpu.spread import Spread, arrive, launches, load_tiles, wait
from ssrnn_kernels.gpu.triton import as_type, device_functions, load_as_stored, load_values, store_values
from ssrnn_kernels.window import Solved, Window


@triton.jit
def spread_bptt_kernel(
    states, saved, weights, reset, error, delta, gates, inputs, beside, arrived, first_back, end_back,
    n_steps, n_batch, d, head_size, n_blocks,
    BACK: tl.constexpr, GATES: tl.constexpr, STATES: tl.constexpr, SAVED: tl.constexpr, BLOCK_B: tl.constexpr,
    BLOCK_U: tl.constexpr, PARTS: tl.constexpr, BLOCK_K: tl.constexpr, CHUNKS: tl.constexpr, APART: tl.constexpr,
    AT_ONCE: tl.constexpr,
):  # fmt: skip
    """δ_t = e_t + J_{t+1}ᵀ δ_{t+1} for the steps first_back to end_back from the last.

    BACK gets no own weights: what it carries is what passes beside W_hh, which `beside` (B, S) keeps from launch to
    launch, zero at first.  arrived: a counter a group, zero.  reset and inputs may be None."""
    TYPE: tl.constexpr = tl.float32
    TERMS: tl.constexpr = PARTS * BLOCK_K
    arrived += (tl.program_id(1) * tl.num_programs(2) + tl.program_id(2)) * APART
    units = tl.program_id(0) * BLOCK_U + tl.arange(0, BLOCK_U)
    batch = tl.program_id(2) * BLOCK_B + tl.arange(0, BLOCK_B)
    first_row, first_unit = tl.program_id(1) * GATES * head_size, tl.program_id(1) * head_size
    known, inside = units < head_size, (batch < n_batch)[:, None] & (units < head_size)[None, :]
    parts = tl.arange(0, PARTS)[:, None, None] * BLOCK_K
    down, across = parts + tl.arange(0, BLOCK_K)[None, :, None], parts + tl.arange(0, BLOCK_K)[None, None, :]
    at_weights = weights + (first_row + down) * head_size + units[None, None, :]
    matrices = load_tiles(
        at_weights, head_size * head_size, TERMS * head_size, down, head_size, known[None, None, :], GATES, CHUNKS,
        TERMS, False,
    )  # fmt: skip
    zero = tl.zeros([BLOCK_B, BLOCK_U], dtype=TYPE)
    at_beside = beside + batch[:, None] * (STATES * d) + first_unit + units[None, :]
    carry = load_values(at_beside, d, inside, STATES, TYPE)
    last = ((n_steps - 1 - first_back).to(tl.int64) * n_batch + batch)[:, None]
    at_last = last * (STATES * d) + first_unit + units[None, :]
    state_after = load_values(states + n_batch * (STATES * d) + at_last, d, inside, STATES, TYPE)
    before_ahead = load_as_stored(states + at_last, d, inside, STATES)
    saved_ahead = load_as_stored(saved + last * (SAVED * d) + first_unit + units[None, :], d, inside, SAVED)
    error_ahead = load_as_stored(error + at_last, d, inside, STATES)
    starts_ahead, goes_on = tl.zeros([BLOCK_B], dtype=tl.int1), batch < n_batch * tl.minimum(first_back, 1)
    if reset is not None:
        goes_on = goes_on & (tl.load(reset + (n_steps - first_back) * n_batch + batch, mask=goes_on, other=0) == 0)
        starts_ahead = tl.load(reset + (n_steps - 1 - first_back) * n_batch + batch, mask=batch < n_batch, other=0) != 0
    for step in tl.range(0, end_back - first_back):
        t = n_steps - 1 - (first_back + step)
        here = (t.to(tl.int64) * n_batch + batch)[:, None]
        at_states = here * (STATES * d) + first_unit + units[None, :]
        at_rows = here * (GATES * d) + first_row + units[None, :]
        state_before, gates_saved = as_type(before_ahead, STATES, TYPE), as_type(saved_ahead, SAVED, TYPE)
        source, starts = as_type(error_ahead, STATES, TYPE), starts_ahead
        there, ahead = here - n_batch, batch < n_batch * tl.minimum(end_back - first_back - 1 - step, 1)
        at_there = there * (STATES * d) + first_unit + units[None, :]
        before_ahead = load_as_stored(states + at_there, d, inside & ahead[:, None], STATES)
        saved_ahead = load_as_stored(
            saved + there * (SAVED * d) + first_unit + units[None, :], d, inside & ahead[:, None], SAVED
        )
        error_ahead = load_as_stored(error + at_there, d, inside & ahead[:, None], STATES)
        if reset is not None:
            at_reset = (t - 1).to(tl.int64) * n_batch + batch
            starts_ahead = tl.load(reset + at_reset, mask=ahead, other=0) != 0
        after = ((t + 1).to(tl.int64) * n_batch + batch)[None, :, None]
        at_gates = gates + after * (GATES * d) + first_row + across
        wait(arrived, n_blocks * step)
        total = tl.zeros([PARTS, BLOCK_B, BLOCK_U], dtype=TYPE)
        for first in tl.static_range(0, GATES, AT_ONCE):
            at_first = at_gates + first * head_size
            flows = load_tiles(
                at_first, head_size, TERMS, across, head_size, goes_on[None, :, None], AT_ONCE, CHUNKS, TERMS, True
            )
            for tile in tl.static_range(AT_ONCE * CHUNKS):
                total = tl.dot(flows[tile], matrices[first * CHUNKS + tile], total)
        flow = tl.sum(total, axis=0)
        before, value = (), ()
        for state in tl.static_range(STATES):
            before = before + (tl.where(starts[:, None], 0.0, state_before[state]),)
            each = source[state] + carry[state]
            value = value + ((each + flow) if state == 0 else each,)
        passes, _, _, _, to_gates, to_inputs = BACK(
            gates_saved, before, state_after, (zero,) * GATES, (zero,) * (STATES * STATES), value, value
        )
        store_values(gates + at_rows, head_size, to_gates, inside, GATES)
        arrive(arrived)
        store_values(delta + at_states, d, value, inside, STATES)
        if inputs is not None:
            store_values(inputs + at_rows, head_size, to_inputs, inside, GATES)
        onward = ()
        for state in tl.static_range(STATES):
            onward = onward + (tl.where(starts[:, None], 0.0, zero + passes[state]),)
        carry, state_after, goes_on = onward, state_before, (batch < n_batch) & ~starts
    store_values(at_beside, d, carry, inside, STATES)


def spread_bptt(spread: Spread, window: Window, error_TBS: Tensor) -> Solved:
    """As bptt_reference defines it."""
    shape, error_TBS = window.shape, error_TBS.contiguous()
    functions = device_functions(window.cell)
    n_steps, n_batch, _ = error_TBS.shape
    delta, gates = torch.empty_like(error_TBS), error_TBS.new_empty(n_steps, n_batch, shape.n_rows)
    inputs = torch.empty_like(gates) if functions.inputs_differ else None
    reset_TB = None if window.reset_TB is None else window.reset_TB.contiguous()
    beside = error_TBS.new_zeros(error_TBS.shape[1:], dtype=torch.float32)
    with torch.cuda.device_of(error_TBS):
        for first_back, end_back in launches(n_steps):
            spread_bptt_kernel[spread.grid](
                window.states_TBS, window.saved_TBQD, window.weight_hh_RK.contiguous(), reset_TB, error_TBS, delta,
                gates, inputs, beside, spread.counters(error_TBS.device), first_back, end_back,
                n_steps, n_batch, shape.n_units, shape.head_size, spread.n_blocks,
                BACK=functions.back, GATES=shape.n_gates, STATES=shape.n_states, SAVED=window.cell.N_SAVED,
                AT_ONCE=spread.gates_at_once, **spread.constants(shape),
            )  # fmt: skip
    return Solved(delta, gates, gates if inputs is None else inputs)
