"""What a cell must give, so that every rule, kernel, test and benchmark follows from it.

A cell is a module of pure functions with this signature; imports torch only.

Shapes: B batch, T time, D units, S = n_states·D, G = n_gates·D, K = n_saved·D, C = n_coefficients."""

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor


class Cell(Protocol):
    """A recurrent cell s_t = f(s_{t-1}, x_t), its local derivatives and the diagonal of its Jacobian.

    The pre-activations come in two parts: `inputs` (W_ih x_t + b_ih, one product for all t) and
    `hidden` (W_hh h_{t-1} + b_hh, one product a step)."""

    NAME: str
    N_GATES: int
    N_STATES: int  # 1, or 2 for (h, c)
    N_SAVED: int

    def step(self, inputs_BG: Tensor, hidden_BG: Tensor, state_BS: Tensor) -> Tensor:
        """The definition: the new state (B, S), by operations that autograd can follow."""

    def step_views(self, inputs_TBG: Tensor, hidden_BG: Tensor, saved_TBK: Tensor) -> Iterable[tuple[Tensor, ...]]:
        """Per step, the views that step_into reads and fills; hidden_BG is the same buffer at every step."""

    def step_into(self, views: tuple[Tensor, ...], state_BS: Tensor, new_state_BS: Tensor) -> None:
        """The same step without autograd or allocation: fills its saved views and new_state_BS."""

    def coefficients(self, saved_TBK: Tensor, previous_TBS: Tensor) -> Tensor:
        """(T, B, C, D): the local derivatives, from which all that follows is products."""

    def gate_gradients(self, coefficients_TBCD: Tensor, delta_TBS: Tensor) -> Tensor:
        """(T, B, G): the gradient of the hidden part of the pre-activations, given dL/ds_t."""

    def input_gradients(self, coefficients_TBCD: Tensor, gates_TBG: Tensor, delta_TBS: Tensor) -> Tensor:
        """(T, B, G): the gradient of the input part of the pre-activations."""

    def direct(self, coefficients_TBCD: Tensor, delta_TBS: Tensor) -> Tensor:
        """(T, B, S): what flows to s_{t-1} without passing through W_hh."""

    def jacobian_diagonal(self, coefficients_TBCD: Tensor, weight_hh_GD: Tensor) -> Tensor:
        """(T, B, D): each unit's ds_t/ds_{t-1}; (T, B, 2, 2, D) where a unit has two states."""
