"""A cell's functions as expressions of one unit, from which compiled kernels are written.

Imports torch, for its functions' names. Every different value is an assignment, numbered as it was first met."""

from collections.abc import Callable
from typing import Any

import torch

from ssrnn_kernels.cell import is_zero

Line = tuple[str, str, tuple[str, ...]]  # name, operation, the names or numbers that it takes


class Trace:
    """Collects assignments; equal expressions are one."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._known: dict[tuple[str, tuple[str, ...]], str] = {}

    def value(self, name: str) -> "Value":
        """A value that the kernel has under this name."""
        return Value(self, name)

    def values(self, prefix: str, count: int) -> tuple["Value", ...]:
        return tuple(self.value(f"{prefix}{index}") for index in range(count))

    def apply(self, operation: str, *arguments: Any) -> "Value":
        names = tuple(each.name if isinstance(each, Value) else repr(float(each)) for each in arguments)
        key = operation, names
        if key not in self._known:
            self._known[key] = f"t{len(self.lines)}"
            self.lines.append((self._known[key], operation, names))
        return self.value(self._known[key])


class Value:
    """One unit's value at one step, standing for a number that only the kernel will know."""

    def __init__(self, trace: Trace, name: str) -> None:
        self.trace, self.name = trace, name

    def __add__(self, other: Any) -> "Value":
        return self if is_zero(other) else self.trace.apply("+", self, other)

    def __mul__(self, other: Any) -> "Value":
        return self.trace.apply("*", self, other)

    def __sub__(self, other: Any) -> "Value":
        return self.trace.apply("-", self, other)

    def __rsub__(self, other: Any) -> "Value":
        return self.trace.apply("-", other, self)

    def __neg__(self) -> "Value":
        return self.trace.apply("-", 0.0, self)

    __radd__, __rmul__ = __add__, __mul__

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> "Value":
        if function not in (torch.sigmoid, torch.tanh) or kwargs:
            raise TypeError(f"{function}: a cell's functions may use + - *, torch.sigmoid and torch.tanh")
        return args[0].trace.apply(function.__name__, args[0])


def name_of(value: Any) -> str:
    return value.name if isinstance(value, Value) else repr(float(value))
