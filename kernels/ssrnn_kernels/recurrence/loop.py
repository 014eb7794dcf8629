"""The recurrence in one loop without autograd, which saves the gates as it goes: nothing is computed twice.

Imports torch, and the compiled loop where there is one. T time, B batch, R rows, S states·units, Q saved, D units."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ssrnn_kernels.cell import Cell, Shape
from ssrnn_kernels.cpu.build import library_for
from ssrnn_kernels.cpu.forward import compiled_forward
from ssrnn_kernels.resets import steps_with_a_reset


@dataclass(frozen=True)
class Trajectory:
    """A window's states, and what the backward needs of each step."""

    states_TBS: Tensor  # T + 1 states: the initial one first
    saved_TBQD: Tensor | None  # the gates; None where nothing will be differentiated

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

    save: keep what the cell saves of every step for the backward.
    ValueError: a tensor of another shape or type than the inputs and the weights ask for."""
    shape = Shape.of(cell, weight_hh_RK)
    n_steps, n_batch, _ = inputs_TBR.shape
    _check(shape, inputs_TBR, weight_hh_RK, bias_hh_R, state_BS, reset_TB)
    inputs_TBR = inputs_TBR.contiguous()
    states = inputs_TBR.new_empty(n_steps + 1, n_batch, state_BS.shape[-1])
    states[0] = state_BS
    saved = inputs_TBR.new_empty(n_steps if save else 1, n_batch, cell.N_SAVED, shape.n_units)
    library = library_for(cell, inputs_TBR)
    if library is not None:
        compiled_forward(library, shape, inputs_TBR, weight_hh_RK, bias_hh_R, reset_TB, states, saved)
    else:
        _torch_forward(cell, shape, inputs_TBR, weight_hh_RK, bias_hh_R, reset_TB, states, saved)
    return Trajectory(states, saved if save else None)


def _check(
    shape: Shape, inputs_TBR: Tensor, weight_hh_RK: Tensor, bias_hh_R: Tensor, state_BS: Tensor, reset_TB: Tensor | None
) -> None:
    n_steps, n_batch, _ = inputs_TBR.shape
    wanted = {
        "inputs": (inputs_TBR, (n_steps, n_batch, shape.n_rows), inputs_TBR.dtype),
        "weight_hh": (weight_hh_RK, (shape.n_rows, shape.head_size), inputs_TBR.dtype),
        "bias_hh": (bias_hh_R, (shape.n_rows,), inputs_TBR.dtype),
        "state": (state_BS, (n_batch, shape.n_states * shape.n_units), inputs_TBR.dtype),
        **({} if reset_TB is None else {"reset": (reset_TB, (n_steps, n_batch), torch.bool)}),
    }
    for name, (tensor, size, dtype) in wanted.items():
        if tensor.shape != size or tensor.dtype != dtype:
            raise ValueError(f"{name}: shape {tuple(tensor.shape)}, {tensor.dtype}; allowed: {size}, {dtype}")


def _torch_forward(
    cell: Cell,
    shape: Shape,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_hh_R: Tensor,
    reset_TB: Tensor | None,
    states_TBS: Tensor,
    saved_TBQD: Tensor,
) -> None:
    """The same by torch's operations, step by step: on any device, in any type."""
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
