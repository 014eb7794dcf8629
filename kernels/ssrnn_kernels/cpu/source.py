"""The C source of a cell's kernels: its traced functions put into kernels.c, which has the loops around them.

Imports the tracing. Indices as in kernels.c."""

from pathlib import Path
from string import Template

from ssrnn_kernels.cell import Cell, Values, is_zero
from ssrnn_kernels.tracing import Trace, name_of

INDENT = "\n        "
C_FUNCTIONS = {"sigmoid": "sigmoid_", "tanh": "tanh_"}

SOURCE = Template(Path(__file__).with_name("kernels.c").read_text(encoding="utf-8"))


def c_source(cell: Cell) -> str:
    """The kernels of this cell."""
    return SOURCE.substitute(
        name=cell.__name__,
        gates=len(cell.GATES),
        states=cell.N_STATES,
        saved=cell.N_SAVED,
        step=INDENT.join(_step_body(cell)),
        back=INDENT.join(_back_body(cell)),
    )


def input_gradients_differ(cell: Cell) -> bool:
    """Has dL/dx other values than dL/du?"""
    trace = Trace()
    gates = trace.values("g", len(cell.GATES))
    delta, derivatives = trace.values("v", cell.N_STATES), _derivatives(cell, trace)
    return [name_of(each) for each in cell.input_gradients(derivatives, gates, delta)] != [g.name for g in gates]


def _derivatives(cell: Cell, trace: Trace) -> Values:
    n = cell.N_STATES
    return cell.derivatives(trace.values("q", cell.N_SAVED), trace.values("before", n), trace.values("after", n))


def _step_body(cell: Cell) -> list[str]:
    n_gates, n_states, trace = len(cell.GATES), cell.N_STATES, Trace()
    state, saved = cell.step(trace.values("x", n_gates), trace.values("u", n_gates), trace.values("s", n_states))
    return [
        *(f"const float x{g} = x[row + {g} * K];" for g in range(n_gates)),
        *(f"const float u{g} = product[k + {g} * LANES] + bias[row + {g} * K];" for g in range(n_gates)),
        *_loads("s", "previous", n_states),
        *_assignments(trace),
        *_stores("state", state),
        *_stores("saved", saved),
    ]


def _back_body(cell: Cell) -> list[str]:
    """What a pass does for one unit: value v, the sum of the passes w, the gates' gradients, what is carried on."""
    n_gates, n = len(cell.GATES), cell.N_STATES
    trace = Trace()
    derivatives = _derivatives(cell, trace)
    value, total = trace.values("v", n), trace.values("w", n)
    rows = cell.diagonal(derivatives, trace.values("weight", n_gates))
    selective = [sum(rows[i][j] * value[i] for i in range(n) if not is_zero(rows[i][j])) for j in range(n)]
    decay = [[trace.value(f"decay{i}{j}") for j in range(n)] for i in range(n)]
    constant = [sum(decay[i][j] * value[i] for i in range(n)) for j in range(n)]
    direct = cell.direct(derivatives, value)
    rest = [trace.apply("-", direct[j], constant[j]) for j in range(n)]
    of_value = cell.gate_gradients(derivatives, value)
    of_total = cell.gate_gradients(derivatives, total)
    inputs = cell.input_gradients(derivatives, of_total, total)
    stored_inputs = zip(range(n_gates), inputs, strict=True) if input_gradients_differ(cell) else ()
    return [
        *_loads("q", "saved", cell.N_SAVED),
        *_loads("before", "before", n),
        *_loads("after", "after", n),
        *(f"const float weight{g} = own_weights[unit + {g} * D];" for g in range(n_gates)),
        *(f"const float decay{i}{j} = decay[unit + {i * n + j} * D];" for i in range(n) for j in range(n)),
        *(
            f"const float v{i} = error[unit + {i} * D] + rest_before[unit + {i} * D] + carry[unit + {i} * D]"
            f"{' + flow[unit]' if i == 0 else ''};"
            for i in range(n)
        ),
        *(f"const float w{i} = summed[unit + {i} * D] + v{i};" for i in range(n)),
        *_assignments(trace),
        *(f"carry[unit + {j} * D] = selective ? {name_of(selective[j])} : {name_of(constant[j])};" for j in range(n)),
        *_stores("delta", total),
        *(f"gates[row + {g} * K] = last ? {name_of(of_total[g])} : {name_of(of_value[g])};" for g in range(n_gates)),
        *(f"if (last) inputs[row + {g} * K] = {name_of(each)};" for g, each in stored_inputs),
        *(f"if (rests && !last) rest[unit + {j} * D] = {name_of(rest[j])};" for j in range(n)),
        *(f"added += v{i} * v{i}; total += w{i} * w{i};" for i in range(n)),
    ]


def _loads(prefix: str, array: str, count: int) -> list[str]:
    return [f"const float {prefix}{i} = {array}[unit + {i} * D];" for i in range(count)]


def _stores(array: str, values: Values) -> list[str]:
    return [f"{array}[unit + {i} * D] = {name_of(value)};" for i, value in enumerate(values)]


def _assignments(trace: Trace) -> list[str]:
    return [f"const float {name} = {_expression(operation, names)};" for name, operation, names in trace.lines]


def _expression(operation: str, names: tuple[str, ...]) -> str:
    literals = [f"{name}f" if name[0].isdigit() or name[0] == "-" else name for name in names]
    return f"{C_FUNCTIONS[operation]}({literals[0]})" if operation in C_FUNCTIONS else f" {operation} ".join(literals)
