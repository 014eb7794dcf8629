"""Long short-term memory (Hochreiter & Schmidhuber, 1997) in torch.nn.LSTM's convention, as pure functions.

    i, f, o = σ(x + u)    g = tanh(x_g + u_g)    c' = f ⊙ c + i ⊙ g    h' = o ⊙ tanh(c'),    u = W_hh h + b_hh

Imports torch only. Shapes as in cell.py; the states are h and c; saved are i, f, g, o."""

from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Tensor

from ssrnn_kernels.cell import State

NAME = "lstm"
GATES = ("i", "f", "g", "o")
N_STATES = 2
N_SAVED = 4


def step(x: State, u: State, state: State) -> State:
    """The definition."""
    in_gate, forget, candidate, out_gate = (a + b for a, b in zip(x, u, strict=True))
    c = torch.sigmoid(forget) * state[1] + torch.sigmoid(in_gate) * torch.tanh(candidate)
    return torch.sigmoid(out_gate) * torch.tanh(c), c


def step_views(x_TBHGK: Tensor, u_BHGK: Tensor, saved_TBHQK: Tensor) -> Iterator[State]:
    """x, u and saved: all gates, i and f together, each alone."""
    saved = (part.unbind(0) for part in (saved_TBHQK, saved_TBHQK[..., :2, :], *saved_TBHQK.unbind(-2)))
    return zip(x_TBHGK.unbind(0), repeat(u_BHGK), *saved, strict=False)


def step_into(views: State, state: State, new_state: State) -> None:
    """The same step without autograd or allocation."""
    x, u, gates, gates_if, in_gate, forget, candidate, out_gate = views
    h, c = new_state
    torch.add(x, u, out=gates)
    gates_if.sigmoid_()
    candidate.tanh_()
    out_gate.sigmoid_()
    torch.mul(forget, state[1], out=c).addcmul_(in_gate, candidate)
    torch.tanh(c, out=h).mul_(out_gate)


def derivatives(saved_TBHQK: Tensor, before: State, after: State) -> Tensor:
    """(T, B, H, 6, K): dc'/du_i, dc'/du_f, dc'/du_g, ∂h'/∂u_o, ∂h'/∂c' = o(1 − tanh²c') and ∂c'/∂c = f."""
    in_gate, forget, candidate, out_gate = saved_TBHQK.unbind(-2)
    out = saved_TBHQK.new_empty(*saved_TBHQK.shape[:-2], 6, saved_TBHQK.shape[-1])
    by_i, by_f, by_g, by_o, by_c, direct_part = out.unbind(-2)
    torch.mul(candidate, in_gate, out=by_i).mul_(1 - in_gate)
    torch.mul(before[1], forget, out=by_f).mul_(1 - forget)
    torch.mul(in_gate, 1 - candidate * candidate, out=by_g)
    tanh_c = torch.tanh(after[1])
    torch.mul(tanh_c, out_gate, out=by_o)
    torch.addcmul(out_gate, by_o, tanh_c, value=-1, out=by_c)
    by_o.mul_(1 - out_gate)
    direct_part.copy_(forget)
    return out


def _delta_c(derivatives_TBHCK: Tensor, delta: State) -> Tensor:
    """All that reaches c': δ_c, and δ_h through h' = o tanh(c')."""
    return torch.addcmul(delta[1], derivatives_TBHCK[..., 4, :], delta[0])


def gate_gradients(derivatives_TBHCK: Tensor, delta: State) -> Tensor:
    """(T, B, H, 4, K): of u_i, u_f, u_g, u_o."""
    delta_c = _delta_c(derivatives_TBHCK, delta)
    out = derivatives_TBHCK.new_empty(*delta_c.shape[:-1], 4, delta_c.shape[-1])
    torch.mul(derivatives_TBHCK[..., :3, :], delta_c.unsqueeze(-2), out=out[..., :3, :])
    torch.mul(derivatives_TBHCK[..., 3, :], delta[0], out=out[..., 3, :])
    return out


def input_gradients(derivatives_TBHCK: Tensor, gates_TBHGK: Tensor, delta: State) -> Tensor:
    """Those of the hidden part."""
    return gates_TBHGK


def direct(derivatives_TBHCK: Tensor, delta: State) -> tuple[Tensor | None, ...]:
    """To h nothing; to c: f ⊙ (all that reaches c')."""
    return None, _delta_c(derivatives_TBHCK, delta).mul_(derivatives_TBHCK[..., 5, :])


def diagonal_into(derivatives_TBHCK: Tensor, weights: State, out_TBNNHK: Tensor) -> None:
    """[[p + q a, q f], [a, f]] with a = Σ dc'/du ⊙ diag W over i, f, g; p = ∂h'/∂u_o ⊙ diag W_o; q = ∂h'/∂c'."""
    by_i, by_f, by_g, by_o, by_c, forget = derivatives_TBHCK.unbind(-2)
    (hh, hc), (ch, cc) = (row.unbind(2) for row in out_TBNNHK.unbind(2))
    torch.mul(by_i, weights[0], out=ch).addcmul_(by_f, weights[1]).addcmul_(by_g, weights[2])
    torch.mul(by_o, weights[3], out=hh).addcmul_(by_c, ch)
    torch.mul(by_c, forget, out=hc)
    cc.copy_(forget)
