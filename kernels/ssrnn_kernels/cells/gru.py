"""The gated recurrent unit (Cho et al., arXiv 1406.1078) in torch.nn.GRU's convention.

    r = σ(x_r + u_r)    z = σ(x_z + u_z)    n = tanh(x_n + r ⊙ u_n)    h' = n + z ⊙ (h − n),    u = W_hh h + b_hh

Pure functions as in cell.py. Saved are r, z, n and u_n."""

from torch import sigmoid, tanh

from ssrnn_kernels.cell import Values

GATES = ("r", "z", "n")
N_STATES = 1
N_SAVED = 4


def step(x: Values, u: Values, state: Values) -> tuple[Values, Values]:
    (h,) = state
    reset, update = sigmoid(x[0] + u[0]), sigmoid(x[1] + u[1])
    candidate = tanh(x[2] + reset * u[2])
    return (candidate + update * (h - candidate),), (reset, update, candidate, u[2])


def derivatives(saved: Values, before: Values, after: Values) -> Values:
    """dh'/du_r, dh'/du_z, dh'/du_n, dh'/dx_n, and ∂h'/∂h = z."""
    reset, update, candidate, u_n = saved
    by_x_n = (1 - update) * (1 - candidate * candidate)
    by_u_n = by_x_n * reset
    by_z = (before[0] - candidate) * update * (1 - update)
    return by_u_n * u_n * (1 - reset), by_z, by_u_n, by_x_n, update


def gate_gradients(derivatives: Values, delta: Values) -> Values:
    by_r, by_z, by_u_n, _, _ = derivatives
    return by_r * delta[0], by_z * delta[0], by_u_n * delta[0]


def input_gradients(derivatives: Values, gates: Values, delta: Values) -> Values:
    """That of x_n has no factor r."""
    return gates[0], gates[1], derivatives[3] * delta[0]


def direct(derivatives: Values, delta: Values) -> Values:
    return (derivatives[4] * delta[0],)


def diagonal(derivatives: Values, weights: Values) -> tuple[Values, ...]:
    by_r, by_z, by_u_n, _, update = derivatives
    return ((update + by_r * weights[0] + by_z * weights[1] + by_u_n * weights[2],),)
