"""BPTT over a window as layers and users call it: who runs it, and a torch.library op.

Imports torch; Triton only where it is chosen. T time, B batch, R rows, K units a head, S states·units, Q saved."""

from collections.abc import Callable

import torch
from torch import Tensor

from ssrnn_kernels.autocasting import in_the_types_given
from ssrnn_kernels.backends import backend_for
from ssrnn_kernels.fused_bptt.compiled import compiled_bptt
from ssrnn_kernels.fused_bptt.reference import bptt_reference
from ssrnn_kernels.window import Solved, Window


def fused_bptt(
    cell: str,
    states_TBS: Tensor,
    saved_TBQD: Tensor,
    weight_hh_RK: Tensor,
    error_TBS: Tensor,
    reset_TB: Tensor | None = None,
    *,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """δ (T, B, S) = dL/ds_t, dL/du and dL/dx (T, B, R; one tensor where they are the same), by BPTT.

    states (T + 1), saved: as fused_recurrence leaves them.  error_TBS: e_t = ∂L/∂s_t through the output at t alone.
    backend: "auto" (backends.py has the rule), "torch", "compiled", "triton".
    Not differentiable. ValueError names what is wrong and what is allowed."""
    delta, gates, inputs = _op(cell, states_TBS, saved_TBQD, weight_hh_RK, error_TBS, reset_TB, backend)
    return delta, gates, inputs if inputs.numel() else gates


@in_the_types_given
def exact_feedback(window: Window, error_TBS: Tensor, backend: str = "auto") -> Solved:
    """δ_t = e_t + J_{t+1}ᵀ δ_{t+1} through a window, by whoever is chosen."""
    by = _by(backend_for(backend, window.cell, error_TBS, window.shape))
    return (by if error_TBS.numel() else bptt_reference)(window, error_TBS.contiguous())


def _by(backend: str) -> Callable[[Window, Tensor], Solved]:
    if backend == "compiled":
        return compiled_bptt
    if backend == "torch":
        return bptt_reference
    from ssrnn_kernels.fused_bptt.triton import triton_bptt

    return triton_bptt


@torch.library.custom_op("ssrnn::fused_bptt", mutates_args=())
def _op(
    cell: str,
    states: Tensor,
    saved: Tensor,
    weight_hh: Tensor,
    error: Tensor,
    reset: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    window = Window.checked(cell, states, saved, weight_hh, error, reset)
    return exact_feedback(window, error, backend).apart()


@_op.register_fake
def _(
    cell: str,
    states: Tensor,
    saved: Tensor,
    weight_hh: Tensor,
    error: Tensor,
    reset: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return Window.checked(cell, states, saved, weight_hh, error, reset).room_for_solved(error)
