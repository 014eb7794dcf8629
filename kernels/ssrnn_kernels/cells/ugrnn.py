"""The update-gate recurrent network (Collins et al., arXiv 1611.09913): a GRU without its reset gate.

    z = σ(x_z + u_z)    n = tanh(x_n + u_n)    h' = n + z ⊙ (h − n),    u = W_hh h + b_hh

Pure functions as in cell.py. Saved are z and n."""

from torch import sigmoid, tanh

from ssrnn_kernels.cell import Values

GATES = ("z", "n")
N_STATES = 1
N_SAVED = 2


def step(x: Values, u: Values, state: Values) -> tuple[Values, Values]:
    update, candidate = sigmoid(x[0] + u[0]), tanh(x[1] + u[1])
    return (candidate + update * (state[0] - candidate),), (update, candidate)


def derivatives(saved: Values, before: Values, after: Values) -> Values:
    """dh'/du_z, dh'/du_n, and ∂h'/∂h = z."""
    update, candidate = saved
    return (before[0] - candidate) * update * (1 - update), (1 - update) * (1 - candidate * candidate), update


def gate_gradients(derivatives: Values, delta: Values) -> Values:
    return derivatives[0] * delta[0], derivatives[1] * delta[0]


def input_gradients(derivatives: Values, gates: Values, delta: Values) -> Values:
    return gates


def direct(derivatives: Values, delta: Values) -> Values:
    return (derivatives[2] * delta[0],)


def diagonal(derivatives: Values, weights: Values) -> tuple[Values, ...]:
    return ((derivatives[2] + derivatives[0] * weights[0] + derivatives[1] * weights[1],),)
