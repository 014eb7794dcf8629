"""The feedback scan as a Triton kernel: a program walks a sequence and a block of units back in time, in one pass.

The one file of this op that imports triton; op.py imports it when it is asked for. B batch, T time, D state, S states.

The carry is in registers; the loads, which do not depend on it, are pipelined STAGES steps ahead. So each array has a
place of its own that goes back with time: one step's number for all would be kept for every step that is under way. A
constant decay stays in registers: one array is read and one written. Where sequences and units alone would leave a GPU
idle, time is cut into chunks: what each sends on and passes through, a scan over those, and all chunks at once from
what comes in."""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from ssrnn_kernels.feedback_scan.shapes import ScanInputs, accumulation_dtype
from ssrnn_kernels.gpu.triton import INTERPRETED, TRITON_DTYPES

BLOCK_D = 128
NUM_WARPS = 1
STAGES = 16  # of a whole sequence
CHUNK_STAGES = 8  # where programs are many
ENOUGH_PROGRAMS = 512  # without chunks, each of which reads its errors and decays twice
PROGRAMS_THAT_FILL = 2048  # of one warp: about 16 on each of an H200's 132 multiprocessors
LEAST_CHUNK_STEPS = 64


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
    error, decay, reset, delta_next, delta, through,
    n_steps, chunk_steps, d, n_chunks, n_blocks,
    error_b, error_t, error_s, error_d,
    decay_b, decay_t, decay_i, decay_j, decay_d,
    reset_b, reset_t,
    next_b, next_t, next_s, next_d,
    delta_b, delta_t, delta_s, delta_d,
    COUPLED: tl.constexpr, VARIES: tl.constexpr, TYPE: tl.constexpr, BLOCK_D: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """value_t = e_t + flow_t;  flow_{t-1}[j] = Σ_i decay_t[i, j] value_t[i], or 0 where step t starts a document.

    A program has a chunk of steps, into whose last flows delta_next at the chunk. reset and delta_next may be None, and
    the second state's lines fall away where there is one.
    Given `through` nothing flows in, and it sums up: delta (at the chunk before) gets what flows out, through[k, j]
    what of k flowing in comes out as j."""
    block, chunk = tl.program_id(0) % n_blocks, (tl.program_id(0) // n_blocks) % n_chunks
    b = (tl.program_id(0) // (n_blocks * n_chunks)).to(tl.int64)
    units = block.to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = units < d
    error_units, decay_units, delta_units = units * error_d, units * decay_d, units * delta_d
    first = chunk * chunk_steps
    count = tl.minimum(chunk_steps, n_steps - first)
    last = (first + count - 1).to(tl.int64)
    error += b * error_b + last * error_t
    delta += b * delta_b + (last * delta_t if through is None else (chunk - 1).to(tl.int64) * delta_t)
    flow_0, flow_1 = tl.zeros([BLOCK_D], dtype=TYPE), tl.zeros([BLOCK_D], dtype=TYPE)
    if delta_next is not None:
        delta_next += b * next_b + chunk.to(tl.int64) * next_t + units * next_d
        flow_0 = _read(delta_next, inside, TYPE)
        if COUPLED:
            flow_1 = _read(delta_next + next_s, inside, TYPE)
    if through is not None:
        from_00, from_11 = tl.full([BLOCK_D], 1, dtype=TYPE), tl.full([BLOCK_D], 1, dtype=TYPE)
        from_01, from_10 = tl.zeros([BLOCK_D], dtype=TYPE), tl.zeros([BLOCK_D], dtype=TYPE)
    decay_00, decay_01, decay_10, decay_11 = flow_0, flow_0, flow_0, flow_0
    decay += b * decay_b + (last * decay_t if VARIES else 0)
    if not VARIES:
        decay_00, decay_01 = _decay_row(decay + decay_units, decay_j, inside, TYPE, COUPLED)
        if COUPLED:
            decay_10, decay_11 = _decay_row(decay + decay_i + decay_units, decay_j, inside, TYPE, COUPLED)
    if reset is not None:
        reset += b * reset_b + last * reset_t
        starts_ahead = tl.load(reset)
    for back in tl.range(0, count, num_stages=STAGES):
        if VARIES:
            decay_00, decay_01 = _decay_row(decay + decay_units, decay_j, inside, TYPE, COUPLED)
        value_0 = _read(error + error_units, inside, TYPE) + flow_0
        if through is None:
            tl.store(delta + delta_units, value_0.to(delta.dtype.element_ty), mask=inside)
        flow_0 = decay_00 * value_0
        if COUPLED:
            if VARIES:
                decay_10, decay_11 = _decay_row(decay + decay_i + decay_units, decay_j, inside, TYPE, COUPLED)
            value_1 = _read(error + error_s + error_units, inside, TYPE) + flow_1
            if through is None:
                tl.store(delta + delta_s + delta_units, value_1.to(delta.dtype.element_ty), mask=inside)
            flow_0 += decay_10 * value_1
            flow_1 = decay_01 * value_0 + decay_11 * value_1
        if through is not None:
            if COUPLED:
                from_00, from_01 = decay_00 * from_00 + decay_10 * from_01, decay_01 * from_00 + decay_11 * from_01
                from_10, from_11 = decay_00 * from_10 + decay_10 * from_11, decay_01 * from_10 + decay_11 * from_11
            else:
                from_00 = decay_00 * from_00
        if reset is not None:
            starts = starts_ahead
            reset -= reset_t
            starts_ahead = tl.load(reset, mask=back + 1 < count, other=0)
            flow_0, flow_1 = tl.where(starts, 0.0, flow_0), tl.where(starts, 0.0, flow_1)
            if through is not None:
                from_00, from_01 = tl.where(starts, 0.0, from_00), tl.where(starts, 0.0, from_01)
                from_10, from_11 = tl.where(starts, 0.0, from_10), tl.where(starts, 0.0, from_11)
        error -= error_t
        if VARIES:
            decay -= decay_t
        if through is None:
            delta -= delta_t
    if through is not None:
        before = delta + delta_units
        goes = units < d * tl.minimum(chunk, 1)
        states = 2 if COUPLED else 1
        through += (b * n_chunks + chunk) * (states * states * d) + units
        tl.store(before, flow_0, mask=goes)
        tl.store(through, from_00, mask=inside)
        if COUPLED:
            tl.store(before + delta_s, flow_1, mask=goes)
            tl.store(through + d, from_01, mask=inside)
            tl.store(through + 2 * d, from_10, mask=inside)
            tl.store(through + 3 * d, from_11, mask=inside)


def scan_triton_into(inputs: ScanInputs, delta_BTSD: Tensor) -> None:
    """Fill δ, as scan_reference_into defines it; ValueError for CPU tensors outside Triton's interpreter."""
    if delta_BTSD.device.type == "cpu" and not INTERPRETED:
        raise ValueError(
            "backend: 'triton' for tensors on the CPU; allowed there: auto, reference, torch, "
            "or triton with TRITON_INTERPRET=1 set before the start"
        )
    if delta_BTSD.numel() == 0:
        return
    n_batch, n_steps, _, d = delta_BTSD.shape
    chunk_steps = steps_of_a_chunk(n_batch * triton.cdiv(d, BLOCK_D), n_steps)
    with torch.cuda.device_of(delta_BTSD):
        if chunk_steps == n_steps:
            flow_in = None if inputs.delta_next_BSD is None else inputs.delta_next_BSD.unsqueeze(1)
        else:
            flow_in = _flows_into_chunks(inputs, chunk_steps)
        _launch(inputs, flow_in, delta_BTSD, None, chunk_steps)


def steps_of_a_chunk(n_programs: int, n_steps: int) -> int:
    """All of them where sequences and units fill a GPU, or steps are few; else what fills it, a power of two."""
    n_chunks = min(PROGRAMS_THAT_FILL // n_programs, n_steps // LEAST_CHUNK_STEPS)
    return (
        n_steps
        if n_chunks < 2 or n_programs >= ENOUGH_PROGRAMS
        else triton.next_power_of_2(triton.cdiv(n_steps, n_chunks))
    )


def _flows_into_chunks(inputs: ScanInputs, chunk_steps: int) -> Tensor:
    """(B, chunks, S, D): what flows into each chunk's last step: a scan over what the chunks send and let through."""
    n_batch, n_steps, n_states, d = inputs.error_BTSD.shape
    dtype, n_chunks = accumulation_dtype(inputs.error_BTSD), triton.cdiv(n_steps, chunk_steps)
    sent_BCSD = inputs.error_BTSD.new_zeros(n_batch, n_chunks, n_states, d, dtype=dtype)
    through = inputs.error_BTSD.new_empty(n_batch, n_chunks, n_states, n_states, d, dtype=dtype)
    _launch(inputs, None, sent_BCSD, through, chunk_steps)
    into_BCSD, reset_BC = torch.empty_like(sent_BCSD), None
    if inputs.reset_BT is not None:  # zero times what is not finite would flow on
        reset_BC = pad(inputs.reset_BT, (0, -n_steps % chunk_steps)).unflatten(1, (n_chunks, chunk_steps)).any(dim=2)
    scan_triton_into(ScanInputs(sent_BCSD, through, reset_BC, inputs.delta_next_BSD), into_BCSD)
    return into_BCSD


def _launch(
    inputs: ScanInputs, flow_in_BCSD: Tensor | None, delta: Tensor, through: Tensor | None, chunk_steps: int
) -> None:
    """The kernel on all chunks: δ from what flows into each, or, given `through`, the chunks' sums."""
    n_batch, n_steps, n_states, d = inputs.error_BTSD.shape
    n_chunks, n_blocks = triton.cdiv(n_steps, chunk_steps), triton.cdiv(d, BLOCK_D)
    feedback_scan_kernel[(n_batch * n_chunks * n_blocks,)](
        inputs.error_BTSD, inputs.decay, inputs.reset_BT, flow_in_BCSD, delta, through,
        n_steps, chunk_steps, d, n_chunks, n_blocks,
        *inputs.error_BTSD.stride(),
        *((0, 0, *inputs.decay.stride()) if not inputs.varies else inputs.decay.stride()),
        *((0, 0) if inputs.reset_BT is None else inputs.reset_BT.stride()),
        *((0, 0, 0, 0) if flow_in_BCSD is None else flow_in_BCSD.stride()),
        *delta.stride(),
        COUPLED=n_states == 2, VARIES=inputs.varies, TYPE=TRITON_DTYPES[accumulation_dtype(inputs.error_BTSD)],
        BLOCK_D=BLOCK_D, STAGES=STAGES if n_chunks == 1 else CHUNK_STAGES, num_warps=NUM_WARPS,
    )  # fmt: skip
