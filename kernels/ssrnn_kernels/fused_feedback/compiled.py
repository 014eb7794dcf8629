"""A pass of feedback back in time by the cell's compiled kernel, as reference.py defines it: float32 on a CPU.

Imports torch. T time, B batch, R rows of the weights, D units, N states a unit, S = N·D, G gates."""

import torch
from torch import Tensor

from ssrnn_kernels.cpu.build import library_of
from ssrnn_kernels.cpu.pass_arguments import pass_arguments
from ssrnn_kernels.fused_feedback.reference import Pass, room_for_pass
from ssrnn_kernels.window import Window


def compiled_pass(
    window: Window,
    decay_NND: Tensor | None,
    error_TBS: Tensor,
    flow_TBD: Tensor | None = None,
    before: Pass | None = None,
    carry_BS: Tensor | None = None,
    *,
    last: bool,
) -> Pass:
    """pass_reference in one walk back in time, derivatives in registers; the pass before is overwritten."""
    library, shape, error_TBS = library_of(window.cell), window.shape, error_TBS.contiguous()
    asked = {"inputs": last and library.inputs_differ, "rest": decay_NND is not None and not last}
    delta, gates, inputs, rest = room_for_pass(window, error_TBS, before, **asked)
    squares = torch.zeros(error_TBS.shape[1], 2, dtype=torch.float64)
    carry = (
        torch.zeros_like(error_TBS[0]) if carry_BS is None else carry_BS.clone(memory_format=torch.contiguous_format)
    )
    arguments = pass_arguments(
        window, torch.stack(shape.own_weights(window.weight_hh_RK)), decay_NND, error_TBS, flow_TBD,
        None if before is None else before.rest_TBS, delta, gates, inputs, rest, squares, carry,
    )  # fmt: skip
    library.pass_back(arguments, decay_NND is None, before is None, last)
    inputs = (gates if inputs is None else inputs) if last else None
    increment, total = squares.sqrt().unbind(1)
    return Pass(delta, gates, inputs, rest, increment, total, carry)
