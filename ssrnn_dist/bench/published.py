"""A layer by FlashRNN's published kernels (NX-AI, Apache 2.0; the package flashrnn, if installed), to compare with.

Imports torch; flashrnn when a layer is made. B batch, T time, D units."""

import importlib.util

import torch
from torch import Tensor, nn

BACKENDS = ("cuda", "cuda_fused", "triton_fused")
GATES = {"lstm": (4, 4), "gru": (3, 4), "elman": (1, 1)}  # with weights, with biases


def has_flashrnn() -> bool:
    return importlib.util.find_spec("flashrnn") is not None


class FlashRNN(nn.Module):
    """torch.nn's layer with heads by flashrnn: a product for all steps, then its kernels. bf16 and fp16, on a GPU."""

    def __init__(self, d: int, cell: str, n_heads: int, backend: str) -> None:
        super().__init__()
        n_weighed, n_biased = GATES[cell]
        self.cell, self.backend, self.shape = cell, backend, (n_weighed, n_heads, d // n_heads)
        self.inputs = nn.Linear(d, n_weighed * d, bias=False)
        self.recurrent = nn.Parameter(torch.randn(*self.shape, d // n_heads) / (d // n_heads) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(n_biased, n_heads, d // n_heads))

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, None]:
        """(B, T, D), and None in the place of a state."""
        from flashrnn import flashrnn

        given = self.inputs(x_BTD).unflatten(-1, self.shape), self.recurrent, self.bias
        dtype = str(x_BTD.dtype).removeprefix("torch.")
        states, _ = flashrnn(*given, function=self.cell, backend=self.backend, dtype=dtype)
        return states[0].flatten(-2), None
