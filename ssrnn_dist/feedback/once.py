"""Refuse gradients of gradients: torch's once_differentiable lets some through as silent zeros.

Imports torch only."""

import torch


def refuse_double_backward() -> None:
    """Called first in a backward: autograd enables gradients there only for create_graph=True."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "second derivatives (create_graph=True) are not defined for structured feedback; "
            "use ssrnn_kernels.recurrence.recurrence_reference, which autograd can follow"
        )
