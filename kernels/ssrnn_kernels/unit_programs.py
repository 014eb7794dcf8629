"""What a cell's kernels compute for one unit, as assignments: cpu/ writes them in C, gpu/ in Triton.

Imports the tracing. The values that a kernel must have are named by prefix and index, as each function says."""

from dataclasses import dataclass

from ssrnn_kernels.cell import Cell, Values, is_zero
from ssrnn_kernels.tracing import Line, Trace, name_of

Names = tuple[str, ...]  # of values, or numbers


@dataclass(frozen=True)
class Step:
    """The forward, from x and u of each gate and s of each state."""

    lines: list[Line]
    state: Names
    saved: Names


@dataclass(frozen=True)
class Back:
    """A step of a pass back in time, from q (saved), before, after, weight (own, of each gate), decay{i}{j}, the pass's
    value v and the sum of the passes w of each state."""

    lines: list[Line]
    selective: Names  # what goes on to the step before by the Jacobian's own diagonal
    constant: Names  # … by a constant decay
    rest: Names  # what flows past W_hh less what the constant decay carries
    gates_of_value: Names  # dL/du
    gates_of_total: Names
    inputs_of_total: Names  # dL/dx

    @property
    def outputs(self) -> tuple[Names, ...]:
        """All of them, in the order above."""
        return self.selective, self.constant, self.rest, self.gates_of_value, self.gates_of_total, self.inputs_of_total

    @property
    def inputs_differ(self) -> bool:
        """Has dL/dx other values than dL/du?"""
        return self.inputs_of_total != self.gates_of_total


def trace_step(cell: Cell) -> Step:
    n_gates, trace = len(cell.GATES), Trace()
    state, saved = cell.step(trace.values("x", n_gates), trace.values("u", n_gates), trace.values("s", cell.N_STATES))
    return Step(trace.lines, _names(state), _names(saved))


def trace_back(cell: Cell) -> Back:
    n, trace = cell.N_STATES, Trace()
    saved, before, after = (trace.values(*each) for each in (("q", cell.N_SAVED), ("before", n), ("after", n)))
    derivatives = cell.derivatives(saved, before, after)
    value, total = trace.values("v", n), trace.values("w", n)
    rows = cell.diagonal(derivatives, trace.values("weight", len(cell.GATES)))
    selective = tuple(sum(rows[i][j] * value[i] for i in range(n) if not is_zero(rows[i][j])) for j in range(n))
    decay = [[trace.value(f"decay{i}{j}") for j in range(n)] for i in range(n)]
    constant = tuple(sum(decay[i][j] * value[i] for i in range(n)) for j in range(n))
    direct = cell.direct(derivatives, value)
    rest = tuple(trace.apply("-", direct[j], constant[j]) for j in range(n))
    of_value = cell.gate_gradients(derivatives, value)
    of_total = cell.gate_gradients(derivatives, total)
    inputs = cell.input_gradients(derivatives, of_total, total)
    return Back(trace.lines, *map(_names, (selective, constant, rest, of_value, of_total, inputs)))


def _names(values: Values) -> Names:
    return tuple(name_of(value) for value in values)
