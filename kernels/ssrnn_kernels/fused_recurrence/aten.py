"""The forward of a dense recurrence by torch's own fused layer (cuDNN on a GPU), the gates rebuilt by one product.

For the cells that torch.nn has. Such a layer knows no documents: where some start within the window, each is a sequence
of its own in a packed batch, so the chain is as long as the longest document; the host waits for their lengths.
Imports torch. T time, B batch, R rows, D units, S states·units."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ssrnn_kernels.cell import Cell, Shape, cell_name
from ssrnn_kernels.feedback_scan import forward_scan
from ssrnn_kernels.window import by_heads

LAYERS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "elman": torch._VF.rnn_tanh,
    "gru": torch._VF.gru,
    "lstm": torch._VF.lstm,
}


def has_layer(cell: Cell, shape: Shape) -> bool:
    """Has torch a fused layer for this?"""
    return shape.n_heads == 1 and cell_name(cell) in LAYERS


@dataclass(frozen=True)
class Packing:
    """A window's documents as sequences of a packed batch, the longest first."""

    order_N: Tensor  # of the packed rows: where each stands in (T, B), flattened
    batch_sizes: Tensor  # on the CPU: how many sequences are as long as this step
    lanes_M: Tensor  # of each sequence
    goes_on_M: Tensor  # bool: does it begin with the lane's state?


def packed(reset_TB: Tensor) -> Packing:
    """A sequence starts where a document does; every lane's first goes on from before unless one starts there, too."""
    n_steps, n_batch = reset_TB.shape
    starts_TB = reset_TB.clone()
    starts_TB[0] = True
    lane_M, step_M = starts_TB.t().nonzero().unbind(1)  # lane by lane
    sequence_TB = (starts_TB.t().flatten().cumsum(0) - 1).view(n_batch, n_steps).t()
    by_length_M = torch.bincount(sequence_TB.flatten()).argsort(descending=True, stable=True)
    steps_T1 = torch.arange(n_steps, device=reset_TB.device).unsqueeze(1)
    place_TB = steps_T1 - torch.where(starts_TB, steps_T1, 0).cummax(dim=0).values  # in its sequence
    order_N = (place_TB * len(by_length_M) + by_length_M.argsort()[sequence_TB]).flatten().argsort()
    goes_on_M = (step_M == 0) & ~reset_TB[0, lane_M]
    sizes = torch.bincount(place_TB.flatten()).cpu()
    return Packing(order_N, sizes, lane_M[by_length_M], goes_on_M[by_length_M])


def aten_forward(
    cell: Cell,
    shape: Shape,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_R: Tensor,
    reset_TB: Tensor | None,
    states_TBS: Tensor,
    saved_TBQD: Tensor,
) -> None:
    """Fill states[1:] from states[0], and saved where it has room for all steps (op.py)."""
    n_steps, _, n_rows = inputs_TBR.shape
    as_it_is = torch.eye(n_rows, dtype=inputs_TBR.dtype, device=inputs_TBR.device)
    weights = [as_it_is, weight_hh_RK, torch.zeros_like(bias_R), bias_R]
    run = LAYERS[cell_name(cell)]
    if reset_TB is None:
        start = _start(shape, states_TBS[0])
        after_TBD, *_ = run(inputs_TBR, start, weights, True, 1, 0.0, False, False, False)
    else:
        packing = packed(reset_TB)
        start = _start(shape, states_TBS[0, packing.lanes_M] * packing.goes_on_M.unsqueeze(-1))
        rows = inputs_TBR.flatten(0, 1)[packing.order_N]
        out, *_ = run(rows, packing.batch_sizes, start, weights, True, 1, 0.0, False, False)
        after_TBD = torch.empty_like(out).index_copy_(0, packing.order_N, out).view(*reset_TB.shape, -1)
    states_TBS[1:, :, : shape.n_units] = after_TBD
    if len(saved_TBQD) == n_steps or shape.n_states > 1:
        _rebuild(cell, shape, inputs_TBR, weight_hh_RK, bias_R, reset_TB, states_TBS, saved_TBQD)


def _start(shape: Shape, first_MS: Tensor) -> Tensor | tuple[Tensor, ...]:
    """The states before the first step, as torch's layer has them."""
    first = tuple(each.unsqueeze(0).contiguous() for each in first_MS.unflatten(-1, (shape.n_states, -1)).unbind(1))
    return first if len(first) > 1 else first[0]


def _rebuild(
    cell: Cell,
    shape: Shape,
    inputs_TBR: Tensor,
    weight_hh_RK: Tensor,
    bias_R: Tensor,
    reset_TB: Tensor | None,
    states_TBS: Tensor,
    saved_TBQD: Tensor,
) -> None:
    """The gates, which need h alone, and where the cell has one its second state, c_t = f c_{t−1} + i g: a scan."""
    before = states_TBS[:-1] if reset_TB is None else states_TBS[:-1].masked_fill(reset_TB.unsqueeze(-1), 0)
    hidden_TBR = by_heads(before[..., : shape.n_units], shape.per_head(weight_hh_RK)) + bias_R
    _, saved = cell.step(shape.gates(inputs_TBR), shape.gates(hidden_TBR), shape.states(before))
    if len(saved_TBQD) == len(inputs_TBR):
        for target, value in zip(shape.saved(saved_TBQD), saved, strict=True):
            target.copy_(value)
    if shape.n_states > 1:
        in_gate, forget, candidate, _ = (each.flatten(-2) for each in saved)
        added, c = in_gate * candidate, slice(shape.n_units, None)
        added[0] += forget[0] * before[0, :, c]
        reset_BT = None if reset_TB is None else reset_TB.t()
        states_TBS[1:, :, c] = forward_scan(added.transpose(0, 1), forget.transpose(0, 1), reset_BT).transpose(0, 1)
