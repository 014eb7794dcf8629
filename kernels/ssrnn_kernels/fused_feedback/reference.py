"""A pass of feedback back in time, by torch and feedback_scan: the definition, for any device and type.

Imports torch. T time, B batch, R rows of the weights, D units, N states a unit, S = N·D."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ssrnn_kernels.feedback_scan import feedback_scan
from ssrnn_kernels.feedback_scan.shapes import accumulation_dtype
from ssrnn_kernels.window import Window


@dataclass(frozen=True)
class Pass:
    """What a pass leaves: the sum of the passes so far, dL/du and dL/dx, and each sequence's norms.

    gates_TBR, inputs_TBR: of the sum after the last pass; before it gates_TBR is of this pass's increment alone.
    rest_TBS: before the last pass, with a constant decay, what J carries past W_hh less what the decay did."""

    delta_TBS: Tensor
    gates_TBR: Tensor
    inputs_TBR: Tensor | None
    rest_TBS: Tensor | None
    increment_B: Tensor  # of each sequence ‖what this pass added‖
    total_B: Tensor  # ‖the sum‖
    carry_BS: Tensor  # what this pass carries on to before the window: D_0ᵀ value_0, in the accumulation type


def room_for_pass(
    window: Window, error_TBS: Tensor, before: Pass | None, *, inputs: bool, rest: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Where a kernel writes δ's sum, dL/du, and where they are asked for dL/dx and the rest.

    The pass before is overwritten: its gates went through the weights already, and its sum grows in place."""
    n_steps, n_batch, _ = error_TBS.shape
    delta = torch.empty_like(error_TBS) if before is None else before.delta_TBS
    gates = error_TBS.new_empty(n_steps, n_batch, window.shape.n_rows) if before is None else before.gates_TBR
    return delta, gates, torch.empty_like(gates) if inputs else None, torch.empty_like(error_TBS) if rest else None


def pass_reference(
    window: Window,
    decay_NND: Tensor | None,
    error_TBS: Tensor,
    flow_TBD: Tensor | None = None,
    before: Pass | None = None,
    carry_BS: Tensor | None = None,
    *,
    last: bool,
) -> Pass:
    """value_t = e_t + D_{t+1}ᵀ value_{t+1}, with D the Jacobian's own diagonal (decay None) or a constant one.

    The first pass scans the errors; a later one what the pass before sends to the step before: flow_TBD, its gates'
    gradients through the weights, and its rest. carry_BS: what flows into the last step from beyond the window."""
    source = error_TBS if before is None or flow_TBD is None else _shifted(window, flow_TBD, before)
    decay = window.diagonal() if decay_NND is None else decay_NND
    increment = _scan(window, source, decay, carry_BS)
    delta = increment if before is None else before.delta_TBS + increment
    gates = window.gates(delta if last else increment)
    rest = None
    if decay_NND is not None and not last:
        rest = window.direct(increment) - _carried(decay_NND.to(increment.dtype), increment)
    first = (decay[:1] if decay_NND is None else decay).to(accumulation_dtype(increment))
    carry = window.cut(_carried(first, increment[:1].to(first.dtype)), 0)[0]
    inputs = window.inputs(gates, delta) if last else None
    return Pass(delta, gates, inputs, rest, _norm(increment), _norm(delta), carry)


def _carried(decay: Tensor, value_TBS: Tensor) -> Tensor:
    """(T, B, S): Dᵀ value, of a constant decay (N, N, D) or of each step's, (T, B, D) or (T, B, N, N, D)."""
    if decay.shape == value_TBS.shape:
        return decay * value_TBS
    return (decay * value_TBS.unflatten(-1, (-1, 1, decay.shape[-1]))).sum(dim=-3).flatten(-2)


def _shifted(window: Window, flow_TBD: Tensor, before: Pass) -> Tensor:
    """(T, B, S): what each step gets from the step after it, nothing across the start of a document."""
    source = torch.zeros_like(before.delta_TBS)
    if before.rest_TBS is not None:
        source[:-1] = before.rest_TBS[1:]
    source[:-1, :, : flow_TBD.shape[-1]] += flow_TBD[1:]
    window.cut(source[:-1], 1)
    return source


def _scan(window: Window, error_TBS: Tensor, decay: Tensor, carry_BS: Tensor | None) -> Tensor:
    """feedback_scan on time-major memory: views, no copies.  decay: as _carried takes it."""
    reset_BT = None if window.reset_TB is None else window.reset_TB.transpose(0, 1)
    n, error_BTS = window.shape.n_states, error_TBS.transpose(0, 1)
    varies = decay.dim() == 5 or decay.shape == error_TBS.shape
    decay = decay.transpose(0, 1) if varies else decay
    if n == 1:
        return feedback_scan(error_BTS, decay if varies else decay[0, 0], reset_BT, carry_BS).transpose(0, 1)
    coupled = None if carry_BS is None else carry_BS.unflatten(-1, (n, -1))
    return feedback_scan(error_BTS.unflatten(-1, (n, -1)), decay, reset_BT, coupled).flatten(-2).transpose(0, 1)


def _norm(values_TBS: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values_TBS, dim=(0, 2), dtype=accumulation_dtype(values_TBS))
