"""The feedback scan by a compiled kernel (scan.c): float32 on a CPU, in one walk that moves every array once.

Imports torch. B batch, T time, D state, S coupled states a unit."""

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ssrnn_kernels.cpu.build import compiled_library, kernel_arguments, switched_off
from ssrnn_kernels.feedback_scan.shapes import ScanInputs


def scan_kernel_for(*tensors: Tensor | None) -> Callable[..., None] | None:
    """The kernel where it takes all of these numbers (None: not given); None where it does not, and torch must do."""
    if switched_off() or any(t.dtype != torch.float32 or t.device.type != "cpu" for t in tensors if t is not None):
        return None
    return _kernel()


@functools.cache
def _kernel() -> Callable[..., None] | None:
    source = Path(__file__).with_name("scan.c").read_text(encoding="utf-8")
    library = compiled_library("feedback_scan", source)
    if library is None:
        return None
    library.scan.argtypes, library.scan.restype = [ctypes.c_void_p], None
    return library.scan


def scan_compiled_into(inputs: ScanInputs, delta_BTSD: Tensor) -> None:
    """Fill δ, as scan_reference_into defines it; all float32 on the CPU."""
    kernel = _kernel()
    assert kernel is not None
    error, decay = _dense_units(inputs.error_BTSD), _dense_units(inputs.decay)
    following = None if inputs.delta_next_BSD is None else _dense_units(inputs.delta_next_BSD)
    out = delta_BTSD if _has_dense_units(delta_BTSD) else delta_BTSD.new_empty(delta_BTSD.shape)
    n_batch, n_steps, n_states, d = error.shape
    reset = inputs.reset_BT
    numbers = (
        *(n_batch, n_steps, n_states, d, torch.get_num_threads(), inputs.varies),
        *error.stride()[:3],
        *((0, 0, *decay.stride()) if not inputs.varies else decay.stride())[:4],
        *((0, 0) if reset is None else reset.stride()),
        *((0, 0) if following is None else (following.stride(0), following.stride(1))),
        *out.stride()[:3],
    )
    kernel(kernel_arguments(numbers, (error, decay, reset, following, out)))
    if out is not delta_BTSD:
        delta_BTSD.copy_(out)


def _dense_units(tensor: Tensor) -> Tensor:
    """As it is where the units lie side by side."""
    return tensor if _has_dense_units(tensor) else tensor.contiguous()


def _has_dense_units(tensor: Tensor) -> bool:
    return tensor.stride(-1) == 1 or tensor.shape[-1] == 1
