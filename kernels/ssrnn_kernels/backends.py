"""Who runs a fused op: the one rule of backend="auto", and what a named backend can serve.

Imports the CPU's build; triton only to see whether it is there."""

import functools
import importlib.util
import logging
import os

import torch
from torch import Tensor

from ssrnn_kernels.cell import Cell, Shape, cell_name
from ssrnn_kernels.cpu.build import library_for

BACKENDS = ("auto", "torch", "aten", "compiled", "triton")
IN_ORDER = {"cpu": ("compiled",), "cuda": ("triton", "aten")}  # of "auto"; torch where none can
SWITCH = "SSRNN_GPU_KERNELS"  # 0: "auto" leaves a GPU's work to torch
MOST_HEAD_SIZE = {torch.bfloat16: 128, torch.float16: 128, torch.float32: 32, torch.float64: 16}
MOST_HEAD_SIZE_BEFORE_SM90 = 64  # and of all whose shared memory is as small
LEAST_SHARED_BYTES = 227 * 1024  # of a program, for larger heads
MOST_HEAD_SIZE_OF_AMD = 32  # gfx942: more would spill


def backend_for(backend: str, cell: Cell, values: Tensor, shape: Shape | None = None, *, has_aten: bool = False) -> str:
    """The backend that runs: the named one, or by "auto"

        on a CPU    compiled, for float32 where there is a C compiler
        on a GPU    triton, where it is installed and, in an op that keeps all weights on the chip, they fit: a head on
                    one multiprocessor, or spread over many
                    aten, in the forward of a dense cell that torch.nn has, where it does not
        else        torch, which is said once

    values: a tensor of the op's.  shape: of an op that keeps its weights on the chip; its values are (T, B, …).
    has_aten: torch has a fused layer for this (fused_recurrence/aten.py).
    ValueError: no such backend, or one that cannot serve this; it says why."""
    if backend not in BACKENDS:
        raise ValueError(f"backend: {backend!r}; allowed: {', '.join(BACKENDS)}")
    cannot = {
        "torch": lambda: None,
        "aten": lambda: None if has_aten else "torch has no fused layer for this",
        "compiled": lambda: _compiled_cannot(cell, values),
        "triton": lambda: _triton_cannot(values, shape),
    }
    if backend != "auto":
        if why := cannot[backend]():
            raise ValueError(f"backend: {backend!r}, but {why}; allowed here: auto, torch")
        return backend
    reasons = []
    for wanted in IN_ORDER.get(values.device.type, ()):
        why = (gpu_kernels_are_off() if wanted == "triton" else None) or cannot[wanted]()
        if why is None:
            return wanted
        reasons.append(why)
    return torch_runs("the recurrence", reasons[0], values) if reasons else "torch"


def torch_runs(what: str, why: str, values: Tensor) -> str:
    """The backend "torch", which is said once of each reason: of a GPU as a warning."""
    _say_once(logging.WARNING if values.is_cuda else logging.INFO, f"torch runs {what}: {why}")
    return "torch"


def gpu_kernels_are_off() -> str | None:
    """Why: the user's switch."""
    return f"{SWITCH}=0" if os.environ.get(SWITCH) == "0" else None


def _compiled_cannot(cell: Cell, values: Tensor) -> str | None:
    if library_for(cell, values) is not None:
        return None
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return f"the CPU's kernels take float32 on a CPU, not {values.dtype} on {values.device.type}"
    return f"no compiled kernels for {cell_name(cell)}: no C compiler, or SSRNN_CPU_KERNELS=0"


def _triton_cannot(values: Tensor, shape: Shape | None) -> str | None:
    if not has_triton():
        return "triton is not installed"
    from ssrnn_kernels.gpu.triton import INTERPRETED

    if INTERPRETED and shape is not None and values.dtype == torch.bfloat16:
        return "Triton's interpreter multiplies bfloat16's bits, not its numbers"
    if INTERPRETED:
        return None
    if not values.is_cuda:
        return "Triton takes tensors on the CPU only with TRITON_INTERPRET=1 set before the start"
    if values.dtype not in MOST_HEAD_SIZE:
        return f"Triton's kernels take float16, bfloat16, float32 and float64, not {values.dtype}"
    if shape is None or fits_one_multiprocessor(values, shape.head_size):
        return None
    from ssrnn_kernels.gpu.spread import BACKWARD, FORWARD, spread_of

    if spread_of(values, shape, FORWARD) and spread_of(values, shape, BACKWARD):
        return None
    return f"a head of {shape.head_size} units of {values.dtype} fits neither on a multiprocessor nor spread over all"


def fits_one_multiprocessor(values: Tensor, head_size: int) -> bool:
    """Do a head's weights, with what else a program of one head holds?"""
    most = MOST_HEAD_SIZE[values.dtype]
    if torch.version.hip:
        return head_size <= min(most, MOST_HEAD_SIZE_OF_AMD)
    has_room = shared_bytes(values.device) >= LEAST_SHARED_BYTES
    return head_size <= (most if has_room else min(most, MOST_HEAD_SIZE_BEFORE_SM90))


def shared_bytes(device: torch.device) -> int:
    """That a program may have on an NVIDIA GPU."""
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin  # type: ignore[attr-defined]


@functools.cache
def has_triton() -> bool:
    """Is it installed?  Asked in every forward on a GPU, looked for once."""
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _say_once(level: int, message: str) -> None:
    logging.getLogger(__name__).log(level, message)
