"""The recurrence in one loop without autograd, which saves the gates as it goes: nothing is computed twice.

Imports torch and a cell's `step_into`. Time-major memory: T time, B batch, G gates·units, S states·units, D units."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ssrnn_kernels.cells.base import Cell


@dataclass(frozen=True)
class Trajectory:
    """A window's states, and what the backward needs of each step."""

    states_TBS: Tensor  # T + 1 states: the initial one first
    saved_TBK: Tensor | None  # the gates; None where nothing will be differentiated

    @property
    def after_TBS(self) -> Tensor:
        """The state after each step."""
        return self.states_TBS[1:]


def recur(
    cell: Cell,
    inputs_TBG: Tensor,
    weight_hh_GD: Tensor,
    bias_hh_G: Tensor,
    state_BS: Tensor,
    reset_TB: Tensor | None,
    *,
    save: bool,
) -> Trajectory:
    """Run the cell over a window, as recurrence_reference defines it.

    save: keep the gates of every step, (T, B, n_saved·D), for the backward."""
    n_steps, n_batch, n_gates = inputs_TBG.shape
    d = weight_hh_GD.shape[-1]
    states = inputs_TBG.new_empty(n_steps + 1, n_batch, cell.N_STATES * d)
    states[0] = state_BS
    saved = inputs_TBG.new_empty(n_steps if save else 1, n_batch, cell.N_SAVED * d)
    hidden_BG = inputs_TBG.new_empty(n_batch, n_gates)
    weight_DG = weight_hh_GD.t()
    restarts = _steps_with_a_reset(reset_TB, n_steps)
    views = cell.step_views(inputs_TBG, hidden_BG, saved if save else saved.expand(n_steps, -1, -1))
    after = states.unbind(0)
    for t, step_views in enumerate(views):
        previous = after[t]
        if reset_TB is not None and restarts[t]:
            previous = previous.masked_fill(reset_TB[t].unsqueeze(-1), 0)
        torch.addmm(bias_hh_G, previous[:, :d], weight_DG, out=hidden_BG)
        cell.step_into(step_views, previous, after[t + 1])
    return Trajectory(states, saved if save else None)


def _steps_with_a_reset(reset_TB: Tensor | None, n_steps: int) -> list[bool]:
    """Per step: does any sequence restart there?  One transfer for the window instead of one a step."""
    return [False] * n_steps if reset_TB is None else reset_TB.any(dim=1).tolist()
