"""The recurrence as a plain loop that autograd can follow: the definition, and BPTT with it.

Imports torch and a cell's `step`. Shapes: T time, B batch, G gates·units, S states·units, D units."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssrnn_kernels.cells.base import Cell


def recurrence_reference(
    cell: Cell,
    inputs_TBG: Tensor,
    weight_hh_GD: Tensor,
    bias_hh_G: Tensor | None,
    state_BS: Tensor,
    reset_TB: Tensor | None = None,
) -> Tensor:
    """(T, B, S): the state after each step; where reset_TB is true the step starts from zero."""
    states = []
    d = weight_hh_GD.shape[-1]
    for t in range(inputs_TBG.shape[0]):
        if reset_TB is not None:
            state_BS = state_BS.masked_fill(reset_TB[t].unsqueeze(-1), 0)
        hidden_BG = F.linear(state_BS[:, :d], weight_hh_GD, bias_hh_G)
        state_BS = cell.step(inputs_TBG[t], hidden_BG, state_BS)
        states.append(state_BS)
    return torch.stack(states) if states else inputs_TBG.new_empty(0, *state_BS.shape)
