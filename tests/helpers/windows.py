"""Windows of any cell, for tests that hold one implementation to another."""

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from ssrnn_kernels.cells import CELLS

each_cell = pytest.mark.parametrize("name", CELLS)


def shapes_up_to(n_steps: int, n_batch: int, n_heads: int) -> st.SearchStrategy[dict]:
    """problem's arguments, but for the cell."""
    return st.fixed_dictionaries(
        {
            "n_steps": st.integers(1, n_steps),
            "n_batch": st.integers(1, n_batch),
            "n_heads": st.integers(1, n_heads),
            "head_size": st.sampled_from([1, 3, 8, 17, 32, 40]),
            "seed": st.integers(0, 10_000),
            "resets": st.booleans(),
        }
    )


shapes = shapes_up_to(9, 11, 3)


def problem(
    cell: str, n_steps: int, n_batch: int, n_heads: int, head_size: int, seed: int, resets: bool
) -> tuple[list[Tensor], Tensor | None]:
    """inputs, weight, bias, state and resets, float32."""
    generator = torch.Generator().manual_seed(seed)
    d, n_rows = n_heads * head_size, len(CELLS[cell].GATES) * n_heads * head_size

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    tensors = [draw(n_steps, n_batch, n_rows), draw(n_rows, head_size) / head_size**0.5, draw(n_rows)]
    state = draw(n_batch, CELLS[cell].N_STATES * d)
    return [*tensors, state], torch.rand(n_steps, n_batch, generator=generator) < 0.25 if resets else None
