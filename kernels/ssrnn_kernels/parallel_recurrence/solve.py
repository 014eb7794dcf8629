"""The states of all steps of a window at once: a guess, and sweeps that take the step's own Jacobian for its diagonal.

    s ← s + Δ,    Δ_t = (f(s_{t−1}, x_t) − s_t) + D_t Δ_{t−1}

A sweep is one product of all steps with W_hh and one scan; any D leaves the solution where it is. The idea is Lim et
al.'s (arXiv 2309.12252), with the diagonal of Gonzalez et al. (arXiv 2407.19115). Imports torch and the scan.
T time, B batch, R rows of the weights, S states·units, Q saved values, D units."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ssrnn_kernels.autocasting import in_the_types_given
from ssrnn_kernels.cell import Cell, Shape, Values
from ssrnn_kernels.feedback_scan import forward_scan
from ssrnn_kernels.window import by_heads, diagonal_of

TINY = torch.finfo(torch.float64).tiny
PATIENCE = 3  # sweeps without a smaller residual before it is given up


@dataclass(frozen=True)
class Sweeps:
    """What a solution took."""

    states_TBS: Tensor  # T + 1, the initial one first
    saved_TBQD: Tensor
    sweeps: int
    residual: float  # the worst sequence's ‖f(s_{t−1}, x_t) − s_t‖ / ‖s‖ over all steps, of the states before the last
    converged: bool


@in_the_types_given
def solve_forward(
    cell: Cell,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_hh_R: Tensor,
    state_BS: Tensor,
    reset_TB: Tensor | None,
    tolerance: float,
    most_sweeps: int,
) -> Sweeps:
    """Sweep from states of zero until the residual is within the tolerance, falls no more, or they are too many."""
    shape = Shape.of(cell, weight_hh_RK)
    states = inputs_TBR.new_zeros(len(inputs_TBR) + 1, *state_BS.shape)
    states[0] = state_BS
    best, since, sweeps = math.inf, 0, 0
    while True:
        before = states[:-1] if reset_TB is None else states[:-1].masked_fill(reset_TB.unsqueeze(-1), 0)
        hidden = by_heads(before[..., : shape.n_units], shape.per_head(weight_hh_RK)) + bias_hh_R
        stepped, saved = cell.step(shape.gates(inputs_TBR), shape.gates(hidden), shape.states(before))
        after = shape.flat_states(stepped, like=stepped[0])
        change = after - states[1:]
        residual = _worst(change, after)
        best, since = (residual, 0) if residual < best else (best, since + 1)
        converged = residual <= tolerance
        if converged or sweeps == most_sweeps or since == PATIENCE or not math.isfinite(residual):
            states[1:] = after
            return Sweeps(states, _stacked(saved, like=after), sweeps, residual, converged)
        derivatives = cell.derivatives(saved, shape.states(before), stepped)
        states[1:] += _scanned(diagonal_of(cell, derivatives, shape.own_weights(weight_hh_RK)), change, reset_TB)
        sweeps += 1


def _stacked(saved: Values, like: Tensor) -> Tensor:
    """(T, B, Q, D)."""
    if not saved:
        return like.new_empty(*like.shape[:2], 0, like.shape[-1])
    return torch.stack(saved, dim=-3).flatten(-2)


def _scanned(diagonal: Tensor, change_TBS: Tensor, reset_TB: Tensor | None) -> Tensor:
    """Δ of all steps; a diagonal over 1, whose products might overflow, is taken for 1."""
    change, reset_BT = change_TBS.transpose(0, 1), None if reset_TB is None else reset_TB.transpose(0, 1)
    if diagonal.dim() == 3:
        return forward_scan(change, diagonal.transpose(0, 1).clamp(-1, 1), reset_BT).transpose(0, 1)
    states = change.unflatten(-1, (diagonal.shape[-2], -1))
    return forward_scan(states, diagonal.transpose(0, 1), reset_BT).flatten(-2).transpose(0, 1)


def _worst(change_TBS: Tensor, after_TBS: Tensor) -> float:
    """‖change‖ / ‖after‖ of the sequence where it is largest."""
    change_B, after_B = (
        torch.linalg.vector_norm(each, dim=(0, 2), dtype=torch.float64) for each in (change_TBS, after_TBS)
    )
    return float((change_B / after_B.clamp_min(TINY)).max()) if change_TBS.numel() else 0.0
