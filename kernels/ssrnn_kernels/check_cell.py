"""Does a cell's file keep to the contract of cell.py?  Asked once, when the cell is first used.

Imports the tracing: every function runs once on values that stand for a unit's."""

from typing import Any

from ssrnn_kernels.cell import Cell, Values, cell_name, is_zero
from ssrnn_kernels.tracing import Trace, Value

COUNTS = ("GATES", "N_STATES", "N_SAVED")
FUNCTIONS = ("step", "derivatives", "gate_gradients", "input_gradients", "direct", "diagonal")
ARITHMETIC = "one value a gate, state or saved value; + - *, torch.sigmoid and torch.tanh"


def check_cell(cell: Cell) -> None:
    """ValueError says which part of the cell is missing, gives another number of values, or uses what kernels lack."""
    try:
        _check(cell)
    except ValueError as error:
        raise ValueError(f"cell {cell_name(cell)}: {error}") from error


def _check(cell: Cell) -> None:
    if missing := [part for part in (*COUNTS, *FUNCTIONS) if not hasattr(cell, part)]:
        raise ValueError(f"it lacks {', '.join(missing)}; docs/adding-a-cell.md says what each is")
    n_gates, n_states, trace = len(cell.GATES), cell.N_STATES, Trace()
    x, u, weights = (trace.values(prefix, n_gates) for prefix in ("x", "u", "w"))
    before, after, delta = (trace.values(prefix, n_states) for prefix in ("b", "a", "d"))
    stepped = _call(cell, "step", x, u, before)
    _expect("step", stepped, 2, "the new states and the saved values")
    _expect_values("step's new states", stepped[0], n_states, "N_STATES")
    _expect_values("step's saved values", stepped[1], cell.N_SAVED, "N_SAVED")
    local = _call(cell, "derivatives", trace.values("q", cell.N_SAVED), before, after)
    _expect_values("derivatives", local, None, "in any order")
    gates = _call(cell, "gate_gradients", local, delta)
    _expect_values("gate_gradients", gates, n_gates, "one a gate")
    _expect_values("input_gradients", _call(cell, "input_gradients", local, gates, delta), n_gates, "one a gate")
    _expect_values("direct", _call(cell, "direct", local, delta), n_states, "one a state", or_zero=True)
    rows = _call(cell, "diagonal", local, weights)
    _expect("diagonal", rows, n_states, "a row a state")
    for row in rows:
        _expect_values("a row of diagonal", row, n_states, "one a state", or_zero=True)


def _call(cell: Cell, function: str, *arguments: Values) -> Any:
    try:
        return getattr(cell, function)(*arguments)
    except (TypeError, AttributeError, IndexError, ValueError) as error:
        raise ValueError(f"{function}: {error}; allowed: {ARITHMETIC}") from error


def _expect(what: str, got: Any, count: int | None, meaning: str) -> None:
    """A tuple of so many (None: of any number)."""
    if not isinstance(got, tuple) or (count is not None and len(got) != count):
        came = f"a tuple of {len(got)}" if isinstance(got, tuple) else f"a {type(got).__name__}"
        wanted = "a tuple" if count is None else f"a tuple of {count}"
        raise ValueError(f"{what}: {came}; allowed: {wanted}, {meaning}")


def _expect_values(what: str, got: Any, count: int | None, meaning: str, or_zero: bool = False) -> None:
    _expect(what, got, count, meaning)
    for each in got:
        if not (isinstance(each, Value) or (or_zero and is_zero(each))):
            raise ValueError(f"{what}: {each!r}; allowed: values of the unit{', or 0' if or_zero else ''}")
