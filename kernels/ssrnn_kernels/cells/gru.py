"""The gated recurrent unit (Cho et al., arXiv 1406.1078) in torch.nn.GRU's convention, as pure functions.

    r = σ(x_r + u_r)    z = σ(x_z + u_z)    n = tanh(x_n + r ⊙ u_n)    h' = n + z ⊙ (h − n),    u = W_hh h + b_hh

Imports torch only. Shapes as in base.py; gates stand in the order r, z, n; saved are r, z, n and u_n."""

from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Tensor

NAME = "gru"
N_GATES = 3
N_STATES = 1
N_SAVED = 4


def step(inputs_BG: Tensor, hidden_BG: Tensor, state_BS: Tensor) -> Tensor:
    """The definition: the new state (B, D)."""
    x_r, x_z, x_n = inputs_BG.chunk(3, dim=-1)
    u_r, u_z, u_n = hidden_BG.chunk(3, dim=-1)
    reset, update = torch.sigmoid(x_r + u_r), torch.sigmoid(x_z + u_z)
    candidate = torch.tanh(x_n + reset * u_n)
    return candidate + update * (state_BS - candidate)


def step_views(inputs_TBG: Tensor, hidden_BG: Tensor, saved_TBK: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Per step, the views that step_into works on, made for the whole window at once."""
    d = hidden_BG.shape[-1] // N_GATES
    hidden_rz, hidden_n = hidden_BG.split([2 * d, d], dim=-1)
    inputs = (part.unbind(0) for part in inputs_TBG.split([2 * d, d], dim=-1))
    saved_rz = saved_TBK[..., : 2 * d].unbind(0)
    saved = (part.unbind(0) for part in saved_TBK.split(d, dim=-1))
    return zip(*inputs, saved_rz, *saved, repeat(hidden_rz), repeat(hidden_n), strict=False)


def step_into(views: tuple[Tensor, ...], state_BS: Tensor, new_state_BS: Tensor) -> None:
    """The same step without autograd or allocation."""
    inputs_rz, inputs_n, gates_rz, reset, update, candidate, u_n, hidden_rz, hidden_n = views
    torch.add(inputs_rz, hidden_rz, out=gates_rz).sigmoid_()
    u_n.copy_(hidden_n)
    torch.addcmul(inputs_n, reset, u_n, out=candidate).tanh_()
    torch.lerp(candidate, state_BS, update, out=new_state_BS)


def coefficients(saved_TBK: Tensor, previous_TBS: Tensor) -> Tensor:
    """(T, B, 5, D): dh'/du_r, dh'/du_z, dh'/du_n, dh'/dx_n and z = the direct ∂h'/∂h."""
    d = previous_TBS.shape[-1]
    reset, update, candidate, hidden_n = saved_TBK.unflatten(-1, (4, d)).unbind(-2)
    out = saved_TBK.new_empty(*previous_TBS.shape[:-1], 5, d)
    by_r, by_z, by_u_n, by_x_n, direct_part = out.unbind(-2)
    one_minus_z = 1 - update
    torch.mul(one_minus_z, 1 - candidate * candidate, out=by_x_n)
    torch.mul(by_x_n, reset, out=by_u_n)
    torch.mul(by_u_n, hidden_n, out=by_r).mul_(1 - reset)
    torch.sub(previous_TBS, candidate, out=by_z).mul_(update).mul_(one_minus_z)
    direct_part.copy_(update)
    return out


def gate_gradients(coefficients_TBCD: Tensor, delta_TBS: Tensor) -> Tensor:
    """(T, B, 3 D): the gradient of u_r, u_z, u_n."""
    return (coefficients_TBCD[..., :3, :] * delta_TBS.unsqueeze(-2)).flatten(-2)


def input_gradients(coefficients_TBCD: Tensor, gates_TBG: Tensor, delta_TBS: Tensor) -> Tensor:
    """(T, B, 3 D): the gradient of x_r, x_z, x_n; that of x_n has no factor r."""
    d = delta_TBS.shape[-1]
    gradients = gates_TBG.clone()
    torch.mul(coefficients_TBCD[..., 3, :], delta_TBS, out=gradients[..., 2 * d :])
    return gradients


def direct(coefficients_TBCD: Tensor, delta_TBS: Tensor) -> Tensor:
    """(T, B, D): z ⊙ δ, what flows to h_{t-1} without passing through W_hh."""
    return coefficients_TBCD[..., 4, :] * delta_TBS


def jacobian_diagonal(coefficients_TBCD: Tensor, weight_hh_GD: Tensor) -> Tensor:
    """(T, B, D): z + Σ over gates of coefficient ⊙ diag W_gate."""
    d = weight_hh_GD.shape[-1]
    diagonals_3D = weight_hh_GD.unflatten(0, (3, d)).diagonal(dim1=1, dim2=2)
    by_gate = coefficients_TBCD[..., :3, :]
    return (
        torch.addcmul(coefficients_TBCD[..., 4, :], by_gate[..., 0, :], diagonals_3D[0])
        .addcmul_(by_gate[..., 1, :], diagonals_3D[1])
        .addcmul_(by_gate[..., 2, :], diagonals_3D[2])
    )
