"""A pass of feedback back in time as a Triton kernel of any cell: derivatives never go to memory.

The one file of this op that imports triton. T time, B batch, R rows of the weights, D units, N states a unit, S = N·D.

A program owns a sequence and a block of units, and walks back in time with what is carried in registers; loads, which
do not depend on it, are fetched STAGES steps ahead. So what is read and what is written have places of their own, which
go back with time: one step's number for all would be kept for every step that is under way."""

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
    the first. reset: (B, T). reset, inputs and the rests may be None."""
    b = (tl.program_id(0) // n_blocks).to(tl.int64)
    units = (tl.program_id(0) % n_blocks) * BLOCK_D + tl.arange(0, BLOCK_D)
    rows = units // head_size * (GATES * head_size) + units % head_size
    inside = units < d
    weights = load_values(own_weights + units, d, inside, GATES, TYPE)
    decays = load_values(decay + units, d, inside, STATES * STATES, TYPE)
    zero = tl.zeros([BLOCK_D], dtype=TYPE)
    at_carried = carried + b * (STATES * d) + units
    carry = load_values(at_carried, d, inside, STATES, TYPE)
    step = tl.full([], n_batch, tl.int64) * d
    beyond = tl.full([], n_steps, tl.int64) * n_batch + b
    last = beyond - n_batch
    states += beyond * (STATES * d)
    state_after = load_values(states + units, d, inside, STATES, TYPE)
    states -= step * STATES
    saved += last * (SAVED * d)
    if FIRST:
        error += last * (STATES * d)
    else:
        flow += beyond * d
        if rest_before is not None:
            rest_before += beyond * (STATES * d)
        at_summed = delta + last * (STATES * d)
    delta += last * (STATES * d)
    gates += last * (GATES * d)
    if inputs is not None:
        inputs += last * (GATES * d)
    if rest is not None:
        rest += last * (STATES * d)
    starts, flows_in = tl.full([], 0, tl.int1), tl.full([], 1, tl.int1)
    if reset is not None:
        reset += b * n_steps + n_steps - 1
        starts = tl.load(reset, mask=n_steps > 0, other=0) != 0
    added, total = zero, zero
    for back in tl.range(0, n_steps, num_stages=STAGES):
        state_before = load_values(states + units, d, inside, STATES, TYPE)
        before = ()
        for state in tl.static_range(STATES):
            before = before + (tl.where(starts, 0.0, state_before[state]),)
        gates_saved = load_values(saved + units, d, inside, SAVED, TYPE)
        if FIRST:
            source = load_values(error + units, d, inside, STATES, TYPE)
            summed = (zero,) * STATES
        else:
            within = units < d * tl.minimum(back, 1)
            source = (zero,) * STATES
            if rest_before is not None:
                source = load_values(rest_before + units, d, within, STATES, TYPE)
            from_gates = tl.load(flow + units, mask=within, other=0).to(TYPE)
            summed = load_values(at_summed + units, d, inside, STATES, TYPE)
        value, sums = (), ()
        for state in tl.static_range(STATES):
            from_after = source[state]
            if not FIRST:
                if state == 0:
                    from_after += from_gates
                from_after = tl.where(flows_in, from_after, 0.0)
            each = from_after + carry[state]
            value = value + (each,)
            sums = sums + (summed[state] + each,)
            added += each * each
            total += sums[state] * sums[state]
        to_before, by_decay, beside, of_value, of_total, to_inputs = BACK(
            gates_saved, before, state_after, weights, decays, value, sums
        )
        store_values(delta + units, d, sums, inside, STATES)
        store_values(gates + rows, head_size, of_total if LAST else of_value, inside, GATES)
        if inputs is not None:
            store_values(inputs + rows, head_size, to_inputs, inside, GATES)
        if rest is not None:
            store_values(rest + units, d, beside, inside, STATES)
        onward = ()
        for state in tl.static_range(STATES):
            passes_on = to_before[state] if SELECTIVE else by_decay[state]
            onward = onward + (tl.where(starts, 0.0, zero + passes_on),)
        carry, state_after = onward, state_before
        states -= step * STATES
        saved -= step * SAVED
        if FIRST:
            error -= step * STATES
        else:
            flow -= step
            if rest_before is not None:
                rest_before -= step * STATES
            at_summed -= step * STATES
        delta -= step * STATES
        gates -= step * GATES
        if inputs is not None:
            inputs -= step * GATES
        if rest is not None:
            rest -= step * STATES
        if reset is not None:
            flows_in = starts == 0  # Triton fetches nothing ahead in a loop that hands a value on as it came
            reset -= 1
            starts = tl.load(reset, mask=back + 1 < n_steps, other=0) != 0
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
    reset_BT = None if window.reset_TB is None else window.reset_TB.t().contiguous()
    flow_TBD = None if flow_TBD is None else flow_TBD.contiguous()
    with torch.cuda.device_of(error_TBS):
        feedback_pass_kernel[(n_batch * n_blocks,)](
            window.states_TBS, window.saved_TBQD, own_weights, decay, reset_BT, error_TBS, flow_TBD,
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
