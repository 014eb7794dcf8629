"""A pass of feedback back in time by the cell's compiled kernel, as torch_pass.py defines it: float32 on a CPU.

Imports torch. T time, B batch, R rows of the weights, D units, N states a unit, S = N·D, G gates."""

from typing import Any

import torch
from torch import Tensor

from ssrnn_kernels.cpu.build import Library, kernel_arguments
from ssrnn_kernels.fused_feedback.torch_pass import Pass, room_for_pass
from ssrnn_kernels.fused_feedback.window import Window


def compiled_pass(
    library: Library,
    window: Window,
    decay_NND: Tensor | None,
    error_TBS: Tensor,
    flow_TBD: Tensor | None = None,
    before: Pass | None = None,
    *,
    last: bool,
) -> Pass:
    """torch_pass, in one walk back in time that keeps the derivatives in registers; the pass before is overwritten."""
    shape, error_TBS = window.shape, error_TBS.contiguous()
    asked = {"inputs": last and library.inputs_differ, "rest": decay_NND is not None and not last}
    delta, gates, inputs, rest = room_for_pass(window, error_TBS, before, **asked)
    squares = torch.zeros(error_TBS.shape[1], 2, dtype=torch.float64)
    arguments = pass_arguments(
        window, torch.stack(shape.own_weights(window.weight_hh_RK)), decay_NND, error_TBS, flow_TBD,
        None if before is None else before.rest_TBS, delta, gates, inputs, rest, squares,
    )  # fmt: skip
    library.pass_back(arguments, decay_NND is None, before is None, last)
    return Pass(delta, gates, (gates if inputs is None else inputs) if last else None, rest, *squares.sqrt().unbind(1))


def pass_arguments(
    window: Window,
    own_weights: Tensor,  # (G, D), or (G, H, K)
    decay_NND: Tensor | None,
    error_TBS: Tensor,
    flow_TBD: Tensor | None,
    rest_before_TBS: Tensor | None,
    delta_TBS: Tensor,
    gates_TBR: Tensor,
    inputs_TBR: Tensor | None,
    rest_TBS: Tensor | None,
    squares_B2: Tensor | None,
    weights: Tensor | None = None,
) -> Any:
    """The struct Pass of cpu/kernels.c, which says what each is; the carry starts at zero."""
    n_steps, n_batch, d_state = error_TBS.shape
    shape, zeros_S = window.shape, error_TBS.new_zeros(d_state)
    numbers = (n_steps, n_batch, shape.n_heads, shape.head_size, torch.get_num_threads())
    tensors = (
        window.states_TBS, window.saved_TBQD, own_weights,
        error_TBS.new_zeros(shape.n_states, d_state) if decay_NND is None else decay_NND.contiguous(),
        None if window.reset_TB is None else window.reset_TB.contiguous(),
        error_TBS, None if flow_TBD is None else flow_TBD.contiguous(), rest_before_TBS, zeros_S,
        delta_TBS, gates_TBR, inputs_TBR, rest_TBS, error_TBS.new_zeros(n_batch, d_state), squares_B2, weights,
    )  # fmt: skip
    return kernel_arguments(numbers, tensors)
