"""The simple recurrent network (Elman, 1990) in torch.nn.RNN's convention, as pure functions.

    h' = tanh(x + u),    u = W_hh h + b_hh

Imports torch only. Shapes as in cell.py; nothing is saved: the derivative is in h' itself."""

from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Tensor

from ssrnn_kernels.cell import State

NAME = "elman"
GATES = ("h",)
N_STATES = 1
N_SAVED = 0


def step(x: State, u: State, state: State) -> State:
    """The definition."""
    return (torch.tanh(x[0] + u[0]),)


def step_views(x_TBHGK: Tensor, u_BHGK: Tensor, saved_TBHQK: Tensor) -> Iterator[State]:
    """x of each step, and u."""
    return zip(x_TBHGK[..., 0, :].unbind(0), repeat(u_BHGK[..., 0, :]), strict=False)


def step_into(views: State, state: State, new_state: State) -> None:
    """The same step without autograd or allocation."""
    x, u = views
    torch.add(x, u, out=new_state[0]).tanh_()


def derivatives(saved_TBHQK: Tensor, before: State, after: State) -> Tensor:
    """(T, B, H, 1, K): 1 − h'²."""
    return torch.addcmul(after[0].new_ones(()), after[0], after[0], value=-1).unsqueeze(-2)


def gate_gradients(derivatives_TBHCK: Tensor, delta: State) -> Tensor:
    """(T, B, H, 1, K)."""
    return derivatives_TBHCK * delta[0].unsqueeze(-2)


def input_gradients(derivatives_TBHCK: Tensor, gates_TBHGK: Tensor, delta: State) -> Tensor:
    """Those of the hidden part."""
    return gates_TBHGK


def direct(derivatives_TBHCK: Tensor, delta: State) -> tuple[Tensor | None, ...]:
    """All passes through W_hh."""
    return (None,)


def diagonal_into(derivatives_TBHCK: Tensor, weights: State, out_TBNNHK: Tensor) -> None:
    """(1 − h'²) ⊙ diag W."""
    torch.mul(derivatives_TBHCK[..., 0, :], weights[0], out=out_TBNNHK[:, :, 0, 0])
