"""The Triton source of a cell's device functions: its traced programs, value by value, as the C kernels have them.

Imports the traced programs. Tuples go in and out, a block of units' values each; triton.py loads what stands here."""

from collections.abc import Iterable

from ssrnn_kernels.cell import Cell, cell_name
from ssrnn_kernels.tracing import Line
from ssrnn_kernels.unit_programs import trace_back, trace_step

INDENT = "\n    "
HEAD = """import triton
import triton.language as tl

from ssrnn_kernels.gpu.triton import sigmoid, tanh
"""


def triton_source(cell: Cell) -> str:
    """A module's text with `step`, `back` and `sum`; `sigmoid` and `tanh` are triton.py's."""
    head = f"# {cell_name(cell)}, written by ssrnn_kernels.gpu.source\n{HEAD}"
    return "\n\n".join((head, _step(cell), _back(cell), _sum(len(cell.GATES))))


def _step(cell: Cell) -> str:
    step = trace_step(cell)
    return _function(
        "step(x, u, state)",
        "The new state and the saved values.",
        _unpacked("x", "x", len(cell.GATES)),
        _unpacked("u", "u", len(cell.GATES)),
        _unpacked("s", "state", cell.N_STATES),
        *_assignments(step.lines),
        f"return {_tuple(step.state)}, {_tuple(step.saved)}",
    )


def _back(cell: Cell) -> str:
    n, back = cell.N_STATES, trace_back(cell)
    return _function(
        "back(saved, before, after, own_weights, decay, value, total)",
        "Carried on by the diagonal and by the constant decay, the rest; the gates of value and of total; dL/dx.",
        _unpacked("q", "saved", cell.N_SAVED),
        _unpacked("before", "before", n),
        _unpacked("after", "after", n),
        _unpacked("weight", "own_weights", len(cell.GATES)),
        *(f"decay{i}{j} = decay[{i * n + j}]" for i in range(n) for j in range(n)),
        _unpacked("v", "value", n),
        _unpacked("w", "total", n),
        *_assignments(back.lines),
        f"return ({', '.join(map(_tuple, back.outputs))})",
    )


def _sum(count: int) -> str:
    """tl.reduce takes its function of two values a gate as a name of its module alone."""
    if count == 1:
        return _function("sum(values)", "Over the first axis.", "return (tl.sum(values[0], axis=0),)")
    ours, theirs = (tuple(f"{side}{index}" for index in range(count)) for side in "ab")
    sums = ", ".join(f"{a} + {b}" for a, b in zip(ours, theirs, strict=True))
    add = _function(f"add({', '.join((*ours, *theirs))})", "Gate by gate.", f"return {sums}")
    return f"{add}\n\n" + _function(
        "sum(values)", "Over the first axis, all at once.", "return tl.reduce(values, 0, add)"
    )


def _function(signature: str, says: str, *lines: str) -> str:
    return f"@triton.jit\ndef {signature}:{INDENT}" + INDENT.join((f'"""{says}"""', *filter(None, lines))) + "\n"


def _unpacked(prefix: str, whole: str, count: int) -> str:
    return "; ".join(f"{prefix}{index} = {whole}[{index}]" for index in range(count))


def _tuple(names: Iterable[str]) -> str:
    return f"({''.join(f'{name}, ' for name in names)})"


def _assignments(lines: list[Line]) -> list[str]:
    return [f"{name} = {_expression(operation, names)}" for name, operation, names in lines]


def _expression(operation: str, names: tuple[str, ...]) -> str:
    return f"{operation}({names[0]})" if len(names) == 1 else f" {operation} ".join(names)
