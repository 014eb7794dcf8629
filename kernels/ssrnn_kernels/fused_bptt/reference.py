"""BPTT by torch's operations, step by step: the definition, for any device and type.

Imports torch. T time, B batch, S states·units."""

from torch import Tensor

from ssrnn_kernels.window import Solved, Window


def bptt_reference(window: Window, error_TBS: Tensor) -> Solved:
    """δ_t = e_t + J_{t+1}ᵀ δ_{t+1}, and what follows from δ."""
    delta = error_TBS.clone()
    for t in reversed(range(window.n_steps - 1)):
        delta[t] += window.full_flow(delta[t + 1 : t + 2], t + 1)[0]
    return window.solved(delta)
