"""BPTT by the cell's compiled kernel: all steps in one call. Float32 on a CPU.

Imports torch. T time, B batch, R rows of the weights, S states·units."""

import torch
from torch import Tensor

from ssrnn_kernels.cpu.blocks import in_blocks
from ssrnn_kernels.cpu.build import library_of
from ssrnn_kernels.cpu.pass_arguments import pass_arguments
from ssrnn_kernels.window import Solved, Window


def compiled_bptt(window: Window, error_TBS: Tensor) -> Solved:
    """As bptt_reference defines it."""
    library, shape, error = library_of(window.cell), window.shape, error_TBS.contiguous()
    n_steps, n_batch, _ = error.shape
    no_own_weights = error.new_zeros(shape.n_gates, shape.n_units)
    delta, gates = torch.empty_like(error), error.new_empty(n_steps, n_batch, shape.n_rows)
    inputs = torch.empty_like(gates) if library.inputs_differ else gates
    weights = in_blocks(shape.per_head(window.weight_hh_RK).transpose(1, 2).unsqueeze(1), library.lanes)
    outputs = (delta, gates, inputs, None, None, torch.zeros_like(error[0]))
    library.bptt(pass_arguments(window, no_own_weights, None, error, None, None, *outputs, weights))
    return Solved(delta, gates, inputs)
