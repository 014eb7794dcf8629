"""BPTT back through a window, to compare with and to choose: the definition by torch, and with the compiled step.

Imports torch. T time, B batch, R rows of the weights, S states·units."""

import torch
from torch import Tensor

from ssrnn_kernels.cpu.build import Library, library_for
from ssrnn_kernels.fused_feedback.compiled_pass import pass_arguments
from ssrnn_kernels.fused_feedback.window import Solved, Window
from ssrnn_kernels.recurrence.product import step_product
from ssrnn_kernels.resets import steps_with_a_reset


def exact_feedback(window: Window, error_TBS: Tensor) -> Solved:
    """δ_t = e_t + J_{t+1}ᵀ δ_{t+1}, one step after the other."""
    library = library_for(window.cell, error_TBS)
    return _by_torch(window, error_TBS) if library is None else _compiled(library, window, error_TBS)


def _by_torch(window: Window, error_TBS: Tensor) -> Solved:
    delta = error_TBS.clone()
    for t in reversed(range(window.n_steps - 1)):
        delta[t] += window.full_flow(delta[t + 1 : t + 2], t + 1)[0]
    return window.solved(delta)


def _compiled(library: Library, window: Window, error_TBS: Tensor) -> Solved:
    """A step is one product with the weights and one call, which leaves δ, dL/du and dL/dx of the step."""
    shape, error = window.shape, error_TBS.clone(memory_format=torch.contiguous_format)
    n_steps, n_batch, _ = error.shape
    no_own_weights = error.new_zeros(shape.n_gates, shape.n_units)
    delta, gates = torch.empty_like(error), error.new_empty(n_steps, n_batch, shape.n_rows)
    inputs = torch.empty_like(gates) if library.inputs_differ else gates
    squares = torch.empty(n_batch, 2, dtype=torch.float64)
    arguments = pass_arguments(window, no_own_weights, None, error, None, None, delta, gates, inputs, None, squares)
    multiply, flow_BD = step_product(shape.per_head(window.weight_hh_RK).transpose(1, 2), n_batch, n_steps)
    restarts = steps_with_a_reset(window.reset_TB, n_steps)
    error_of, gates_of = error[..., : shape.n_units].unbind(0), gates.unbind(0)
    for t in reversed(range(n_steps)):
        if t + 1 < n_steps:
            multiply(gates_of[t + 1])
            if window.reset_TB is not None and restarts[t + 1]:
                flow_BD.masked_fill_(window.reset_TB[t + 1].unsqueeze(-1), 0)
            error_of[t].add_(flow_BD)
        library.step_back(arguments, t)
    return Solved(delta, gates, inputs)
