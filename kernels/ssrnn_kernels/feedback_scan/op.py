"""feedback_scan as users call it: arguments checked, a torch.library op, the choice of who runs it, its gradients.

Imports torch; the Triton backend only when it is chosen. B batch, T time, D state."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssrnn_kernels.backends import gpu_kernels_are_off, has_triton, torch_runs
from ssrnn_kernels.feedback_scan.compiled import scan_compiled_into, scan_kernel_for
from ssrnn_kernels.feedback_scan.reference import scan_reference_into
from ssrnn_kernels.feedback_scan.shapes import ScanInputs, accumulation_dtype, check, with_states
from ssrnn_kernels.feedback_scan.torch_loop import scan_torch_into


def feedback_scan(
    error_BTD: Tensor,
    decay: Tensor,
    reset_BT: Tensor | None = None,
    delta_next_BD: Tensor | None = None,
    *,
    backend: str = "auto",
) -> Tensor:
    """δ (B, T, D), the feedback that a linear scan back in time makes of the errors e: δ_t = e_t + decay ⊙ δ_{t+1}.

    decay: (D,), constant over time; or (B, T, D), where decay[:, t] is the diagonal of ∂h_t/∂h_{t-1}, so that
        δ_t = e_t + decay_{t+1} ⊙ δ_{t+1} (decay[:, 0] is not used).
    reset_BT: bool; true where step t starts a document: nothing flows from t to t-1.
    delta_next_BD: what flows into the last step from beyond it, its decay included: δ_{T-1} = e_{T-1} + delta_next.
    Two coupled states a unit (LSTM): error and δ (B, T, 2, D), delta_next (B, 2, D), decay (2, 2, D) or
        (B, T, 2, 2, D) with decay[…, i, j, :] = ∂state_i,t / ∂state_j,t-1, of which the scan takes the transpose.
    backend: "auto" (triton for CUDA tensors where triton is installed and SSRNN_GPU_KERNELS is not 0; compiled on a
        CPU with a C compiler where all is float32; else torch), "reference", "torch", "compiled", "triton".

    Accumulates in float32, float64 for a float64 error; the result has error's dtype and, where it is dense, its
    memory layout: time-major views cost no copy. Differentiable in error, decay and delta_next, any number of times.
    Raises ValueError naming the argument, what came and what is allowed.
    Source: Caillon et al., arXiv 2503.23104 (constant decay); docs/method.md."""
    return _scan_op(error_BTD, decay, reset_BT, delta_next_BD, backend)


def forward_scan(values_BTD: Tensor, decay: Tensor, reset_BT: Tensor | None = None, *, backend: str = "auto") -> Tensor:
    """u_t = v_t + decay_t u_{t−1} forward in time: feedback_scan's adjoint, the same scan on flipped arguments.

    Shapes, types and backends as there; u_t = v_t where step t starts a document. decay[:, 0] is not used."""
    coupled = values_BTD.dim() == 4
    varies = decay.dim() == (5 if coupled else 3)
    turned = decay.transpose(-3, -2) if coupled else decay
    # Flipped, the factor that enters step t stands at T-1-t, and the scan wants it one step on.
    turned = turned.flip(1).roll(1, 1) if varies else turned
    turned_reset = None if reset_BT is None else reset_BT.flip(1).roll(1, 1)
    return _scan_op(values_BTD.flip(1), turned, turned_reset, None, backend).flip(1)


@torch.library.custom_op("ssrnn::feedback_scan", mutates_args=())
def _scan_op(error: Tensor, decay: Tensor, reset: Tensor | None, delta_next: Tensor | None, backend: str) -> Tensor:
    check(error, decay, reset, delta_next, backend)
    delta = torch.empty_like(error)
    scan_into = _backend_for(backend, error, decay, delta_next)
    scan_into(with_states(error, decay, reset, delta_next), delta if error.dim() == 4 else delta.unsqueeze(-2))
    return delta


@_scan_op.register_fake
def _(error: Tensor, decay: Tensor, reset: Tensor | None, delta_next: Tensor | None, backend: str) -> Tensor:
    check(error, decay, reset, delta_next, backend)
    return torch.empty_like(error)


def _backend_for(
    backend: str, error: Tensor, decay: Tensor, delta_next: Tensor | None
) -> Callable[[ScanInputs, Tensor], None]:
    """The one rule of "auto", and the named ones."""
    if backend == "auto" and error.is_cuda:
        why_not = gpu_kernels_are_off() or (None if has_triton() else "triton is not installed")
        backend = torch_runs("the scan", why_not, error) if why_not else "triton"
    if backend in ("auto", "compiled"):
        if scan_kernel_for(error, decay, delta_next) is not None:
            return scan_compiled_into
        why_not = "the CPU's kernel takes float32 on a CPU with a C compiler"
        if backend == "compiled":
            raise ValueError(f"backend: 'compiled', but {why_not}; allowed: auto, torch")
        backend = torch_runs("the scan", why_not, error)
    if backend == "reference":
        return scan_reference_into
    if backend == "torch":
        return scan_torch_into
    if not has_triton():
        raise ValueError("backend: 'triton', but triton is not installed; allowed here: auto, reference, torch")
    from ssrnn_kernels.feedback_scan.triton import scan_triton_into

    return scan_triton_into


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, decay, reset, delta_next, backend = inputs
    ctx.save_for_backward(decay, reset, output)
    ctx.delta_next_dtype = None if delta_next is None else delta_next.dtype
    ctx.backend = backend


def _gradients(ctx: Any, grad_delta: Tensor) -> tuple[Tensor | None, ...]:
    """The scan's adjoint: the same scan forward in time, u_t = g_t + decay_t u_{t-1}."""
    decay, reset, delta = ctx.saved_tensors
    varies = decay.dim() == (5 if delta.dim() == 4 else 3)
    grad_error = forward_scan(grad_delta, decay, reset, backend=ctx.backend)
    grad_decay = _decay_gradient(decay, reset, delta, grad_error, varies) if ctx.needs_input_grad[1] else None
    grad_next = grad_error[:, -1:].sum(1).to(ctx.delta_next_dtype) if ctx.needs_input_grad[3] else None
    return grad_error, grad_decay, None, grad_next, None


def _decay_gradient(decay: Tensor, reset: Tensor | None, delta: Tensor, grad_error: Tensor, varies: bool) -> Tensor:
    """∂L/∂decay_{t+1}[i, j] = δ_{t+1}[i] u_t[j]; zero where step t+1 starts a document, and for the first step."""
    dtype = accumulation_dtype(delta)
    sent, received = delta[:, 1:].to(dtype), grad_error[:, :-1].to(dtype)
    if delta.dim() == 4:
        sent, received = sent.unsqueeze(-2), received.unsqueeze(-3)
    product = sent * received
    if reset is not None:
        product = product.masked_fill(reset[:, 1:].reshape(*reset[:, 1:].shape, *(1,) * (product.dim() - 2)), 0)
    if not varies:
        return product.sum(dim=(0, 1)).to(decay.dtype)
    return torch.cat([torch.zeros_like(decay[:, :1]), product.to(decay.dtype)], dim=1)


_scan_op.register_autograd(_gradients, setup_context=_save)
