"""Who runs a pass: the cell's compiled kernel where there is one, else torch.

Imports both."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from ssrnn_kernels.cpu.build import library_for
from ssrnn_kernels.fused_feedback.compiled_pass import compiled_pass
from ssrnn_kernels.fused_feedback.torch_pass import Pass, torch_pass
from ssrnn_kernels.fused_feedback.window import Window


def feedback_pass_for(window: Window, error_TBS: Tensor) -> Callable[..., Pass]:
    """What makes the passes over this window, with torch_pass's arguments."""
    library = library_for(window.cell, error_TBS)
    return torch_pass if library is None else partial(compiled_pass, library)
