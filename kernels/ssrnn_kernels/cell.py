"""What a cell must give, so that every rule, kernel, test and benchmark follows from it (docs/adding-a-cell.md).

Imports torch only. T time, B batch, H heads, G gates, K units a head, D = H·K units, N states a unit, S = N·D.
Rows of the weights and the last axis of pre-activations: head, gate, unit; with one head that is torch.nn's order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

State = tuple[Tensor, ...]  # N tensors (…, H, K): h first, which W_hh multiplies and the layer hands on


class Cell(Protocol):
    """A recurrent cell s_t = f(s_{t−1}, x_t) as a module of functions, elementwise over units.

    Its pre-activations come in two parts: inputs x = W_ih x_t + b_ih, for all t at once, and hidden
    u = W_hh h_{t−1} + b_hh, step by step. What is cell-specific is the arithmetic of one unit, whatever the heads."""

    NAME: str
    GATES: tuple[str, ...]  # names, in the order of the weights' rows
    N_STATES: int  # 1: h; 2: h and c
    N_SAVED: int  # arrays of D that a step leaves for the backward, beside the states

    def step(self, x: State, u: State, state: State) -> State:
        """The definition: from G, G and N tensors to the new N, by operations that autograd can follow."""

    def step_views(self, x_TBHGK: Tensor, u_BHGK: Tensor, saved_TBHQK: Tensor) -> Iterator[State]:
        """Per step, the views that step_into works on, made for a window at once; u is one buffer for all steps."""

    def step_into(self, views: State, state: State, new_state: State) -> None:
        """The same step without autograd or allocation: fills its saved views and new_state."""

    def derivatives(self, saved_TBHQK: Tensor, before: State, after: State) -> Tensor:
        """(T, B, H, C, K): the C local derivatives of which all that follows is products."""

    def gate_gradients(self, derivatives_TBHCK: Tensor, delta: State) -> Tensor:
        """(T, B, H, G, K): dL/du from δ = dL/ds_t."""

    def input_gradients(self, derivatives_TBHCK: Tensor, gates_TBHGK: Tensor, delta: State) -> Tensor:
        """(T, B, H, G, K): dL/dx, where dL/du is known; they are one tensor where x and u only meet as x + u."""

    def direct(self, derivatives_TBHCK: Tensor, delta: State) -> tuple[Tensor | None, ...]:
        """Per state, what of δ flows to s_{t−1} without passing through W_hh; None: nothing."""

    def diagonal_into(self, derivatives_TBHCK: Tensor, weights: State, out_TBNNHK: Tensor) -> None:
        """Fill out[:, :, i, j] with each unit's ∂s_i,t / ∂s_j,t−1.  weights: per gate, the diagonal (H, K) of W_hh."""


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

    def gates(self, flat: Tensor) -> Tensor:
        """(…, R) as (…, H, G, K)."""
        return flat.unflatten(-1, (self.n_heads, -1, self.head_size))

    def states(self, flat: Tensor) -> State:
        """(…, S) as N views (…, H, K)."""
        return flat.unflatten(-1, (self.n_states, self.n_heads, self.head_size)).unbind(-3)

    def per_head(self, weight_hh_RK: Tensor) -> Tensor:
        """(R, K) as (H, G·K, K)."""
        return weight_hh_RK.unflatten(0, (self.n_heads, -1))

    def diagonals(self, weight_hh_RK: Tensor) -> State:
        """Per gate, the weight (H, K) of each unit to itself."""
        square_HGKK = weight_hh_RK.unflatten(0, (self.n_heads, self.n_gates, self.head_size))
        return square_HGKK.diagonal(dim1=-2, dim2=-1).unbind(1)
