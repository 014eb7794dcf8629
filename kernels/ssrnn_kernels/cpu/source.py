"""The C source of a cell's kernels: its traced functions put into kernels.c, which has the loops around them.

Imports the traced programs. Indices as in kernels.c."""

from pathlib import Path
from string import Template

from ssrnn_kernels.cell import Cell
from ssrnn_kernels.tracing import Line
from ssrnn_kernels.unit_programs import Names, trace_back, trace_step

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


def _step_body(cell: Cell) -> list[str]:
    n_gates, step = len(cell.GATES), trace_step(cell)
    return [
        *(f"const float x{g} = x[row + {g} * K];" for g in range(n_gates)),
        *(f"const float u{g} = product[k + {g} * LANES] + bias[row + {g} * K];" for g in range(n_gates)),
        *_loads("s", "previous", cell.N_STATES),
        *_assignments(step.lines),
        *_stores("state", step.state),
        *_stores("saved", step.saved),
    ]


def _back_body(cell: Cell) -> list[str]:
    """What a pass does for one unit: value v, the sum of the passes w, the gates' gradients, what is carried on."""
    n_gates, n, back = len(cell.GATES), cell.N_STATES, trace_back(cell)
    gates = zip(back.gates_of_total, back.gates_of_value, strict=True)
    inputs = back.inputs_of_total if back.inputs_differ else ()
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
        *_assignments(back.lines),
        *(f"carry[unit + {j} * D] = selective ? {back.selective[j]} : {back.constant[j]};" for j in range(n)),
        *_stores("delta", tuple(f"w{i}" for i in range(n))),
        *(f"gates[row + {g} * K] = last ? {of_total} : {of_value};" for g, (of_total, of_value) in enumerate(gates)),
        *(f"if (last) inputs[row + {g} * K] = {each};" for g, each in enumerate(inputs)),
        *(f"if (rests && !last) rest[unit + {j} * D] = {back.rest[j]};" for j in range(n)),
        *(f"added += v{i} * v{i}; total += w{i} * w{i};" for i in range(n)),
    ]


def _loads(prefix: str, array: str, count: int) -> list[str]:
    return [f"const float {prefix}{i} = {array}[unit + {i} * D];" for i in range(count)]


def _stores(array: str, values: Names) -> list[str]:
    return [f"{array}[unit + {i} * D] = {value};" for i, value in enumerate(values)]


def _assignments(lines: list[Line]) -> list[str]:
    return [f"const float {name} = {_expression(operation, names)};" for name, operation, names in lines]


def _expression(operation: str, names: tuple[str, ...]) -> str:
    literals = [f"{name}f" if name[0].isdigit() or name[0] == "-" else name for name in names]
    return f"{C_FUNCTIONS[operation]}({literals[0]})" if operation in C_FUNCTIONS else f" {operation} ".join(literals)
