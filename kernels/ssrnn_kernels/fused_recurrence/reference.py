"""The recurrence as a plain loop that autograd can follow: the definition, and BPTT with it.

Imports torch and a cell's `step`. T time, B batch, H heads, K units a head, R = heads·gates·K rows, S states·units."""

import torch
from torch import Tensor

from ssrnn_kernels.cell import Cell, Shape


def recurrence_reference(
    cell: Cell,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_hh_R: Tensor,
    state_BS: Tensor,
    reset_TB: Tensor | None = None,
) -> Tensor:
    """(T, B, S): the state after each step; where reset_TB is true the step starts from zero."""
    shape = Shape.of(cell, weight_hh_RK)
    states = []
    for t in range(inputs_TBR.shape[0]):
        if reset_TB is not None:
            state_BS = state_BS.masked_fill(reset_TB[t].unsqueeze(-1), 0)
        state = shape.states(state_BS)
        hidden_BHR = torch.einsum("bhk,hrk->bhr", state[0], shape.per_head(weight_hh_RK))
        hidden = shape.gates(hidden_BHR.flatten(-2) + bias_hh_R)
        new_state, _ = cell.step(shape.gates(inputs_TBR[t]), hidden, state)
        state_BS = torch.stack(new_state, dim=1).flatten(1)
        states.append(state_BS)
    return torch.stack(states) if states else inputs_TBR.new_empty(0, *state_BS.shape)
