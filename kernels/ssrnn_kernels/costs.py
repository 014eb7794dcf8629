"""What an op costs: bytes that it moves and operations that it makes, as functions of shape and type, for plans and
rooflines. A test holds the Triton kernels' own loads and stores to the bytes. Imports the traced programs.

B batch, T time, S states·units, R = gates·units rows, K units a head, N states a unit, Q saved values a unit."""

from dataclasses import dataclass
from math import ceil

from ssrnn_kernels.cell import Cell
from ssrnn_kernels.unit_programs import trace_back, trace_step

SEQUENCES_A_PROGRAM = 16  # of the kernels that keep a head's weights on the chip


@dataclass(frozen=True)
class Cost:
    """Of one call."""

    read_bytes: int
    written_bytes: int
    flops: int  # of the cell's arithmetic, an operation of its traced program each
    product_flops: int = 0  # of products with the weights, two an element

    @property
    def bytes(self) -> int:
        return self.read_bytes + self.written_bytes

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(ours + theirs for ours, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Sizes:
    """A window of a layer."""

    n_batch: int
    n_steps: int
    n_units: int
    head_size: int
    bytes_a_number: int  # 4, or 2 of bf16 and fp16, or 8

    @property
    def steps_of_units(self) -> int:
        return self.n_batch * self.n_steps * self.n_units

    @property
    def n_heads(self) -> int:
        return self.n_units // self.head_size


def scan_cost(
    sizes: Sizes, n_states: int = 1, *, varies: bool, decay_bytes: int = 4, resets: bool = False, block: int = 128
) -> Cost:
    """feedback_scan over all of time at once: a constant decay is read once a sequence."""
    n, units = n_states, sizes.steps_of_units
    factors = n * n * (units if varies else sizes.n_batch * sizes.n_units)
    reset_bytes = sizes.n_batch * sizes.n_steps * ceil(sizes.n_units / block) if resets else 0
    errors = n * units * sizes.bytes_a_number
    return Cost(errors + factors * decay_bytes + reset_bytes, errors, 2 * n * n * units)


def chunked_scan_cost(
    sizes: Sizes, chunk_steps: int, n_states: int = 1, *, varies: bool, decay_bytes: int = 4, sum_bytes: int = 4
) -> Cost:
    """feedback_scan in two levels, one of them itself in one: errors and decays are read twice."""
    n, n_chunks = n_states, ceil(sizes.n_steps / chunk_steps)
    once = scan_cost(sizes, n, varies=varies, decay_bytes=decay_bytes)
    if not varies:  # once a chunk
        once += Cost((n_chunks - 1) * sizes.n_batch * n * n * sizes.n_units * decay_bytes, 0, 0)
    chunk = Sizes(sizes.n_batch, n_chunks, sizes.n_units, sizes.head_size, sum_bytes)
    numbers = chunk.steps_of_units * sum_bytes
    sent = n * (numbers - sizes.n_batch * sizes.n_units * sum_bytes)  # the first chunk's goes nowhere
    sums = Cost(once.read_bytes, sent + n * n * numbers, once.flops + 2 * n**3 * sizes.steps_of_units)
    inner = scan_cost(chunk, n, varies=True, decay_bytes=sum_bytes)
    return sums + inner + once + Cost(n * numbers, 0, 0)


def pass_cost(
    cell: Cell,
    sizes: Sizes,
    *,
    selective: bool,
    first: bool,
    last: bool,
    resets: bool = False,
    sum_bytes: int = 4,
    block: int = 64,
) -> Cost:
    """One walk of fused_feedback back in time."""
    n, gates, back = cell.N_STATES, len(cell.GATES), trace_back(cell)
    units, step = sizes.steps_of_units, sizes.n_batch * sizes.n_units
    own = (gates + n * n) * step  # weights and decay, once a sequence
    read = own + n * (units + step) + cell.N_SAVED * units  # … and states, saved gates
    if first:
        read += n * units
    else:
        read += (units - step) * (1 if selective else 1 + n) + n * units  # flow and rest from the step after; δ so far
    written = n * units + gates * units
    carried = n * step * sum_bytes  # in and out
    if last and back.inputs_differ:
        written += gates * units
    if not last and not selective:
        written += n * units
    n_blocks = ceil(sizes.n_units / block)
    reset_bytes = sizes.n_batch * sizes.n_steps * n_blocks if resets else 0
    norms = 2 * sizes.n_batch * n_blocks * sum_bytes
    number = sizes.bytes_a_number
    bytes_in, bytes_out = read * number + reset_bytes + carried, written * number + norms + carried
    return Cost(bytes_in, bytes_out, len(back.lines) * units)


def feedback_cost(cell: Cell, sizes: Sizes, refinements: int, *, selective: bool = True) -> Cost:
    """fused_feedback: a walk, then for each sweep a product with the weights and a walk."""
    last = refinements == 0
    total = pass_cost(cell, sizes, selective=selective, first=True, last=last)
    for sweep in range(1, refinements + 1):
        total += _product(cell, sizes)
        total += pass_cost(cell, sizes, selective=selective, first=False, last=sweep == refinements)
    return total


def _product(cell: Cell, sizes: Sizes) -> Cost:
    """Gates' gradients times the weights, head by head: each array once."""
    gates, units, number = len(cell.GATES), sizes.steps_of_units, sizes.bytes_a_number
    weights = gates * sizes.n_units * sizes.head_size
    return Cost((gates * units + weights) * number, units * number, 0, _product_flops(cell, sizes))


def recurrence_cost(cell: Cell, sizes: Sizes, *, resets: bool = False) -> Cost:
    """fused_recurrence, saving: a head's weights are read once a program, and stay."""
    gates, n, units = len(cell.GATES), cell.N_STATES, sizes.steps_of_units
    read = gates * units + n * sizes.n_batch * sizes.n_units + _weights_read(cell, sizes, biases=True)
    written = (n + cell.N_SAVED) * units
    number, flops = sizes.bytes_a_number, len(trace_step(cell).lines) * units
    return Cost(read * number + _resets(sizes, resets), written * number, flops, _product_flops(cell, sizes))


def bptt_cost(cell: Cell, sizes: Sizes, *, resets: bool = False) -> Cost:
    """fused_bptt: the same, back in time."""
    gates, n, back, units = len(cell.GATES), cell.N_STATES, trace_back(cell), sizes.steps_of_units
    states = units + sizes.n_batch * sizes.n_units
    read = n * (states + units) + cell.N_SAVED * units + _weights_read(cell, sizes, biases=False)
    written = (n + gates * (2 if back.inputs_differ else 1)) * units
    number = sizes.bytes_a_number
    flops = len(back.lines) * units
    return Cost(read * number + _resets(sizes, resets), written * number, flops, _product_flops(cell, sizes))


def _weights_read(cell: Cell, sizes: Sizes, *, biases: bool) -> int:
    programs = ceil(sizes.n_batch / SEQUENCES_A_PROGRAM)
    return programs * len(cell.GATES) * sizes.n_units * (sizes.head_size + biases)


def _resets(sizes: Sizes, resets: bool) -> int:
    return sizes.n_batch * sizes.n_steps * sizes.n_heads if resets else 0


def _product_flops(cell: Cell, sizes: Sizes) -> int:
    return 2 * len(cell.GATES) * sizes.steps_of_units * sizes.head_size
