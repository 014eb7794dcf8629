"""Weights in the order in which the compiled products of a step read them (kernels.c).

Imports torch. H heads, G gates, M units and N inputs of a head."""

from torch import Tensor
from torch.nn.functional import pad


def in_blocks(matrix_HGMN: Tensor, lanes: int) -> Tensor:
    """(H, blocks, N, G, lanes): side by side what a block of units needs of every input; zeros fill the last block."""
    if missing := -matrix_HGMN.shape[2] % lanes:
        matrix_HGMN = pad(matrix_HGMN, (0, 0, 0, missing))
    return matrix_HGMN.unflatten(2, (-1, lanes)).permute(0, 2, 4, 1, 3).contiguous()
