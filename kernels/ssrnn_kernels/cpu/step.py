"""The compiled step of a window's forward.

Imports torch and ctypes. T time, B batch, R rows of the weights, S states·units, Q saved values, D units."""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from ssrnn_kernels.cell import Shape
from ssrnn_kernels.cpu.build import Library

Size, Pointer = ctypes.c_int64, ctypes.c_void_p


class _Step(ctypes.Structure):
    """Step of source.py."""

    _fields_ = (
        *((name, Size) for name in ("n_batch", "n_heads", "head_size", "threads", "saves", "product_b", "product_r")),
        *((name, Pointer) for name in ("x", "product", "bias", "states", "saved", "row")),
    )


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
    row = torch.empty(product_BR.shape)
    arguments = _Step(
        product_BR.shape[0], shape.n_heads, shape.head_size, torch.get_num_threads(), len(saved_TBQD) > 1,
        *product_BR.stride(),
        *(each.data_ptr() for each in (inputs_TBR, product_BR, bias_R, states_TBS, saved_TBQD, row)),
    )  # fmt: skip
    arguments.row_buffer = row  # kept alive by it
    pointer = ctypes.byref(arguments)

    def step(t: int, before_BS: Tensor) -> None:
        library.step(pointer, t, before_BS.data_ptr())

    return step
