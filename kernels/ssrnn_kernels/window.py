"""What the backward knows of a window, and the products with its Jacobians, by torch.

Imports torch and a cell's functions. T time, B batch, R rows of the weights, K units a head, D units, N states a unit,
S = N·D, Q saved values."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ssrnn_kernels.cell import Cell, Shape, Values, check_tensors, check_weights, is_float, with_tensors
from ssrnn_kernels.cells import get_cell
from ssrnn_kernels.unit_programs import trace_back


@dataclass(frozen=True)
class Solved:
    """What a window's backward needs of its feedback."""

    delta_TBS: Tensor
    gates_TBR: Tensor  # dL/du
    inputs_TBR: Tensor  # dL/dx

    def apart(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three, for an op, whose outputs must not be one tensor: an empty one stands for dL/dx that is dL/du."""
        same = self.inputs_TBR is self.gates_TBR
        return self.delta_TBS, self.gates_TBR, self.gates_TBR.new_empty(0) if same else self.inputs_TBR

    def take(self, sequences: Tensor, other: "Solved") -> None:
        """These sequences from elsewhere, in place."""
        for ours, theirs in zip(vars(self).values(), vars(other).values(), strict=True):
            ours[:, sequences] = theirs


@dataclass(frozen=True)
class Window:
    """A window as the forward left it: states (T + 1), saved gates, weights, and where documents start (or None)."""

    cell: Cell
    states_TBS: Tensor
    saved_TBQD: Tensor
    weight_hh_RK: Tensor
    reset_TB: Tensor | None

    @classmethod
    def checked(
        cls, cell: str, states: Tensor, saved: Tensor, weight_hh: Tensor, error: Tensor, reset: Tensor | None
    ) -> "Window":
        """Of an op's arguments; ValueError names the first that does not fit the error, and what is allowed."""
        module = get_cell(cell)
        if error.dim() != 3 or not is_float(error):
            raise ValueError(f"error: shape {tuple(error.shape)}, {error.dtype}; allowed: (T, B, S), floating-point")
        (n_steps, n_batch, d_state), n_gates = error.shape, len(module.GATES)
        n_units = d_state // module.N_STATES
        wanted = {
            "states": (states, (n_steps + 1, n_batch, d_state), error.dtype),
            "saved": (saved, (n_steps, n_batch, module.N_SAVED, n_units), error.dtype),
            **({} if reset is None else {"reset": (reset, (n_steps, n_batch), torch.bool)}),
        }
        check_tensors(wanted, error.device)
        check_weights(module, weight_hh, n_gates * n_units, error)
        return cls(module, states.contiguous(), saved.contiguous(), weight_hh, reset)

    def room_for_solved(self, error_TBS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Uninitialised tensors of the shapes that Solved.apart gives."""
        gates = error_TBS.new_empty(*error_TBS.shape[:2], self.shape.n_rows)
        inputs = torch.empty_like(gates) if trace_back(self.cell).inputs_differ else gates.new_empty(0)
        return error_TBS.new_empty(error_TBS.shape), gates, inputs

    @cached_property
    def shape(self) -> Shape:
        return Shape.of(self.cell, self.weight_hh_RK)

    @property
    def n_steps(self) -> int:
        return len(self.saved_TBQD)

    @cached_property
    def before_TBS(self) -> Tensor:
        """The state that each step really started from: zero where a document starts."""
        before = self.states_TBS[:-1]
        return before if self.reset_TB is None else before.masked_fill(self.reset_TB.unsqueeze(-1), 0)

    @cached_property
    def derivatives(self) -> Values:
        """The cell's local derivatives, each (T, B, H, K)."""
        before, after = self.shape.states(self.before_TBS), self.shape.states(self.states_TBS[1:])
        return self.cell.derivatives(self.shape.saved(self.saved_TBQD), before, after)

    def first_steps(self, count: int) -> "Window":
        """The window of the first steps alone."""
        reset_TB = None if self.reset_TB is None else self.reset_TB[:count]
        return Window(self.cell, self.states_TBS[: count + 1], self.saved_TBQD[:count], self.weight_hh_RK, reset_TB)

    def sequences(self, which: Tensor) -> "Window":
        """The window of some of the sequences."""
        reset_TB = None if self.reset_TB is None else self.reset_TB[:, which]
        return Window(self.cell, self.states_TBS[:, which], self.saved_TBQD[:, which], self.weight_hh_RK, reset_TB)

    def cut(self, flow_TBS: Tensor, first_step: int) -> Tensor:
        """A flow out of the steps from first_step on, zero where a document starts: in place."""
        if self.reset_TB is not None:
            starts = self.reset_TB[first_step : first_step + flow_TBS.shape[0]]
            flow_TBS.masked_fill_(starts.unsqueeze(-1), 0)
        return flow_TBS

    def gates(self, delta_TBS: Tensor, first_step: int = 0) -> Tensor:
        """(T, B, R): dL/du of the steps that delta covers."""
        derivatives = self._derivatives(delta_TBS, first_step)
        return self.shape.flat_gates(self.cell.gate_gradients(derivatives, self.shape.states(delta_TBS)))

    def inputs(self, gates_TBR: Tensor, delta_TBS: Tensor) -> Tensor:
        """(T, B, R): dL/dx of all steps; the very tensor of the gates where there is no difference."""
        gates = self.shape.gates(gates_TBR)
        inputs = self.cell.input_gradients(self.derivatives, gates, self.shape.states(delta_TBS))
        same = all(ours is theirs for ours, theirs in zip(inputs, gates, strict=True))
        return gates_TBR if same else self.shape.flat_gates(inputs)

    def solved(self, delta_TBS: Tensor) -> Solved:
        """What follows from δ."""
        gates = self.gates(delta_TBS)
        return Solved(delta_TBS, gates, self.inputs(gates, delta_TBS))

    def direct(self, delta_TBS: Tensor, first_step: int = 0) -> Tensor:
        """(T, B, S): what flows back without passing through W_hh."""
        delta = self.shape.states(delta_TBS)
        return self.shape.flat_states(self.cell.direct(self._derivatives(delta_TBS, first_step), delta), like=delta[0])

    def through(self, gates_TBR: Tensor, weight_RK: Tensor) -> Tensor:
        """(T, B, D): the transpose of these weights times the gates' gradients, one large product a head."""
        return by_heads(gates_TBR, self.shape.per_head(weight_RK).transpose(1, 2))

    def full_flow(self, delta_TBS: Tensor, first_step: int = 0) -> Tensor:
        """J_tᵀ δ_t for the steps that delta covers."""
        flow = self.direct(delta_TBS, first_step)
        flow[..., : self.shape.n_units] += self.through(self.gates(delta_TBS, first_step), self.weight_hh_RK)
        return self.cut(flow, first_step)

    def diagonal(self) -> Tensor:
        """(T, B, D) or (T, B, 2, 2, D): each unit's ∂s_t/∂s_{t−1}."""
        return diagonal_of(self.cell, self.derivatives, self.shape.own_weights(self.weight_hh_RK))

    def weights_beside_the_diagonal(self) -> Tensor:
        """W°: the weights with every unit's weight to itself set to zero."""
        rest = self.weight_hh_RK.clone()
        self.shape.squares(rest).diagonal(dim1=-2, dim2=-1).zero_()
        return rest

    def weight_gradient(self, gates_TBR: Tensor) -> Tensor:
        """(R, K): Σ over steps and sequences of dL/du ⊗ (the hidden state that W_hh met)."""
        gates_NR = gates_TBR.flatten(0, 1)
        h_ND = self.before_TBS[..., : self.shape.n_units].flatten(0, 1)
        if self.shape.n_heads == 1:
            return gates_NR.t() @ h_ND
        gates_HRN = gates_NR.t().unflatten(0, (self.shape.n_heads, -1))
        return (gates_HRN @ h_ND.unflatten(1, (self.shape.n_heads, -1)).transpose(0, 1)).flatten(0, 1)

    def _derivatives(self, delta_TBS: Tensor, first_step: int) -> Values:
        steps = slice(first_step, first_step + delta_TBS.shape[0])
        return tuple(each[steps] for each in self.derivatives)


def diagonal_of(cell: Cell, derivatives: Values, own_weights: tuple[Tensor, ...]) -> Tensor:
    """(T, B, D) or (T, B, 2, 2, D): each unit's ∂s_t/∂s_{t−1}, from a cell's derivatives (T, B, H, K)."""
    block = [with_tensors(row, like=derivatives[0]) for row in cell.diagonal(derivatives, own_weights)]
    if len(block) == 1:
        return block[0][0].flatten(-2)
    return torch.stack([torch.stack(row, dim=-3) for row in block], dim=-4).flatten(-2)


def by_heads(values_TBD: Tensor, weight_HMK: Tensor) -> Tensor:
    """(T, B, H·M): every head's units times its matrix's transpose, one large product a head."""
    values_ND, heads = values_TBD.flatten(0, 1), len(weight_HMK)
    if heads == 1:
        product = values_ND @ weight_HMK[0].t()
    else:
        product_HNM = values_ND.unflatten(1, (heads, -1)).transpose(0, 1) @ weight_HMK.transpose(1, 2)
        product = product_HNM.transpose(0, 1).flatten(1)
    return product.unflatten(0, values_TBD.shape[:2])
