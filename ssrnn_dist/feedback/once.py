"""Refuse what structured feedback has no meaning for, where torch would give silent zeros or speak of its own insides.

Imports torch only."""

import torch

REFERENCE = "use ssrnn_kernels.recurrence.recurrence_reference, which autograd can follow"


def refuse_double_backward() -> None:
    """Called first in a backward: autograd enables gradients there only for create_graph=True."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"second derivatives (create_graph=True) are not defined for structured feedback; {REFERENCE}"
        )


def refuse_function_transforms() -> None:
    """Called first in a forward: vmap, grad, jvp and the other transforms of torch.func need a rule of their own."""
    if torch._C._are_functorch_transforms_active():
        raise RuntimeError(
            f"torch.func transforms (grad, vmap, jvp, …) do not work on structured feedback; {REFERENCE}"
        )
