"""The small product of every step, forward or back in time.

Imports torch only. B batch, H heads, M outputs and N inputs of a head."""

from collections.abc import Callable

import torch
from torch import Tensor


def step_product(matrix_HMN: Tensor, n_batch: int, n_steps: int) -> tuple[Callable[[Tensor], object], Tensor]:
    """A function that multiplies (B, H·N) by every head's matrix, and the one buffer (B, H·M) that it fills.

    The buffer may be the transpose of a contiguous one. The matrix is turned once where many steps will use it."""
    n_heads, n_outputs, n_inputs = matrix_HMN.shape
    if n_heads > 1:
        matrix_HNM = _turned(matrix_HMN, n_steps)
        product_BM = matrix_HMN.new_empty(n_batch, n_heads * n_outputs)
        product_HBM = product_BM.unflatten(-1, (n_heads, n_outputs)).transpose(0, 1)

        def head_by_head(values_BN: Tensor) -> None:
            torch.bmm(values_BN.unflatten(-1, (n_heads, n_inputs)).transpose(0, 1), matrix_HNM, out=product_HBM)

        return head_by_head, product_BM
    matrix_MN = matrix_HMN[0]
    if _matrix_goes_left(matrix_MN, n_batch):
        matrix_MN = matrix_MN.contiguous()
        product_MB = matrix_MN.new_empty(n_outputs, n_batch)
        return lambda values_BN: torch.mm(matrix_MN, values_BN.t(), out=product_MB), product_MB.t()
    matrix_NM = _turned(matrix_MN, n_steps)
    product_BM = matrix_MN.new_empty(n_batch, n_outputs)
    return lambda values_BN: torch.mm(values_BN, matrix_NM, out=product_BM), product_BM


def _turned(matrix: Tensor, n_steps: int) -> Tensor:
    """The transpose, copied unless a single step is all there is, as in generation."""
    turned = matrix.transpose(-1, -2)
    return turned if n_steps == 1 else turned.contiguous()


def _matrix_goes_left(matrix_MN: Tensor, n_batch: int) -> bool:
    """Is W h faster than h Wᵀ?  On several threads of a CPU, for large weights and few sequences (LOG.md)."""
    on_threads = matrix_MN.device.type == "cpu" and torch.get_num_threads() > 1
    return on_threads and matrix_MN.numel() >= 2**18 and 2 <= n_batch <= 32
