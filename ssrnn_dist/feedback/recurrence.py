"""The recurrence as autograd sees it: the forward loop once, gates saved; the backward by the layer's rule.

Imports torch, the kernels and solve.py. T time, B batch, R rows of the weights, K units a head, S states·units."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ssrnn_dist.feedback.layer_feedback import LayerFeedback
from ssrnn_dist.feedback.once import (
    refuse_batched_gradients,
    refuse_double_backward,
    refuse_function_transforms,
    refuse_tangents,
    refuse_tracing,
)
from ssrnn_dist.feedback.solve import solve_chunk, solve_feedback
from ssrnn_kernels.cell import Cell
from ssrnn_kernels.fused_recurrence import Trajectory, recur
from ssrnn_kernels.window import Solved, Window


def recurrence(
    cell: Cell,
    feedback: LayerFeedback,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_hh_R: Tensor,
    state_BS: Tensor,
    reset_TB: Tensor | None = None,
) -> Tensor:
    """(T, B, S): the state after each step, with gradients by the layer's rule for all four tensors.

    Gradients of gradients are refused: the rule defines no second derivative. torch.compile leaves the graph here,
    as it does for torch.nn.GRU; what stands around it is compiled."""
    run = torch.compiler.disable(_run) if torch.compiler.is_compiling() else _run  # a decorator would load the compiler
    return run(cell, feedback, inputs_TBR, weight_hh_RK, bias_hh_R, state_BS, reset_TB)


def recurrence_of_chunk(
    cell: Cell,
    feedback: LayerFeedback,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_hh_R: Tensor,
    state_BS: Tensor,
    reset_TB: Tensor | None,
    before_KBS: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """recurrence over a chunk of a window, and what hangs it together with the chunk after it.

    before_KBS: what the chunk before gave so; None for a window's first. Of zeros, and nothing is made of them: their
    gradient is what flows back over the edge between two chunks, of the scan and of each sweep. Chunks by BPTT hang
    together by their states alone. The rule decides by the chunk which sweeps grow; `auto` has no rule for chunks."""
    tensors = (inputs_TBR, weight_hh_RK, bias_hh_R, state_BS)
    _refuse_what_has_no_rule(*tensors)
    return _Chunk.apply(*tensors, reset_TB, before_KBS, cell, feedback)


def _refuse_what_has_no_rule(*tensors: Tensor) -> None:
    refuse_function_transforms()
    refuse_tracing()
    refuse_tangents(*tensors)


def _run(
    cell: Cell,
    feedback: LayerFeedback,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_hh_R: Tensor,
    state_BS: Tensor,
    reset_TB: Tensor | None,
) -> Tensor:
    tensors = (inputs_TBR, weight_hh_RK, bias_hh_R, state_BS)
    _refuse_what_has_no_rule(*tensors)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return _Recurrence.apply(*tensors, reset_TB, cell, feedback)
    trajectory = recur(cell, *tensors, reset_TB, save=feedback.observing)
    if feedback.observing:
        window = _window(cell, trajectory, weight_hh_RK, reset_TB)
        feedback.saw_diagonal(window.diagonal(), window.reset_TB)
    return trajectory.after_TBS


def _window(cell: Cell, trajectory: Trajectory, weight_hh_RK: Tensor, reset_TB: Tensor | None) -> Window:
    """A window's trajectory for the backward; on a CPU resets only where there are any, which a GPU is not asked."""
    assert trajectory.saved_TBQD is not None
    if reset_TB is not None and not reset_TB.is_cuda and not reset_TB.any():
        reset_TB = None
    return Window(cell, trajectory.states_TBS, trajectory.saved_TBQD, weight_hh_RK, reset_TB)


def _kept(ctx: Any, cell: Cell, feedback: LayerFeedback, tensors: Sequence[Tensor], reset_TB: Tensor | None) -> Tensor:
    """(T, B, S): the forward, with all that its backward asks for in ctx."""
    inputs_TBR, weight_hh_RK, bias_hh_R, state_BS = tensors
    trajectory = recur(cell, inputs_TBR, weight_hh_RK, bias_hh_R, state_BS, reset_TB, save=True)
    ctx.save_for_backward(trajectory.states_TBS, trajectory.saved_TBQD, weight_hh_RK, reset_TB)
    ctx.cell, ctx.feedback = cell, feedback
    return trajectory.after_TBS


def _kept_window(ctx: Any) -> Window:
    states, saved, weight_hh_RK, reset_TB = ctx.saved_tensors
    return _window(ctx.cell, Trajectory(states, saved), weight_hh_RK, reset_TB)


def _gradients(ctx: Any, window: Window, solved: Solved, *, by_state: bool = True) -> tuple[Tensor | None, ...]:
    """Of inputs, weights, bias and state, those that are asked for.  by_state: does anything go back by the state?"""
    wants_inputs, wants_weight, wants_bias, wants_state = ctx.needs_input_grad[:4]
    return (
        solved.inputs_TBR if wants_inputs else None,
        window.weight_gradient(solved.gates_TBR) if wants_weight else None,
        solved.gates_TBR.sum(dim=(0, 1)) if wants_bias else None,
        window.first_steps(1).full_flow(solved.delta_TBS[:1])[0] if wants_state and by_state else None,
    )


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs_TBR: Tensor,
        weight_hh_RK: Tensor,
        bias_hh_R: Tensor,
        state_BS: Tensor,
        reset_TB: Tensor | None,
        cell: Cell,
        feedback: LayerFeedback,
    ) -> Tensor:
        return _kept(ctx, cell, feedback, (inputs_TBR, weight_hh_RK, bias_hh_R, state_BS), reset_TB)

    @staticmethod
    def backward(ctx: Any, error_TBS: Tensor) -> tuple[Tensor | None, ...]:
        refuse_double_backward()
        refuse_batched_gradients(error_TBS)
        window = _kept_window(ctx)
        with torch.autocast(error_TBS.device.type, enabled=False):
            solved = solve_feedback(window, error_TBS, ctx.feedback)
            return *_gradients(ctx, window, solved), None, None, None


class _Chunk(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs_TBR: Tensor,
        weight_hh_RK: Tensor,
        bias_hh_R: Tensor,
        state_BS: Tensor,
        reset_TB: Tensor | None,
        before_KBS: Tensor | None,
        cell: Cell,
        feedback: LayerFeedback,
    ) -> tuple[Tensor, Tensor]:
        after_TBS = _kept(ctx, cell, feedback, (inputs_TBR, weight_hh_RK, bias_hh_R, state_BS), reset_TB)
        ctx.is_first = before_KBS is None
        ctx.set_materialize_grads(False)
        return after_TBS, state_BS.new_zeros(feedback.sweeps + 1, *state_BS.shape)

    @staticmethod
    def backward(ctx: Any, error_TBS: Tensor | None, beyond_KBS: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_double_backward()
        window = _kept_window(ctx)
        if error_TBS is None:
            error_TBS = torch.zeros_like(window.states_TBS[1:])
        refuse_batched_gradients(error_TBS)
        with torch.autocast(error_TBS.device.type, enabled=False):
            solved, onward_KBS = solve_chunk(window, error_TBS, ctx.feedback, beyond_KBS)
            by_state = ctx.is_first or onward_KBS is None  # else the edge is crossed by onward_KBS
            found = _gradients(ctx, window, solved, by_state=by_state)
            return *found, None, None if ctx.is_first else onward_KBS, None, None
