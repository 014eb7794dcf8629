"""The recurrence as autograd sees it: the forward loop once, gates saved; the backward by the layer's rule.

Imports torch, the kernels and solve.py. T time, B batch, D units, G gates·units, S states·units."""

from typing import Any

import torch
from torch import Tensor

from ssrnn_dist.feedback.layer_feedback import LayerFeedback
from ssrnn_dist.feedback.once import refuse_double_backward
from ssrnn_dist.feedback.solve import Window, solve_feedback
from ssrnn_kernels.cells import Cell
from ssrnn_kernels.recurrence import Trajectory, recur


def recurrence(
    cell: Cell,
    feedback: LayerFeedback,
    inputs_TBG: Tensor,
    weight_hh_GD: Tensor,
    bias_hh_G: Tensor,
    state_BS: Tensor,
    reset_TB: Tensor | None = None,
) -> Tensor:
    """(T, B, S): the state after each step, with gradients by the layer's rule for all four tensors.

    Gradients of gradients are refused: the rule defines no second derivative."""
    wanted = torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (inputs_TBG, weight_hh_GD, bias_hh_G, state_BS)
    )
    if not wanted:
        return recur(cell, inputs_TBG, weight_hh_GD, bias_hh_G, state_BS, reset_TB, save=False).after_TBS
    return _Recurrence.apply(inputs_TBG, weight_hh_GD, bias_hh_G, state_BS, reset_TB, cell, feedback)


def observe_diagonal(
    cell: Cell,
    feedback: LayerFeedback,
    inputs_TBG: Tensor,
    weight_hh_GD: Tensor,
    bias_hh_G: Tensor,
    state_BS: Tensor,
    reset_TB: Tensor | None,
) -> Tensor:
    """The forward alone, telling the layer diag(J): how a calibrated decay gets its first value."""
    trajectory = recur(cell, inputs_TBG, weight_hh_GD, bias_hh_G, state_BS, reset_TB, save=True)
    window, _ = _window(cell, trajectory, weight_hh_GD, reset_TB)
    feedback.saw_diagonal(cell.jacobian_diagonal(window.coefficients_TBCD, weight_hh_GD), reset_TB)
    return trajectory.after_TBS


def _window(cell: Cell, trajectory: Trajectory, weight_hh_GD: Tensor, reset_TB: Tensor | None) -> tuple[Window, Tensor]:
    """The local derivatives of a window, and the state (T, B, S) that each step really started from."""
    previous_TBS = trajectory.states_TBS[:-1]
    if reset_TB is not None and bool(reset_TB.any()):
        previous_TBS = previous_TBS.masked_fill(reset_TB.unsqueeze(-1), 0)
    else:
        reset_TB = None
    assert trajectory.saved_TBK is not None
    coefficients = cell.coefficients(trajectory.saved_TBK, previous_TBS)
    return Window(cell, coefficients, weight_hh_GD, reset_TB), previous_TBS


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs_TBG: Tensor,
        weight_hh_GD: Tensor,
        bias_hh_G: Tensor,
        state_BS: Tensor,
        reset_TB: Tensor | None,
        cell: Cell,
        feedback: LayerFeedback,
    ) -> Tensor:
        trajectory = recur(cell, inputs_TBG, weight_hh_GD, bias_hh_G, state_BS, reset_TB, save=True)
        ctx.save_for_backward(trajectory.states_TBS, trajectory.saved_TBK, weight_hh_GD, reset_TB)
        ctx.cell, ctx.feedback = cell, feedback
        return trajectory.after_TBS

    @staticmethod
    def backward(ctx: Any, error_TBS: Tensor) -> tuple[Tensor | None, ...]:
        refuse_double_backward()
        states, saved, weight_hh_GD, reset_TB = ctx.saved_tensors
        cell: Cell = ctx.cell
        window, previous_TBS = _window(cell, Trajectory(states, saved), weight_hh_GD, reset_TB)
        delta = solve_feedback(window, error_TBS, ctx.feedback)
        gates_TBG = cell.gate_gradients(window.coefficients_TBCD, delta)
        d = weight_hh_GD.shape[-1]
        grad_weight = gates_TBG.flatten(0, 1).t() @ previous_TBS[..., :d].flatten(0, 1)
        grad_bias = gates_TBG.sum(dim=(0, 1))
        grad_inputs = cell.input_gradients(window.coefficients_TBCD, gates_TBG, delta)
        grad_state = window.full_flow(delta[:1])[0] if ctx.needs_input_grad[3] else None
        return grad_inputs, grad_weight, grad_bias, grad_state, None, None, None
