"""The gated recurrent unit (Cho et al., arXiv 1406.1078) in torch.nn.GRU's convention, as pure functions.

    r = σ(x_r + u_r)    z = σ(x_z + u_z)    n = tanh(x_n + r ⊙ u_n)    h' = n + z ⊙ (h − n),    u = W_hh h + b_hh

Imports torch only. Shapes as in cell.py; saved are r, z, n and u_n."""

from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Tensor

from ssrnn_kernels.cell import State

NAME = "gru"
GATES = ("r", "z", "n")
N_STATES = 1
N_SAVED = 4


def step(x: State, u: State, state: State) -> State:
    """The definition."""
    (h,) = state
    reset, update = torch.sigmoid(x[0] + u[0]), torch.sigmoid(x[1] + u[1])
    candidate = torch.tanh(x[2] + reset * u[2])
    return (candidate + update * (h - candidate),)


def step_views(x_TBHGK: Tensor, u_BHGK: Tensor, saved_TBHQK: Tensor) -> Iterator[State]:
    """x, u and saved, the gates r and z together where one operation does both."""
    x_rz, x_n = x_TBHGK[..., :2, :].unbind(0), x_TBHGK[..., 2, :].unbind(0)
    saved = (part.unbind(0) for part in (saved_TBHQK[..., :2, :], *saved_TBHQK.unbind(-2)))
    return zip(x_rz, x_n, repeat(u_BHGK[..., :2, :]), repeat(u_BHGK[..., 2, :]), *saved, strict=False)


def step_into(views: State, state: State, new_state: State) -> None:
    """The same step without autograd or allocation."""
    x_rz, x_n, u_rz, u_n, gates_rz, reset, update, candidate, saved_u_n = views
    torch.add(x_rz, u_rz, out=gates_rz).sigmoid_()
    saved_u_n.copy_(u_n)
    torch.addcmul(x_n, reset, saved_u_n, out=candidate).tanh_()
    torch.lerp(candidate, state[0], update, out=new_state[0])


def derivatives(saved_TBHQK: Tensor, before: State, after: State) -> Tensor:
    """(T, B, H, 5, K): dh'/du_r, dh'/du_z, dh'/du_n, dh'/dx_n and the direct ∂h'/∂h = z."""
    reset, update, candidate, u_n = saved_TBHQK.unbind(-2)
    out = saved_TBHQK.new_empty(*saved_TBHQK.shape[:-2], 5, saved_TBHQK.shape[-1])
    by_r, by_z, by_u_n, by_x_n, direct_part = out.unbind(-2)
    one_minus_z = 1 - update
    torch.mul(one_minus_z, 1 - candidate * candidate, out=by_x_n)
    torch.mul(by_x_n, reset, out=by_u_n)
    torch.mul(by_u_n, u_n, out=by_r).mul_(1 - reset)
    torch.sub(before[0], candidate, out=by_z).mul_(update).mul_(one_minus_z)
    direct_part.copy_(update)
    return out


def gate_gradients(derivatives_TBHCK: Tensor, delta: State) -> Tensor:
    """(T, B, H, 3, K): of u_r, u_z, u_n."""
    return derivatives_TBHCK[..., :3, :] * delta[0].unsqueeze(-2)


def input_gradients(derivatives_TBHCK: Tensor, gates_TBHGK: Tensor, delta: State) -> Tensor:
    """(T, B, H, 3, K): of x_r, x_z, x_n; that of x_n has no factor r."""
    gradients = gates_TBHGK.clone()
    torch.mul(derivatives_TBHCK[..., 3, :], delta[0], out=gradients[..., 2, :])
    return gradients


def direct(derivatives_TBHCK: Tensor, delta: State) -> tuple[Tensor | None, ...]:
    """z ⊙ δ."""
    return (derivatives_TBHCK[..., 4, :] * delta[0],)


def diagonal_into(derivatives_TBHCK: Tensor, weights: State, out_TBNNHK: Tensor) -> None:
    """z + Σ over gates of dh'/du ⊙ diag W."""
    by_r, by_z, by_u_n, _, direct_part = derivatives_TBHCK.unbind(-2)
    out = out_TBNNHK[:, :, 0, 0]
    torch.addcmul(direct_part, by_r, weights[0], out=out)
    out.addcmul_(by_z, weights[1]).addcmul_(by_u_n, weights[2])
