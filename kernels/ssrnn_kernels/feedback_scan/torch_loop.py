"""The feedback scan with one launch a step (two for coupled states) and no copies: what runs on a CPU.

Imports torch. B batch, T time, D state, S coupled states a unit."""

import torch
from torch import Tensor

from ssrnn_kernels.feedback_scan.shapes import ScanInputs, accumulation_dtype
from ssrnn_kernels.resets import steps_with_a_reset

CAST_STEPS = 64  # other types are cast to the accumulation type this many steps at a time, so that they stay in cache


def scan_torch_into(inputs: ScanInputs, delta_BTSD: Tensor) -> None:
    """Fill δ, as scan_reference_into defines it."""
    dtype, n_steps = accumulation_dtype(inputs.error_BTSD), inputs.error_BTSD.shape[1]
    casts = inputs.error_BTSD.dtype != dtype or (inputs.varies and inputs.decay.dtype != dtype)
    window = CAST_STEPS if casts else max(n_steps, 1)
    cut = steps_with_a_reset(None if inputs.reset_BT is None else inputs.reset_BT.t(), n_steps)
    following: list[Tensor] = []
    for start in reversed(range(0, n_steps, window)):
        steps = slice(start, min(start + window, n_steps))
        out = delta_BTSD[:, steps]
        work = torch.empty_like(out, dtype=dtype) if out.dtype != dtype else out
        following = _scan_window(inputs, steps, cut, following, work)
        if work is not out:
            out.copy_(work)


def _scan_window(
    inputs: ScanInputs, steps: slice, cut: list[bool], following: list[Tensor], out_BTSD: Tensor
) -> list[Tensor]:
    """Fill δ of a window of steps, given each state's δ (B, 1, D) of the step after it; returns that of its first."""
    n_states, dtype = out_BTSD.shape[-2], out_BTSD.dtype
    errors = inputs.error_BTSD[:, steps].to(dtype).unbind(1)
    deltas = out_BTSD.unbind(1)
    delta_of = [out_BTSD[:, :, i : i + 1].unbind(1) for i in range(n_states)]
    factor_of = [_factors_from(inputs, i, steps, dtype) for i in range(n_states)]
    for k in reversed(range(len(deltas))):
        t, delta = steps.start + k, deltas[k]
        if not following:
            delta.copy_(errors[k])
            if inputs.delta_next_BSD is not None:
                delta.add_(inputs.delta_next_BSD)
        else:
            torch.addcmul(errors[k], factor_of[0][k], following[0], out=delta)
            for i in range(1, n_states):
                delta.addcmul_(factor_of[i][k], following[i])
            if inputs.reset_BT is not None and cut[t + 1]:
                torch.where(inputs.reset_BT[:, t + 1, None, None], errors[k], delta, out=delta)
        following = [of_state[k] for of_state in delta_of]
    return following


def _factors_from(inputs: ScanInputs, i: int, steps: slice, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """For each step t of the window, row i of decay_{t+1}: what state i of the next step sends back to every state."""
    if inputs.varies:
        return inputs.decay[:, steps.start + 1 : steps.stop + 1, i].to(dtype).unbind(1)
    return (inputs.decay[i].to(dtype),) * (steps.stop - steps.start)
