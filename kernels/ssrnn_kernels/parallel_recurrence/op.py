"""The parallel forward as users call it: by sweeps, or step by step where they do not converge; a torch.library op.

Imports torch. T time, B batch, R rows of the weights, K units a head, S states·units, Q saved values."""

import logging
from typing import Any

import torch
from torch import Tensor

from ssrnn_kernels.autocasting import autocast
from ssrnn_kernels.cells import get_cell
from ssrnn_kernels.fused_recurrence.op import bptt_gradients, check_window, recur
from ssrnn_kernels.parallel_recurrence.solve import solve_forward

MOST_SWEEPS = 64


def parallel_recurrence(
    cell: str,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_hh_R: Tensor,
    state_BS: Tensor,
    reset_TB: Tensor | None = None,
    *,
    tolerance: float = 1e-4,
    most_sweeps: int = MOST_SWEEPS,
) -> tuple[Tensor, Tensor, int]:
    """fused_recurrence's states (T + 1, B, S) and saved gates (T, B, Q, units), all steps at once, and the sweeps made.

    Sweeps until ‖f(s_{t−1}, x_t) − s_t‖ ≤ tolerance · ‖s‖ in every sequence; where they do not come to that within
    most_sweeps, the window is run step by step, which is logged, and 0 sweeps are reported.
    Differentiable in all four tensors, once, by BPTT through the states found. ValueError as fused_recurrence."""
    tensors = autocast(inputs_TBR, weight_hh_RK, bias_hh_R, state_BS)
    states, saved, sweeps = _op(cell, *tensors, reset_TB, tolerance, most_sweeps)
    return states, saved, int(sweeps)


@torch.library.custom_op("ssrnn::parallel_recurrence", mutates_args=())
def _op(
    cell: str,
    inputs: Tensor,
    weight_hh: Tensor,
    bias_hh: Tensor,
    state: Tensor,
    reset: Tensor | None,
    tolerance: float,
    most_sweeps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    if not tolerance > 0:
        raise ValueError(f"tolerance: {tolerance}; allowed: more than 0")
    if most_sweeps < 1:
        raise ValueError(f"most_sweeps: {most_sweeps}; allowed: 1 or more")
    module, given = get_cell(cell), (inputs, weight_hh, bias_hh, state, reset)
    check_window(module, *given)
    done = solve_forward(module, *given, tolerance, most_sweeps)
    if done.converged:
        return done.states_TBS, done.saved_TBQD, torch.tensor(done.sweeps)
    told = f"{done.sweeps} parallel sweeps left a residual of {done.residual:.2g}, over {tolerance:.2g}"
    logging.getLogger(__name__).warning("%s: step by step instead", told)
    in_turn = recur(module, *given, save=True)
    assert in_turn.saved_TBQD is not None
    return in_turn.states_TBS, in_turn.saved_TBQD, torch.tensor(0)


@_op.register_fake
def _(
    cell: str,
    inputs: Tensor,
    weight_hh: Tensor,
    bias_hh: Tensor,
    state: Tensor,
    reset: Tensor | None,
    tolerance: float,
    most_sweeps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    module = get_cell(cell)
    check_window(module, inputs, weight_hh, bias_hh, state, reset)
    n_steps, n_batch, _ = inputs.shape
    saved = inputs.new_empty(n_steps, n_batch, module.N_SAVED, state.shape[-1] // module.N_STATES)
    return inputs.new_empty(n_steps + 1, *state.shape), saved, torch.empty((), dtype=torch.int64)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    cell, _, weight_hh, _, _, reset, _, _ = inputs
    states, saved, _ = output
    ctx.save_for_backward(states, saved, weight_hh, reset)
    ctx.cell = cell
    ctx.mark_non_differentiable(saved)


def _gradients(ctx: Any, grad_states: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    states, saved, weight_hh, reset = ctx.saved_tensors
    return (None, *bptt_gradients(ctx.cell, states, saved, weight_hh, reset, grad_states), None, None, None)


_op.register_autograd(_gradients, setup_context=_keep)
