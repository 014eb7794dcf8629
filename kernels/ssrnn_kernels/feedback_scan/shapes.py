"""The one form in which every backend takes its arguments, and the check of what a caller gave.

Imports torch only. B batch, T time, D state, S coupled states a unit (1 or 2; second index i: output, j: input)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ssrnn_kernels.cell import FLOATS

BACKENDS = ("auto", "reference", "torch", "compiled", "triton")


def accumulation_dtype(error: Tensor) -> torch.dtype:
    """What the scan is computed in: float64 for a float64 error, else float32."""
    return torch.float64 if error.dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class ScanInputs:
    """The scan's arguments as views with their states side by side: one state is S = 1."""

    error_BTSD: Tensor
    decay: Tensor  # (S, S, D), or (B, T, S, S, D) where it varies
    reset_BT: Tensor | None
    delta_next_BSD: Tensor | None

    @property
    def varies(self) -> bool:
        return self.decay.dim() == 5


def with_states(error: Tensor, decay: Tensor, reset_BT: Tensor | None, delta_next: Tensor | None) -> ScanInputs:
    """Views of valid arguments, with an axis of length 1 where a unit has one state."""
    if error.dim() == 3:
        error, decay = error.unsqueeze(-2), decay.unsqueeze(-2).unsqueeze(-2)
        delta_next = None if delta_next is None else delta_next.unsqueeze(-2)
    return ScanInputs(error, decay, reset_BT, delta_next)


def check(error: Tensor, decay: Tensor, reset_BT: Tensor | None, delta_next: Tensor | None, backend: str) -> None:
    """ValueError names the first argument that is wrong, what came and what is allowed."""
    if backend not in BACKENDS:
        raise ValueError(f"backend: {backend!r}; allowed: {', '.join(BACKENDS)}")
    if not (error.dim() == 3 or (error.dim() == 4 and error.shape[2] == 2)):
        raise ValueError(f"error: shape {tuple(error.shape)}; allowed: (B, T, D), or (B, T, 2, D) for coupled states")
    shape = tuple(error.shape)
    states = shape[2:-1] * 2  # () or (2, 2)
    _check_tensor("error", error, [shape], error, FLOATS)
    _check_tensor("decay", decay, [(*states, shape[-1]), (*shape[:2], *states, shape[-1])], error, FLOATS)
    if reset_BT is not None:
        _check_tensor("reset", reset_BT, [shape[:2]], error, (torch.bool,))
    if delta_next is not None:
        _check_tensor("delta_next", delta_next, [(shape[0], *shape[2:])], error, FLOATS)


def _check_tensor(
    name: str, tensor: Tensor, shapes: list[tuple[int, ...]], error: Tensor, dtypes: tuple[torch.dtype, ...]
) -> None:
    if tensor.dtype not in dtypes:
        raise ValueError(f"{name}: dtype {tensor.dtype}; allowed: {', '.join(map(str, dtypes))}")
    if tuple(tensor.shape) not in shapes:
        allowed = " or ".join(map(str, shapes))
        raise ValueError(f"{name}: shape {tuple(tensor.shape)}; allowed with this error: {allowed}")
    if tensor.device != error.device:
        raise ValueError(f"{name}: on {tensor.device}; allowed: the device of error, {error.device}")
