"""BPTT back through a window, to compare with and to choose: the definition by torch, and compiled.

Imports torch. T time, B batch, R rows of the weights, S states·units."""

import torch
from torch import Tensor

from ssrnn_kernels.cpu.blocks import in_blocks
from ssrnn_kernels.cpu.build import Library, library_for
from ssrnn_kernels.fused_feedback.compiled_pass import pass_arguments
from ssrnn_kernels.fused_feedback.window import Solved, Window


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
    """All steps in one call, which leaves δ, dL/du and dL/dx."""
    shape, error = window.shape, error_TBS.contiguous()
    n_steps, n_batch, _ = error.shape
    no_own_weights = error.new_zeros(shape.n_gates, shape.n_units)
    delta, gates = torch.empty_like(error), error.new_empty(n_steps, n_batch, shape.n_rows)
    inputs = torch.empty_like(gates) if library.inputs_differ else gates
    weights = in_blocks(shape.per_head(window.weight_hh_RK).transpose(1, 2).unsqueeze(1), library.lanes)
    library.bptt(
        pass_arguments(window, no_own_weights, None, error, None, None, delta, gates, inputs, None, None, weights)
    )
    return Solved(delta, gates, inputs)
