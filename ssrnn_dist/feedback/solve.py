"""From the errors of a window to δ = dL/ds, by each rule: the mathematics of docs/method.md, time-major.

Imports torch, a cell and feedback_scan. T time, B batch, H heads, G gates, K units a head, D = H·K, N states a unit,
S = N·D. A decay is (S,), constant; (T, B, D), varying; with two coupled states (2, 2, D) or (T, B, 2, 2, D)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ssrnn_dist.feedback.layer_feedback import LayerFeedback
from ssrnn_kernels import feedback_scan
from ssrnn_kernels.cell import Cell, Shape
from ssrnn_kernels.heads import through_weights


@dataclass(frozen=True)
class Window:
    """What the backward knows of a window: local derivatives, weights, and where documents start."""

    cell: Cell
    shape: Shape
    derivatives_TBHCK: Tensor
    weight_hh_RK: Tensor
    reset_TB: Tensor | None

    def cut(self, flow_TBS: Tensor, first_step: int) -> Tensor:
        """Zero, in place, what would flow out of a step that starts a document; the flow's first step is named."""
        if self.reset_TB is not None:
            starts = self.reset_TB[first_step : first_step + flow_TBS.shape[0]]
            flow_TBS.masked_fill_(starts.unsqueeze(-1), 0)
        return flow_TBS

    def gates(self, delta_TBS: Tensor, first_step: int = 0) -> Tensor:
        """(T, B, H, G, K): the gates' gradients of the steps that delta covers."""
        return self.cell.gate_gradients(self._derivatives(delta_TBS, first_step), self.shape.states(delta_TBS))

    def full_flow(self, delta_TBS: Tensor, first_step: int = 0) -> Tensor:
        """J_tᵀ δ_t for the steps that delta covers."""
        direct = self.cell.direct(self._derivatives(delta_TBS, first_step), self.shape.states(delta_TBS))
        return self._flow(delta_TBS, self.weight_hh_RK, direct, first_step)

    def rest_flow(self, delta_TBS: Tensor, weight_rest_RK: Tensor, first_step: int) -> Tensor:
        """(J_t − D_t)ᵀ δ_t, with D_t the Jacobian's own diagonal and weight_rest_RK from without_diagonal."""
        return self._flow(delta_TBS, weight_rest_RK, (None,) * self.shape.n_states, first_step)

    def diagonal(self) -> Tensor:
        """(T, B, D) or (T, B, 2, 2, D): each unit's ∂s_t/∂s_{t−1}."""
        n_steps, n_batch, n_heads, _, head_size = self.derivatives_TBHCK.shape
        n = self.shape.n_states
        out = self.derivatives_TBHCK.new_empty(n_steps, n_batch, n, n, n_heads, head_size)
        self.cell.diagonal_into(self.derivatives_TBHCK, self.shape.diagonals(self.weight_hh_RK), out)
        flat = out.flatten(-2)
        return flat if n > 1 else flat[:, :, 0, 0]

    def _derivatives(self, delta_TBS: Tensor, first_step: int) -> Tensor:
        return self.derivatives_TBHCK[first_step : first_step + delta_TBS.shape[0]]

    def _flow(self, delta_TBS: Tensor, weight_RK: Tensor, direct: tuple[Tensor | None, ...], first_step: int) -> Tensor:
        to_h = through_weights(self.gates(delta_TBS, first_step), weight_RK)
        to_h = to_h if direct[0] is None else to_h.add_(direct[0])
        others = (torch.zeros_like(to_h) if part is None else part for part in direct[1:])
        flow = to_h if self.shape.n_states == 1 else torch.stack([to_h, *others], dim=2).flatten(2, 3)
        return self.cut(flow.flatten(2), first_step)


def solve_feedback(window: Window, error_TBS: Tensor, feedback: LayerFeedback) -> Tensor:
    """δ (T, B, S) from e (T, B, S), by the layer's rule; tells the layer its increments and its diagonal."""
    kind = feedback.config.kind
    if kind == "truncated":
        return error_TBS
    if kind == "exact":
        return _exact(window, error_TBS)
    if kind == "selective":
        return _refined(window, error_TBS, window.diagonal(), _without_diagonal(window), feedback)
    if feedback.calibrates:
        feedback.saw_diagonal(window.diagonal(), window.reset_TB)
    decay = feedback.decay_on(error_TBS.device)
    if feedback.is_dense:
        return _dense(window, error_TBS, decay.to(error_TBS.dtype))
    return _refined(window, error_TBS, decay, None, feedback)


def _exact(window: Window, error_TBS: Tensor) -> Tensor:
    """BPTT: δ_t = e_t + J_{t+1}ᵀ δ_{t+1}, one step after the other."""
    delta = error_TBS.clone()
    for t in reversed(range(error_TBS.shape[0] - 1)):
        delta[t] += window.full_flow(delta[t + 1 : t + 2], t + 1)[0]
    return delta


def _dense(window: Window, error_TBS: Tensor, matrix_SS: Tensor) -> Tensor:
    """The paper's ablations: δ_t = e_t + Aᵀ δ_{t+1} with a fixed random matrix A, step by step."""
    delta = error_TBS.clone()
    for t in reversed(range(error_TBS.shape[0] - 1)):
        delta[t] += window.cut(delta[t + 1 : t + 2] @ matrix_SS, t + 1)[0]
    return delta


def _refined(
    window: Window, error_TBS: Tensor, decay: Tensor, weight_rest_RK: Tensor | None, feedback: LayerFeedback
) -> Tensor:
    """Σ_k u_k with u_0 = scan(e), u_k = scan(shift(R u_{k−1})): K sweeps towards the fixed point, which is BPTT.

    weight_rest_RK: W°, where the scan's diagonal is the Jacobian's own; None: R δ = Jᵀ δ − Dᵀ δ.
    A sweep that adds more than the scan itself diverges: it is left out, and those after it, unless all T will run."""
    delta = increment = _scan(window, error_TBS, decay)
    sweeps = feedback.sweeps
    size = _norm(increment) if sweeps else error_TBS.new_zeros(())
    most = size if sweeps < error_TBS.shape[0] - 1 else size.new_tensor(torch.finfo(size.dtype).max)
    for sweep in range(1, sweeps + 1):
        flow = torch.zeros_like(error_TBS)
        flow[:-1] = _rest(window, increment[1:], decay, weight_rest_RK)
        before, increment = size, _scan(window, flow, decay)
        size = _norm(increment)
        if not bool(size <= most):
            feedback.saw_a_sweep_diverge()
            break
        delta = delta + increment
        if sweep == sweeps:
            feedback.saw_increments(size, before, _norm(delta))
    return delta


def _rest(window: Window, delta_TBS: Tensor, decay: Tensor, weight_rest_RK: Tensor | None) -> Tensor:
    """R_t δ_t for the steps from 1 on: what the Jacobian carries beside the scan's diagonal."""
    if weight_rest_RK is not None:
        return window.rest_flow(delta_TBS, weight_rest_RK, 1)
    decay = decay.to(delta_TBS.dtype)
    if decay.dim() == 1:
        carried = decay * delta_TBS
    else:
        states_TBND = delta_TBS.unflatten(-1, (2, -1))
        carried = (decay * states_TBND.unsqueeze(-2)).sum(dim=-3).flatten(-2)
    return window.full_flow(delta_TBS, 1) - window.cut(carried, 1)


def _without_diagonal(window: Window) -> Tensor:
    """W°: the weights with every unit's weight to itself set to zero."""
    rest = window.weight_hh_RK.clone()
    for diagonal_HK in window.shape.diagonals(rest):
        diagonal_HK.zero_()
    return rest


def _scan(window: Window, error_TBS: Tensor, decay: Tensor) -> Tensor:
    """feedback_scan on time-major memory: views, no copies."""
    coupled = window.shape.n_states == 2 and decay.dim() > 1
    varies = decay.dim() == (5 if coupled else 3)
    error = error_TBS.unflatten(-1, (2, -1)) if coupled else error_TBS
    reset_BT = None if window.reset_TB is None else window.reset_TB.transpose(0, 1)
    delta = feedback_scan(error.transpose(0, 1), decay.transpose(0, 1) if varies else decay, reset_BT).transpose(0, 1)
    return delta.flatten(2) if coupled else delta


def _norm(values: Tensor) -> Tensor:
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    return torch.linalg.vector_norm(values, dtype=dtype)
