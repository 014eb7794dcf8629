"""What a cell must give, so that every rule, kernel, test and benchmark follows from it (docs/adding-a-cell.md).

Imports torch only. T time, B batch, H heads, G gates, K units a head, D = H·K units, N states a unit, S = N·D.
Rows of the weights and the last axis of pre-activations: head, gate, unit; with one head that is torch.nn's order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
Values = tuple[Any, ...]  # one value for each gate, state, … of a unit: tensors of one shape, or a kernel's expressions


def is_float(tensor: Tensor) -> bool:
    """Of a type that the ops compute in?"""
    return tensor.dtype in FLOATS


def is_zero(value: Any) -> bool:
    """Is it the number 0, which a cell gives where nothing flows?"""
    return isinstance(value, int | float) and value == 0


def with_tensors(values: Values, like: Tensor) -> list[Tensor]:
    """The values, with a tensor of zeros where the number 0 stands."""
    zeros = like.new_zeros(()).expand_as(like)
    return [zeros if is_zero(value) else value for value in values]


def check_tensors(wanted: Mapping[str, tuple[Tensor, tuple[int, ...], torch.dtype]], device: torch.device) -> None:
    """ValueError names the first tensor that is not of its shape and type, or elsewhere."""
    for name, (tensor, shape, dtype) in wanted.items():
        if tensor.shape != shape or tensor.dtype != dtype:
            raise ValueError(f"{name}: shape {tuple(tensor.shape)}, {tensor.dtype}; allowed: {shape}, {dtype}")
        if tensor.device != device:
            raise ValueError(f"{name}: on {tensor.device}; allowed: {device}, where the others are")


def check_weights(cell: "Cell", weight_hh: Tensor, n_rows: int, like: Tensor) -> None:
    """ValueError where the recurrent weights don't have so many rows, in whole heads, or not the type and place."""
    fits = weight_hh.dim() == 2 and weight_hh.shape[0] == n_rows and weight_hh.shape[1] > 0
    if not fits or n_rows % (len(cell.GATES) * weight_hh.shape[1]) or weight_hh.dtype != like.dtype:
        came = f"shape {tuple(weight_hh.shape)}, {weight_hh.dtype}"
        raise ValueError(f"weight_hh: {came}; allowed: ({n_rows}, units a head), {like.dtype}")
    if weight_hh.device != like.device:
        raise ValueError(f"weight_hh: on {weight_hh.device}; allowed: {like.device}, where the others are")


def cell_name(cell: "Cell") -> str:
    """As a config names it: its file's name."""
    return cell.__name__.rpartition(".")[2]


class Cell(Protocol):
    """A recurrent cell s_t = f(s_{t−1}, x_t) as a module of pure functions, the arithmetic of one unit.

    Its pre-activations come in two parts: inputs x = W_ih x_t + b_ih, for all t at once, and hidden
    u = W_hh h_{t−1} + b_hh, step by step. The functions know numbers, + − *, torch.sigmoid and torch.tanh: torch runs
    them on tensors, and tracing.py makes the compiled kernels of them."""

    __name__: str  # of the module; its last part is the cell's name
    GATES: tuple[str, ...]  # names, in the order of the weights' rows
    N_STATES: int  # 1: h; 2: h and c. The first is what W_hh multiplies and the layer hands on
    N_SAVED: int  # values that a step leaves for the backward, beside the states

    def step(self, x: Values, u: Values, state: Values) -> tuple[Values, Values]:
        """The definition: from G, G and N values to the N of the new state, and what is saved."""

    def derivatives(self, saved: Values, before: Values, after: Values) -> Values:
        """The local derivatives of a step, of which all that follows is products."""

    def gate_gradients(self, derivatives: Values, delta: Values) -> Values:
        """G: dL/du from the N values of δ = dL/ds_t."""

    def input_gradients(self, derivatives: Values, gates: Values, delta: Values) -> Values:
        """G: dL/dx, where dL/du is known; `gates` itself where x and u only meet as x + u."""

    def direct(self, derivatives: Values, delta: Values) -> Values:
        """N: what of δ flows to s_{t−1} without passing through W_hh; 0 where nothing does."""

    def diagonal(self, derivatives: Values, weights: Values) -> tuple[Values, ...]:
        """N rows of N: a unit's ∂s_i,t / ∂s_j,t−1, or 0.  weights: its own weight W_hh in each gate."""


@dataclass(frozen=True)
class Shape:
    """How flat tensors of a cell with these weights fall into heads, gates and states."""

    n_gates: int
    n_states: int
    n_heads: int
    head_size: int

    @classmethod
    def of(cls, cell: Cell, weight_hh_RK: Tensor) -> "Shape":
        """From the recurrent weights: R = H·G·K rows, K columns."""
        n_rows, head_size = weight_hh_RK.shape
        return cls(len(cell.GATES), cell.N_STATES, n_rows // (len(cell.GATES) * head_size), head_size)

    @property
    def n_units(self) -> int:
        return self.n_heads * self.head_size

    @property
    def n_rows(self) -> int:
        return self.n_gates * self.n_units

    def gates(self, flat: Tensor) -> tuple[Tensor, ...]:
        """(…, R) as G views (…, H, K)."""
        return flat.unflatten(-1, (self.n_heads, self.n_gates, self.head_size)).unbind(-2)

    def states(self, flat: Tensor) -> tuple[Tensor, ...]:
        """(…, S) as N views (…, H, K)."""
        return flat.unflatten(-1, (self.n_states, self.n_heads, self.head_size)).unbind(-3)

    def saved(self, saved_TBQD: Tensor) -> tuple[Tensor, ...]:
        """(…, Q, D) as Q views (…, H, K)."""
        return saved_TBQD.unflatten(-1, (self.n_heads, self.head_size)).unbind(-3)

    def per_head(self, weight_hh_RK: Tensor) -> Tensor:
        """(R, K) as (H, G·K, K)."""
        return weight_hh_RK.unflatten(0, (self.n_heads, -1))

    def flat_gates(self, values: Values) -> Tensor:
        """G tensors (…, H, K) as (…, R), in the order of the weights' rows."""
        return torch.stack(torch.broadcast_tensors(*values), dim=-2).flatten(-3)

    def flat_states(self, values: Values, like: Tensor) -> Tensor:
        """N tensors (…, H, K), or zeros, as (…, S)."""
        return torch.stack(with_tensors(values, like), dim=-3).flatten(-3)

    def own_weights(self, weight_hh_RK: Tensor) -> tuple[Tensor, ...]:
        """Per gate, the weight (H, K) of each unit to itself."""
        return self.squares(weight_hh_RK).diagonal(dim1=-2, dim2=-1).unbind(1)

    def squares(self, weight_hh_RK: Tensor) -> Tensor:
        """(H, G, K, K): every head's matrix of every gate, a view."""
        return weight_hh_RK.unflatten(0, (self.n_heads, self.n_gates, self.head_size))
