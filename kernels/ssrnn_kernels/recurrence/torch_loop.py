"""The recurrence in one loop without autograd, which saves the gates as it goes: nothing is computed twice.

Imports torch and a cell's `step_into`. T time, B batch, H heads, G gates, K units a head, S states·units."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ssrnn_kernels.cell import Cell, Shape


@dataclass(frozen=True)
class Trajectory:
    """A window's states, and what the backward needs of each step."""

    states_TBS: Tensor  # T + 1 states: the initial one first
    saved_TBHQK: Tensor | None  # the gates; None where nothing will be differentiated

    @property
    def after_TBS(self) -> Tensor:
        """The state after each step."""
        return self.states_TBS[1:]


def recur(
    cell: Cell,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_hh_R: Tensor,
    state_BS: Tensor,
    reset_TB: Tensor | None,
    *,
    save: bool,
) -> Trajectory:
    """Run the cell over a window, as recurrence_reference defines it.

    save: keep what the cell saves of every step for the backward."""
    shape = Shape.of(cell, weight_hh_RK)
    n_steps, n_batch, _ = inputs_TBR.shape
    states = inputs_TBR.new_empty(n_steps + 1, n_batch, state_BS.shape[-1])
    states[0] = state_BS
    steps_saved = n_steps if save else 1
    saved = inputs_TBR.new_empty(steps_saved, n_batch, shape.n_heads, cell.N_SAVED, shape.head_size)
    multiply, hidden_BHGK = _hidden_product(shape, weight_hh_RK, bias_hh_R, n_batch)
    restarts = _steps_with_a_reset(reset_TB, n_steps)
    views = cell.step_views(
        shape.gates(inputs_TBR), hidden_BHGK, saved if save else saved.expand(n_steps, -1, -1, -1, -1)
    )
    state_of = list(zip(*(part.unbind(0) for part in shape.states(states)), strict=True))
    for t, step_views in enumerate(views):
        previous = state_of[t]
        if reset_TB is not None and restarts[t]:
            previous = tuple(part.masked_fill(reset_TB[t, :, None, None], 0) for part in previous)
        multiply(previous[0])
        cell.step_into(step_views, previous, state_of[t + 1])
    return Trajectory(states, saved if save else None)


def _hidden_product(
    shape: Shape, weight_hh_RK: Tensor, bias_hh_R: Tensor, n_batch: int
) -> tuple[Callable[[Tensor], object], Tensor]:
    """The product W_hh h + b_hh of a step, and the one buffer (B, H, G, K) that it fills."""
    n_heads, head_size = shape.n_heads, shape.head_size
    n_rows = len(bias_hh_R) // n_heads
    bias_H1R = bias_hh_R.view(n_heads, 1, n_rows)
    hidden_HBR = weight_hh_RK.new_empty(n_heads, n_batch, n_rows)
    hidden_BHGK = hidden_HBR.unflatten(-1, (shape.n_gates, head_size)).transpose(0, 1)
    if n_heads > 1:
        weight_HKR = shape.per_head(weight_hh_RK).transpose(1, 2).contiguous()
        return lambda h_BHK: torch.baddbmm(bias_H1R, h_BHK.transpose(0, 1), weight_HKR, out=hidden_HBR), hidden_BHGK
    hidden_BR = hidden_HBR[0]
    if _weights_go_left(weight_hh_RK, n_batch):
        product_RB = weight_hh_RK.new_empty(n_rows, n_batch)

        def weights_left(h_BHK: Tensor) -> None:
            torch.mm(weight_hh_RK, h_BHK[:, 0].t(), out=product_RB)
            torch.add(bias_hh_R, product_RB.t(), out=hidden_BR)

        return weights_left, hidden_BHGK
    weight_KR = weight_hh_RK.t().contiguous()
    return lambda h_BHK: torch.addmm(bias_hh_R, h_BHK[:, 0], weight_KR, out=hidden_BR), hidden_BHGK


def _weights_go_left(weight_hh_RK: Tensor, n_batch: int) -> bool:
    """Is W h faster than h Wᵀ?  On several threads of a CPU, for large weights and few sequences (LOG.md)."""
    on_threads = weight_hh_RK.device.type == "cpu" and torch.get_num_threads() > 1
    return on_threads and weight_hh_RK.numel() >= 2**18 and 2 <= n_batch <= 32


def _steps_with_a_reset(reset_TB: Tensor | None, n_steps: int) -> list[bool]:
    """Per step: does any sequence restart there?  One transfer for the window instead of one a step."""
    return [False] * n_steps if reset_TB is None else reset_TB.any(dim=1).tolist()
