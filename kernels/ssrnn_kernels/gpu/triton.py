"""A cell's Triton device functions, made once of its traced programs, and what the ops' kernels share.

Imports triton. Values of a block of units come and go as tuples, one a gate, state or saved value."""

import functools
import linecache
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from ssrnn_kernels.cell import Cell, cell_name
from ssrnn_kernels.costs import SEQUENCES_A_PROGRAM
from ssrnn_kernels.gpu.source import triton_source
from ssrnn_kernels.unit_programs import trace_back

TRITON_DTYPES = {torch.float32: tl.float32, torch.float64: tl.float64}

# Kernels that keep a head's weights on the chip:
BLOCK_B = SEQUENCES_A_PROGRAM  # the fewest rows that a matrix unit takes
FORWARD_WARPS = 8


def backward_warps(block_k: int, number_bytes: int) -> int:
    """Of a program that takes a head of up to so many units back in time; measured on an H200 in bf16.

    Triton 3.9 aborts on four warps of the LSTM in float32."""
    return 4 if block_k <= 64 and number_bytes == 2 else 8


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def tanh(x):
    """As kernels.c has it, but odd: below zero its form would cancel. In float64 near zero to an absolute 1e-16."""
    above = 1.0 - 2.0 / (tl.exp(2.0 * tl.abs(x)) + 1.0)
    far = tl.where(x < 0, -above, above)
    if x.dtype == tl.float64:
        return far
    z = x * x
    p = (((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z + 1.33314422036e-1) * z
    return tl.where(z < 0.390625, x + x * (z * (p - 3.33332819422e-1)), far)


@triton.jit
def load_values(pointers, step, inside, COUNT: tl.constexpr, TYPE: tl.constexpr):
    """COUNT blocks of values, `step` apart; zeros outside."""
    values = ()
    for index in tl.static_range(COUNT):
        values = values + (tl.load(pointers + index * step, mask=inside, other=0).to(TYPE),)
    return values


@triton.jit
def load_as_stored(pointers, step, inside, COUNT: tl.constexpr):
    """COUNT blocks of values, `step` apart, for a later step; zeros outside.

    What is loaded a step ahead hides the memory's latency; as long as it keeps its type nothing waits for it."""
    values = ()
    for index in tl.static_range(COUNT):
        values = values + (tl.load(pointers + index * step, mask=inside, other=0),)
    return values


@triton.jit
def as_type(values, COUNT: tl.constexpr, TYPE: tl.constexpr):
    cast = ()
    for index in tl.static_range(COUNT):
        cast = cast + (values[index].to(TYPE),)
    return cast


@triton.jit
def store_values(pointers, step, values, inside, COUNT: tl.constexpr):
    for index in tl.static_range(COUNT):
        tl.store(pointers + index * step, values[index], mask=inside)


def block_of_head(head_size: int) -> int:
    """The units that such a kernel works on; a matrix unit takes no fewer than 16."""
    return max(16, triton.next_power_of_2(head_size))


INTERPRETED = not isinstance(sigmoid, triton.runtime.JITFunction)


@dataclass(frozen=True)
class DeviceFunctions:
    """A cell's functions as Triton has them (gpu/source.py)."""

    step: Any
    back: Any
    sum: Any  # over the first axis, of a value a gate
    inputs_differ: bool  # has dL/dx other values than dL/du?


def device_functions(cell: Cell) -> DeviceFunctions:
    """Those of a cell, made once."""
    return _device_functions(cell)  # type: ignore[arg-type]  # a module is hashable


@functools.cache
def _device_functions(cell: Any) -> DeviceFunctions:
    """Triton reads a function's text again when it compiles: linecache has it, under a name that is no file's."""
    text, name = triton_source(cell), f"<ssrnn_kernels.gpu {cell_name(cell)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    module: dict[str, Any] = {"__name__": f"ssrnn_kernels.gpu.{cell_name(cell)}"}
    exec(compile(text, name, "exec"), module)
    return DeviceFunctions(module["step"], module["back"], module["sum"], trace_back(cell).inputs_differ)
