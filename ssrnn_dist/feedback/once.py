"""Refuse what structured feedback has no meaning for, where torch would give silent zeros or speak of its own insides.

Imports torch only."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

REFERENCE = "use ssrnn_kernels.fused_recurrence.recurrence_reference, which autograd can follow"


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


def refuse_batched_gradients(error: Tensor) -> None:
    """Called in a backward, which torch.autograd runs under vmap for is_grads_batched=True."""
    if torch._C._functorch.is_batchedtensor(error) or torch._C._functorch.is_legacy_batchedtensor(error):
        raise RuntimeError(f"batched gradients (is_grads_batched, vectorize) do not work here; {REFERENCE}")


def refuse_tangents(*tensors: Tensor) -> None:
    """Called in a forward: forward-mode derivatives would be lost without a word where autograd does not see it."""
    if forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(each).tangent is not None for each in tensors):
        raise RuntimeError(f"forward-mode derivatives are not defined for structured feedback; {REFERENCE}")


def refuse_tracing() -> None:
    """torch.jit.trace does not see what the kernels write, and would make a module of uninitialised memory."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        raise RuntimeError(f"torch.jit.trace and torch.export cannot follow structured feedback; {REFERENCE}")
