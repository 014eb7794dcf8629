"""The recurrence by torch's operations, step by step, without autograd: on any device, in any type.

Imports torch and a cell's `step`. T time, B batch, R rows, S states·units, Q saved, D units."""

from collections.abc import Callable

import torch
from torch import Tensor

from ssrnn_kernels.cell import Cell, Shape
from ssrnn_kernels.resets import steps_with_a_reset


def torch_forward(
    cell: Cell,
    shape: Shape,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_hh_R: Tensor,
    reset_TB: Tensor | None,
    states_TBS: Tensor,
    saved_TBQD: Tensor,
) -> None:
    """Fill states[1:] from states[0], and saved where it has room for all steps; inputs contiguous."""
    n_steps, n_batch, _ = inputs_TBR.shape
    multiply, product_BR = _step_product(shape, weight_hh_RK, n_batch)
    restarts = steps_with_a_reset(reset_TB, n_steps)
    saves = len(saved_TBQD) == n_steps
    for t, before in enumerate(states_TBS[:-1].unbind(0)):
        if reset_TB is not None and restarts[t]:
            before = before.masked_fill(reset_TB[t].unsqueeze(-1), 0)
        multiply(before[:, : shape.n_units])
        hidden = shape.gates(product_BR + bias_hh_R)
        new_state, to_save = cell.step(shape.gates(inputs_TBR[t]), hidden, shape.states(before))
        for target, value in zip(shape.states(states_TBS[t + 1]), new_state, strict=True):
            target.copy_(value)
        if saves:
            for target, value in zip(shape.saved(saved_TBQD[t]), to_save, strict=True):
                target.copy_(value)


def _step_product(shape: Shape, weight_hh_RK: Tensor, n_batch: int) -> tuple[Callable[[Tensor], object], Tensor]:
    """A function that multiplies (B, D) by every head's weights, and the one buffer (B, R) that it fills."""
    product_BR = weight_hh_RK.new_empty(n_batch, shape.n_rows)
    if shape.n_heads == 1:
        weight_KR = weight_hh_RK.t()
        return lambda h_BD: torch.mm(h_BD, weight_KR, out=product_BR), product_BR
    weight_HKR = shape.per_head(weight_hh_RK).transpose(1, 2)
    product_HBR = product_BR.unflatten(-1, (shape.n_heads, -1)).transpose(0, 1)

    def head_by_head(h_BD: Tensor) -> None:
        torch.bmm(h_BD.unflatten(-1, (shape.n_heads, -1)).transpose(0, 1), weight_HKR, out=product_HBR)

    return head_by_head, product_BR
