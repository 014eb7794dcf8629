"""The simple recurrent network (Elman, 1990) in torch.nn.RNN's convention.

    h' = tanh(x + u),    u = W_hh h + b_hh

Pure functions as in cell.py. Nothing is saved: the derivative is in h' itself."""

from torch import tanh

from ssrnn_kernels.cell import Values

GATES = ("h",)
N_STATES = 1
N_SAVED = 0


def step(x: Values, u: Values, state: Values) -> tuple[Values, Values]:
    return (tanh(x[0] + u[0]),), ()


def derivatives(saved: Values, before: Values, after: Values) -> Values:
    """1 − h'²."""
    return (1 - after[0] * after[0],)


def gate_gradients(derivatives: Values, delta: Values) -> Values:
    return (derivatives[0] * delta[0],)


def input_gradients(derivatives: Values, gates: Values, delta: Values) -> Values:
    return gates


def direct(derivatives: Values, delta: Values) -> Values:
    """All passes through W_hh."""
    return (0.0,)


def diagonal(derivatives: Values, weights: Values) -> tuple[Values, ...]:
    return ((derivatives[0] * weights[0],),)
