"""The compiled forward of a window: the step's product and the cell's functions in one loop over time.

Imports torch. T time, B batch, R rows of the weights, K units a head, S states·units, Q saved values, D units."""

import torch
from torch import Tensor

from ssrnn_kernels.cell import Cell, Shape
from ssrnn_kernels.cpu.blocks import in_blocks
from ssrnn_kernels.cpu.build import kernel_arguments, library_of

FEW_PRODUCTS = 8  # with the weights: beyond, it pays to copy them into blocks


def compiled_forward(
    cell: Cell,
    shape: Shape,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_R: Tensor,
    reset_TB: Tensor | None,
    states_TBS: Tensor,
    saved_TBQD: Tensor,
) -> None:
    """Fill states[1:] from states[0], and saved (saved[0] alone where it has room for one step only).

    All float32; inputs, states and saved contiguous."""
    library, (n_steps, n_batch, _) = library_of(cell), inputs_TBR.shape
    saves, many = len(saved_TBQD) == n_steps, n_steps * n_batch > FEW_PRODUCTS
    numbers = (n_steps, n_batch, shape.n_heads, shape.head_size, torch.get_num_threads(), saves, many)
    reset_TB = None if reset_TB is None else reset_TB.contiguous()
    weights = shape.per_head(weight_hh_RK).unflatten(1, (shape.n_gates, -1))
    weights = in_blocks(weights, library.lanes) if many else weights.contiguous()
    zeros_S = torch.zeros(states_TBS.shape[-1])
    tensors = (inputs_TBR, weights, bias_R.contiguous(), zeros_S, reset_TB, states_TBS, saved_TBQD)
    library.forward(kernel_arguments(numbers, tensors))
