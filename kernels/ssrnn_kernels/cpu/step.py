"""The compiled step of a window's forward.

Imports torch. T time, B batch, R rows of the weights, S states·units, Q saved values, D units."""

from collections.abc import Callable

import torch
from torch import Tensor

from ssrnn_kernels.cell import Shape
from ssrnn_kernels.cpu.build import Library, kernel_arguments


def compiled_step(
    library: Library,
    shape: Shape,
    inputs_TBR: Tensor,
    product_BR: Tensor,
    bias_R: Tensor,
    states_TBS: Tensor,
    saved_TBQD: Tensor,
) -> Callable[[int, Tensor], None]:
    """step(t, before_BS): fills states[t + 1] and saved[t] (saved[0] where it has room for one step only).

    All float32 and contiguous but product_BR = W_hh h, which may be the transpose of a contiguous one."""
    numbers = (len(product_BR), shape.n_heads, shape.head_size, torch.get_num_threads(), len(saved_TBQD) > 1)
    row_BR = torch.empty(product_BR.shape)  # where a transposed product is turned
    tensors = (inputs_TBR, product_BR, bias_R, states_TBS, saved_TBQD, row_BR)
    arguments = kernel_arguments((*numbers, *product_BR.stride()), tensors)

    def step(t: int, before_BS: Tensor) -> None:
        library.step(arguments, t, before_BS.data_ptr())

    return step
