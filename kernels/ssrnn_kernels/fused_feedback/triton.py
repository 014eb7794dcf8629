"""A pass of feedback back in time as a Triton kernel of any cell: derivatives never go to memory.

The one file of this op that imports triton. T time, B batch, R rows of the weights, D units, N states a unit, S = N·D.

A program owns a sequence and a block of units, and walks back in time with what is carried in registers; loads, which
do not depend on it, are fetched STAGES steps ahead."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssrnn_kernels.feedback_scan.shapes import accumulation_dtype
from ssrnn_kernels.fused_feedback.reference import Pass, room_for_pass
from ssrnn_kernels.gpu.triton import TRITON_DTYPES, device_functions, load_values, store_values
from ssrnn_kernels.window import Window

BLOCK_D = 64
NUM_WARPS = 1  # two units a thread: of 16-bit values cp.async takes no fewer than two
STAGES = 8
MOST_REGISTERS = 128  # a thread: 16 programs then find room on a multiprocessor


@triton.jit
def feedback_pass_kernel(
    states, saved, own_weights, decay, reset, error, flow, rest_before, carried, delta, gates, inputs, rest, squares,
    n_steps, n_batch, d, head_size, n_blocks,
    BACK: tl.constexpr, GATES: tl.constexpr, STATES: tl.constexpr, SAVED: tl.constexpr, SELECTIVE: tl.constexpr,
    FIRST: tl.constexpr, LAST: tl.constexpr, TYPE: tl.constexpr, BLOCK_D: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """value_t = source_t + carry_t;  carry_{t-1} = D_tᵀ value_t, nothing where step t starts a document.

    The source is the error in the first pass, then what the pass before sends on: its flow and, where the decay is
    constant and more passes follow, its rest. carried: (B, S), what flows into the last step, then what flows on from
    the first. reset, inputs and the rests may be None."""
    b = (tl.program_id(0) // n_blocks).to(tl.int64)
    units = (tl.program_id(0) % n_blocks) * BLOCK_D + tl.arange(0, BLOCK_D)
    rows = units // head_size * (GATES * head_size) + units % head_size
    inside = units < d
    weights = load_values(own_weights + units, d, inside, GATES, TYPE)
    decays = load_values(decay + units, d, inside, STATES * STATES, TYPE)
    zero = tl.zeros([BLOCK_D], dtype=TYPE)
    at_carried = carried + b * (STATES * d) + units
    carry = load_values(at_carried, d, inside, STATES, TYPE)
    state_after = load_values(states + (n_steps * n_batch + b) * (STATES * d) + units, d, inside, STATES, TYPE)
    added, total = zero, zero
    starts_after = tl.full([], 1, tl.int32)  # nothing flows from a step that starts a document, or from beyond the last
    for back in tl.range(0, n_steps, num_stages=STAGES):
        here = (n_steps - 1 - back).to(tl.int64) * n_batch + b
        at_states, at_rows = here * (STATES * d) + units, here * (GATES * d) + rows
        after_states = at_states + n_batch * (STATES * d)
        starts = tl.full([], 0, tl.int32)
        if reset is not None:
            starts = tl.load(reset + here).to(tl.int32)
        from_after = units < d * (1 - starts_after)
        state_before = load_values(states + at_states, d, inside, STATES, TYPE)
        before = ()
        for state in tl.static_range(STATES):
            before = before + (tl.where(starts != 0, 0.0, state_before[state]),)
        gates_saved = load_values(saved + here * (SAVED * d) + units, d, inside, SAVED, TYPE)
        if FIRST:
            source = load_values(error + at_states, d, inside, STATES, TYPE)
            summed = (zero,) * STATES
        else:
            source = (zero,) * STATES
            if rest_before is not None:
                source = load_values(rest_before + after_states, d, from_after, STATES, TYPE)
            from_gates = tl.load(flow + (here + n_batch) * d + units, mask=from_after, other=0).to(TYPE)
            summed = load_values(delta + at_states, d, inside, STATES, TYPE)
        value, sums = (), ()
        for state in tl.static_range(STATES):
            each = source[state] + carry[state]
            if not FIRST and state == 0:
                each += from_gates
            value = value + (each,)
            sums = sums + (summed[state] + each,)
            added += each * each
            total += sums[state] * sums[state]
        to_before, by_decay, beside, of_value, of_total, to_inputs = BACK(
            gates_saved, before, state_after, weights, decays, value, sums
        )
        store_values(delta + at_states, d, sums, inside, STATES)
        store_values(gates + at_rows, head_size, of_total if LAST else of_value, inside, GATES)
        if inputs is not None:
            store_values(inputs + at_rows, head_size, to_inputs, inside, GATES)
        if rest is not None:
            store_values(rest + at_states, d, beside, inside, STATES)
        onward = ()
        for state in tl.static_range(STATES):
            passes_on = to_before[state] if SELECTIVE else by_decay[state]
            onward = onward + (tl.where(starts != 0, 0.0, zero + passes_on),)
        carry = onward
        state_after, starts_after = state_before, starts
    store_values(at_carried, d, carry, inside, STATES)
    tl.store(squares + 2 * tl.program_id(0), tl.sum(added))
    tl.store(squares + 2 * tl.program_id(0) + 1, tl.sum(total))


def triton_pass(
    window: Window,
    decay_NND: Tensor | None,
    error_TBS: Tensor,
    flow_TBD: Tensor | None = None,
    before: Pass | None = None,
    carry_BS: Tensor | None = None,
    *,
    last: bool,
) -> Pass:
    """pass_reference in one kernel; the pass before is overwritten."""
    shape, error_TBS = window.shape, error_TBS.contiguous()
    functions = device_functions(window.cell)
    n_steps, n_batch, d_state = error_TBS.shape
    asked = {"inputs": last and functions.inputs_differ, "rest": decay_NND is not None and not last}
    delta, gates, inputs, rest = room_for_pass(window, error_TBS, before, **asked)
    n_blocks = triton.cdiv(shape.n_units, BLOCK_D)
    type_ = accumulation_dtype(error_TBS)
    squares = error_TBS.new_empty(n_batch * n_blocks, 2, dtype=type_)
    carry = error_TBS.new_zeros(n_batch, d_state, dtype=type_)
    if carry_BS is not None:
        carry.copy_(carry_BS)
    own_weights = torch.stack(shape.own_weights(window.weight_hh_RK))
    decay = error_TBS.new_zeros(shape.n_states, d_state) if decay_NND is None else decay_NND.contiguous()
    reset_TB, flow_TBD = (None if each is None else each.contiguous() for each in (window.reset_TB, flow_TBD))
    with torch.cuda.device_of(error_TBS):
        feedback_pass_kernel[(n_batch * n_blocks,)](
            window.states_TBS, window.saved_TBQD, own_weights, decay, reset_TB, error_TBS, flow_TBD,
            None if before is None else before.rest_TBS, carry, delta, gates, inputs, rest, squares,
            n_steps, n_batch, shape.n_units, shape.head_size, n_blocks,
            BACK=functions.back, GATES=shape.n_gates, STATES=shape.n_states, SAVED=window.cell.N_SAVED,
            SELECTIVE=decay_NND is None, FIRST=before is None, LAST=last, TYPE=TRITON_DTYPES[type_],
            BLOCK_D=BLOCK_D, STAGES=STAGES, num_warps=NUM_WARPS, maxnreg=MOST_REGISTERS,
        )  # fmt: skip
    norms = squares.unflatten(0, (n_batch, n_blocks)).sum(dim=1, dtype=torch.float64).sqrt()
    inputs = (gates if inputs is None else inputs) if last else None
    increment, total = norms.unbind(1)
    return Pass(delta, gates, inputs, rest, increment, total, carry)
