"""The recurrence over a window as layers and users call it: who runs it, a torch.library op, its gradients.

Imports torch; Triton only where it is chosen. T time, B batch, R rows, K units a head, S states·units, Q saved."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssrnn_kernels.autocasting import autocast, in_the_types_given
from ssrnn_kernels.backends import backend_for
from ssrnn_kernels.cell import Cell, Shape, check_tensors, check_weights, is_float
from ssrnn_kernels.cells import get_cell
from ssrnn_kernels.fused_bptt.op import fused_bptt
from ssrnn_kernels.fused_recurrence.aten import aten_forward, has_layer
from ssrnn_kernels.fused_recurrence.compiled import compiled_forward
from ssrnn_kernels.fused_recurrence.torch_loop import torch_forward
from ssrnn_kernels.window import Window


def fused_recurrence(
    cell: str,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_hh_R: Tensor,
    state_BS: Tensor,
    reset_TB: Tensor | None = None,
    *,
    save: bool = True,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The states (T + 1, B, S), the initial one first, and the saved gates (T, B, Q, units), which the backward reads.

    cell: a name of ssrnn_kernels.cells.  inputs_TBR: W_ih x + b_ih of all steps, rows by head, gate and unit.
    reset_TB: bool; true where a step starts a document, from a zero state.
    save: without it nothing is saved but the states, and nothing can be differentiated.
    backend: "auto" (backends.py has the rule), "torch", "aten" (cuDNN on a GPU), "compiled", "triton".

    Differentiable in all four tensors, once, exactly: by BPTT. Under autocast all are taken in its type.
    ValueError names what is wrong and what is allowed."""
    return _op(cell, *autocast(inputs_TBR, weight_hh_RK, bias_hh_R, state_BS), reset_TB, save, backend)


@dataclass(frozen=True)
class Trajectory:
    """A window's states, and what the backward needs of each step."""

    states_TBS: Tensor  # T + 1 states: the initial one first
    saved_TBQD: Tensor | None  # the gates; None where nothing will be differentiated

    @property
    def after_TBS(self) -> Tensor:
        """The state after each step."""
        return self.states_TBS[1:]


@in_the_types_given
def recur(
    cell: Cell,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_hh_R: Tensor,
    state_BS: Tensor,
    reset_TB: Tensor | None,
    *,
    save: bool,
    backend: str = "auto",
) -> Trajectory:
    """Run the cell over a window, as recurrence_reference defines it, past autograd.

    save: keep what the cell saves of every step for the backward.
    ValueError: a tensor of another shape or type than the inputs and the weights ask for."""
    check_window(cell, inputs_TBR, weight_hh_RK, bias_hh_R, state_BS, reset_TB)
    shape, (n_steps, n_batch, _) = Shape.of(cell, weight_hh_RK), inputs_TBR.shape
    inputs_TBR = inputs_TBR.contiguous()
    states = inputs_TBR.new_empty(n_steps + 1, n_batch, state_BS.shape[-1])
    states[0] = state_BS
    saved = inputs_TBR.new_empty(n_steps if save else 1, n_batch, cell.N_SAVED, shape.n_units)
    forward = _forward_by(backend_for(backend, cell, inputs_TBR, shape, has_aten=has_layer(cell, shape)))
    if inputs_TBR.numel():
        forward(cell, shape, inputs_TBR, weight_hh_RK, bias_hh_R, reset_TB, states, saved)
    return Trajectory(states, saved if save else None)


def check_window(
    cell: Cell, inputs_TBR: Tensor, weight_hh_RK: Tensor, bias_hh_R: Tensor, state_BS: Tensor, reset_TB: Tensor | None
) -> None:
    """ValueError names the first tensor whose shape or type is not what the inputs and the weights ask for."""
    if inputs_TBR.dim() != 3 or not is_float(inputs_TBR):
        raise ValueError(
            f"inputs: shape {tuple(inputs_TBR.shape)}, {inputs_TBR.dtype}; allowed: (T, B, R), floating-point"
        )
    n_steps, n_batch, n_rows = inputs_TBR.shape
    check_weights(cell, weight_hh_RK, n_rows, inputs_TBR)
    shape = Shape.of(cell, weight_hh_RK)
    wanted = {
        "bias_hh": (bias_hh_R, (shape.n_rows,), inputs_TBR.dtype),
        "state": (state_BS, (n_batch, shape.n_states * shape.n_units), inputs_TBR.dtype),
        **({} if reset_TB is None else {"reset": (reset_TB, (n_steps, n_batch), torch.bool)}),
    }
    check_tensors(wanted, inputs_TBR.device)


def _forward_by(backend: str) -> Callable[..., None]:
    if backend == "compiled":
        return compiled_forward
    if backend == "torch":
        return torch_forward
    if backend == "aten":
        return aten_forward
    from ssrnn_kernels.fused_recurrence.triton import triton_forward

    return triton_forward


@torch.library.custom_op("ssrnn::fused_recurrence", mutates_args=())
def _op(
    cell: str,
    inputs: Tensor,
    weight_hh: Tensor,
    bias_hh: Tensor,
    state: Tensor,
    reset: Tensor | None,
    save: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    done = recur(get_cell(cell), inputs, weight_hh, bias_hh, state, reset, save=save, backend=backend)
    return done.states_TBS, _nothing_saved(inputs) if done.saved_TBQD is None else done.saved_TBQD


@_op.register_fake
def _(
    cell: str,
    inputs: Tensor,
    weight_hh: Tensor,
    bias_hh: Tensor,
    state: Tensor,
    reset: Tensor | None,
    save: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    module = get_cell(cell)
    check_window(module, inputs, weight_hh, bias_hh, state, reset)
    n_steps, n_batch, _ = inputs.shape
    states = inputs.new_empty(n_steps + 1, n_batch, state.shape[-1])
    if not save:
        return states, _nothing_saved(inputs)
    return states, inputs.new_empty(n_steps, n_batch, module.N_SAVED, state.shape[-1] // module.N_STATES)


def _nothing_saved(inputs: Tensor) -> Tensor:
    return inputs.new_empty(0)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    cell, _, weight_hh, _, _, reset, save, backend = inputs
    states, saved = output
    ctx.save_for_backward(states, saved, weight_hh, reset)
    ctx.cell, ctx.save, ctx.backend = cell, save, "auto" if backend == "aten" else backend  # of the way back
    ctx.mark_non_differentiable(saved)


def _gradients(ctx: Any, grad_states: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    if not ctx.save:
        raise RuntimeError("fused_recurrence saved nothing to differentiate; save=True is wanted")
    states, saved, weight_hh, reset = ctx.saved_tensors
    gradients = bptt_gradients(ctx.cell, states, saved, weight_hh, reset, grad_states, ctx.backend)
    return (None, *gradients, None, None, None)


@in_the_types_given
def bptt_gradients(
    cell: str,
    states: Tensor,
    saved: Tensor,
    weight_hh: Tensor,
    reset: Tensor | None,
    grad_states: Tensor,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of inputs, weights, bias and the initial state, from those of all T + 1 states."""
    delta, to_hidden, to_inputs = fused_bptt(cell, states, saved, weight_hh, grad_states[1:], reset, backend=backend)
    window = Window(get_cell(cell), states, saved, weight_hh, reset)
    to_state = grad_states[0]
    if window.n_steps:
        to_state = to_state + window.first_steps(1).full_flow(delta[:1])[0]
    return to_inputs, window.weight_gradient(to_hidden), to_hidden.sum(dim=(0, 1)), to_state


_op.register_autograd(_gradients, setup_context=_keep)
