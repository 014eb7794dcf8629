"""Long short-term memory (Hochreiter & Schmidhuber, 1997) in torch.nn.LSTM's convention.

    i, f, o = σ(x + u)    g = tanh(x_g + u_g)    c' = f ⊙ c + i ⊙ g    h' = o ⊙ tanh(c'),    u = W_hh h + b_hh

Pure functions as in cell.py. The states are h and c; saved are i, f, g, o."""

from torch import sigmoid, tanh

from ssrnn_kernels.cell import Values

GATES = ("i", "f", "g", "o")
N_STATES = 2
N_SAVED = 4


def step(x: Values, u: Values, state: Values) -> tuple[Values, Values]:
    in_gate, forget, out_gate = (sigmoid(x[gate] + u[gate]) for gate in (0, 1, 3))
    candidate = tanh(x[2] + u[2])
    c = forget * state[1] + in_gate * candidate
    return (out_gate * tanh(c), c), (in_gate, forget, candidate, out_gate)


def derivatives(saved: Values, before: Values, after: Values) -> Values:
    """dc'/du_i, dc'/du_f, dc'/du_g, ∂h'/∂u_o, ∂h'/∂c' = o (1 − tanh²c'), and ∂c'/∂c = f."""
    in_gate, forget, candidate, out_gate = saved
    tanh_c = tanh(after[1])
    return (
        candidate * in_gate * (1 - in_gate),
        before[1] * forget * (1 - forget),
        in_gate * (1 - candidate * candidate),
        tanh_c * out_gate * (1 - out_gate),
        out_gate * (1 - tanh_c * tanh_c),
        forget,
    )


def gate_gradients(derivatives: Values, delta: Values) -> Values:
    by_i, by_f, by_g, by_o, _, _ = derivatives
    delta_c = _reaching_c(derivatives, delta)
    return by_i * delta_c, by_f * delta_c, by_g * delta_c, by_o * delta[0]


def input_gradients(derivatives: Values, gates: Values, delta: Values) -> Values:
    return gates


def direct(derivatives: Values, delta: Values) -> Values:
    """To h all passes through W_hh."""
    return 0.0, derivatives[5] * _reaching_c(derivatives, delta)


def _reaching_c(derivatives: Values, delta: Values) -> object:
    """All that reaches c': δ_c, and δ_h through h' = o tanh(c')."""
    return delta[1] + derivatives[4] * delta[0]


def diagonal(derivatives: Values, weights: Values) -> tuple[Values, ...]:
    """[[p + q a, q f], [a, f]]: a reaches c' through i, f, g, p reaches h' through o, q = ∂h'/∂c'."""
    by_i, by_f, by_g, by_o, by_c, forget = derivatives
    to_c = by_i * weights[0] + by_f * weights[1] + by_g * weights[2]
    return (by_o * weights[3] + by_c * to_c, by_c * forget), (to_c, forget)
