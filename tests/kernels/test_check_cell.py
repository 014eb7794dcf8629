"""What a beginner's cell may get wrong, each in one line that says where; and that our own cells keep the contract."""

from types import SimpleNamespace

import pytest
import torch

from ssrnn_kernels.cells import CELLS, get_cell, lstm, ugrnn
from ssrnn_kernels.check_cell import check_cell


def mistaken(cell=ugrnn, **changes) -> SimpleNamespace:
    parts = {name: getattr(cell, name) for name in dir(cell) if not name.startswith("_")}
    return SimpleNamespace(**{**parts, "__name__": "ssrnn_kernels.cells.mine", **changes})


def without(part: str) -> SimpleNamespace:
    cell = mistaken()
    delattr(cell, part)
    return cell


@pytest.mark.parametrize("name", CELLS)
def test_our_cells_keep_the_contract(name: str) -> None:
    assert get_cell(name) is CELLS[name]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (without("direct"), "cell mine: it lacks direct;"),
        (mistaken(N_SAVED=3), "saved values: a tuple of 2; allowed: a tuple of 3, N_SAVED"),
        (mistaken(N_STATES=2), "step's new states: a tuple of 1; allowed: a tuple of 2"),
        (mistaken(GATES=("z",)), "step: tuple index out of range; allowed: one value a gate"),
        (mistaken(step=lambda x, u, state: state[0]), "step: a Value; allowed: a tuple of 2"),
        (mistaken(step=lambda x, u, state: (state[0], (x[0], u[0]))), "new states: a Value; allowed: a tuple of 1"),
        (mistaken(step=lambda x, u, state: ((torch.relu(x[0]),), (x[0], u[0]))), "allowed: .*torch.sigmoid"),
        (mistaken(step=lambda x, u, state: ((x[0] / u[0],), (x[0], u[0]))), "step: unsupported operand"),
        (mistaken(step=lambda x, u, state: ((x[0].tanh(),), (x[0], u[0]))), "step: 'Value' object has no attribute"),
        (mistaken(derivatives=lambda saved, before, after: (1.0, *saved)), "derivatives: 1.0; allowed: values of the"),
        (mistaken(gate_gradients=lambda derivatives, delta: (0.0, 0.0)), "gate_gradients: 0.0; allowed"),
        (mistaken(input_gradients=lambda derivatives, gates, delta: gates[:1]), "input_gradients: a tuple of 1"),
        (mistaken(direct=lambda derivatives, delta: derivatives[2] * delta[0]), "direct: a Value; allowed: a tuple"),
        (mistaken(direct=lambda derivatives, delta: (0.5,)), "direct: 0.5; allowed: values of the unit, or 0"),
        (mistaken(lstm, diagonal=lambda derivatives, weights: (derivatives[0],) * 2), "row of diagonal: a Value"),
        (mistaken(diagonal=lambda derivatives, weights: (derivatives[0],)), "a row of diagonal: a Value"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(cell, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_cell(cell)
