"""From the errors of a window to δ = dL/ds, by each rule: the mathematics of docs/method.md, time-major.

Imports torch, a cell and feedback_scan. T time, B batch, D units, G gates·units, C coefficients; one state a unit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ssrnn_dist.feedback.layer_feedback import LayerFeedback
from ssrnn_kernels import feedback_scan
from ssrnn_kernels.cells import Cell


@dataclass(frozen=True)
class Window:
    """What the backward knows of a window: local derivatives, weights, and where documents start."""

    cell: Cell
    coefficients_TBCD: Tensor
    weight_hh_GD: Tensor
    reset_TB: Tensor | None

    def cut(self, flow_TBD: Tensor, first_step: int) -> Tensor:
        """Zero, in place, what would flow out of a step that starts a document; the flow's first step is named."""
        if self.reset_TB is not None:
            starts = self.reset_TB[first_step : first_step + flow_TBD.shape[0]]
            flow_TBD.masked_fill_(starts.unsqueeze(-1), 0)
        return flow_TBD

    def full_flow(self, delta_TBD: Tensor, first_step: int = 0) -> Tensor:
        """J_tᵀ δ_t for the steps that delta covers."""
        steps = slice(first_step, first_step + delta_TBD.shape[0])
        coefficients = self.coefficients_TBCD[steps]
        gates_TBG = self.cell.gate_gradients(coefficients, delta_TBD)
        return self.cut(gates_TBG @ self.weight_hh_GD + self.cell.direct(coefficients, delta_TBD), first_step)


def solve_feedback(window: Window, error_TBD: Tensor, feedback: LayerFeedback) -> Tensor:
    """δ (T, B, D) from e (T, B, D), by the layer's rule; tells the layer its increments and its diagonal."""
    kind = feedback.config.kind
    if kind == "truncated":
        return error_TBD
    if kind == "exact":
        return _exact(window, error_TBD)
    if kind == "selective":
        decay = window.cell.jacobian_diagonal(window.coefficients_TBCD, window.weight_hh_GD)
        return _refined(window, error_TBD, decay, _without_diagonal(window.weight_hh_GD), feedback)
    if feedback.decay_D is None:
        raise RuntimeError("a calibrated decay is used before its first value: call Engine.calibrate first")
    if feedback.calibrates:
        diagonal_TBD = window.cell.jacobian_diagonal(window.coefficients_TBCD, window.weight_hh_GD)
        feedback.saw_diagonal(diagonal_TBD, window.reset_TB)
    decay = feedback.decay_D = feedback.decay_D.to(error_TBD.device)
    return _refined(window, error_TBD, decay, None, feedback)


def _exact(window: Window, error_TBD: Tensor) -> Tensor:
    """BPTT: δ_t = e_t + J_{t+1}ᵀ δ_{t+1}, one step after the other."""
    delta = torch.empty_like(error_TBD)
    n_steps = error_TBD.shape[0]
    for t in reversed(range(n_steps)):
        delta[t] = error_TBD[t]
        if t + 1 < n_steps:
            delta[t] += window.full_flow(delta[t + 1 : t + 2], t + 1)[0]
    return delta


def _refined(
    window: Window, error_TBD: Tensor, decay: Tensor, weight_rest_GD: Tensor | None, feedback: LayerFeedback
) -> Tensor:
    """Σ_k u_k with u_0 = scan(e), u_k = scan(shift(R u_{k−1})): K sweeps towards the fixed point, which is BPTT.

    weight_rest_GD: W°, where the scan's diagonal is the Jacobian's own; None: R δ = Jᵀ δ − decay δ."""
    delta = increment = _scan(error_TBD, decay, window.reset_TB)
    sweeps = feedback.config.refinements
    for sweep in range(1, sweeps + 1):
        flow = torch.zeros_like(error_TBD)
        flow[:-1] = _rest(window, increment[1:], decay, weight_rest_GD)
        before, increment = increment, _scan(flow, decay, window.reset_TB)
        delta = delta + increment
        if sweep == sweeps:
            feedback.saw_increments(_norm(increment), _norm(before), _norm(delta))
    return delta


def _rest(window: Window, delta_TBD: Tensor, decay: Tensor, weight_rest_GD: Tensor | None) -> Tensor:
    """R_t δ_t for the steps from 1 on: what the Jacobian carries beside the scan's diagonal."""
    if weight_rest_GD is None:
        flow = window.full_flow(delta_TBD, 1)
        return flow - window.cut(decay.to(delta_TBD.dtype) * delta_TBD, 1)
    gates_TBG = window.cell.gate_gradients(window.coefficients_TBCD[1:], delta_TBD)
    return window.cut(gates_TBG @ weight_rest_GD, 1)


def _without_diagonal(weight_hh_GD: Tensor) -> Tensor:
    """W°: every gate's square block with its diagonal set to zero."""
    d = weight_hh_GD.shape[-1]
    rest = weight_hh_GD.clone()
    rest.unflatten(0, (-1, d)).diagonal(dim1=1, dim2=2).zero_()
    return rest


def _scan(error_TBD: Tensor, decay: Tensor, reset_TB: Tensor | None) -> Tensor:
    """feedback_scan on time-major memory: views, no copies."""
    decay = decay if decay.dim() == 1 else decay.transpose(0, 1)
    reset_BT = None if reset_TB is None else reset_TB.transpose(0, 1)
    return feedback_scan(error_TBD.transpose(0, 1), decay, reset_BT).transpose(0, 1)


def _norm(values: Tensor) -> Tensor:
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    return torch.linalg.vector_norm(values, dtype=dtype)
