"""Who runs a pass: the cell's compiled kernel where there is one, else torch.

Imports both. Shapes as in torch_pass.py."""

from torch import Tensor

from ssrnn_kernels.cpu.build import library_for
from ssrnn_kernels.fused_feedback.compiled_pass import compiled_pass
from ssrnn_kernels.fused_feedback.torch_pass import Pass, torch_pass
from ssrnn_kernels.fused_feedback.window import Window


def feedback_pass(
    window: Window,
    decay_NND: Tensor | None,
    error_TBS: Tensor,
    flow_TBD: Tensor | None = None,
    before: Pass | None = None,
    *,
    last: bool,
) -> Pass:
    """One pass back in time, as torch_pass defines it."""
    library = library_for(window.cell, error_TBS)
    if library is None:
        return torch_pass(window, decay_NND, error_TBS, flow_TBD, before, last=last)
    return compiled_pass(library, window, decay_NND, error_TBS, flow_TBD, before, last=last)
