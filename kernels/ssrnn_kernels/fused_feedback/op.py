"""Feedback through a window, passes and sweeps, as layers and users call it: who runs it, and a torch.library op.

Imports torch; Triton only where it is chosen. T time, B batch, R rows, D units, N states a unit, S = N·D, Q saved."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ssrnn_kernels.autocasting import in_the_types_given
from ssrnn_kernels.backends import backend_for
from ssrnn_kernels.cell import is_float
from ssrnn_kernels.feedback_scan.shapes import accumulation_dtype
from ssrnn_kernels.fused_feedback.compiled import compiled_pass
from ssrnn_kernels.fused_feedback.reference import Pass, pass_reference
from ssrnn_kernels.window import Solved, Window


@dataclass(frozen=True)
class Refined:
    """What K sweeps came to, and each sequence's norms, float64."""

    solved: Solved
    norms_KB: Tensor  # K + 2 rows: ‖what the scan gave‖, ‖what each sweep added‖, ‖δ‖
    onward_KBS: Tensor | None  # K + 1: what flows on to before the window in the scan and in each sweep, if asked for


class Feedback(NamedTuple):
    """What fused_feedback gives.

    The norms are of each sequence, float64: where they grow the sweeps diverge, and nothing is left out here.
    onward_KBS: what flows on to before the window in the scan and in each sweep, the beyond_KBS of the chunk of time
    before this one: chunks, the last first, give what the whole window does."""

    delta_TBS: Tensor
    gates_TBR: Tensor  # dL/du
    inputs_TBR: Tensor  # dL/dx; the same tensor where it is the same
    increments_KB: Tensor  # K + 1: ‖what the scan gave‖, then ‖what each sweep added‖
    total_B: Tensor  # ‖δ‖
    onward_KBS: Tensor


def fused_feedback(
    cell: str,
    states_TBS: Tensor,
    saved_TBQD: Tensor,
    weight_hh_RK: Tensor,
    error_TBS: Tensor,
    reset_TB: Tensor | None = None,
    decay_NND: Tensor | None = None,
    beyond_KBS: Tensor | None = None,
    *,
    refinements: int = 0,
    backend: str = "auto",
) -> Feedback:
    """δ = dL/ds of every step and what follows from it, by a scan back in time and sweeps towards BPTT.

    δ_t = e_t + D_{t+1}ᵀ δ_{t+1}, with D the diagonal of the step's own Jacobian, an N × N block a unit (decay None), or
    constant; then sweeps towards BPTT: δ ← scan(e + shift(R δ)), R the rest of Jᵀ (docs/method.md).

    states (T + 1), saved: as fused_recurrence leaves them.  error_TBS: e_t = ∂L/∂s_t through the output at t alone.
    decay_NND: of a constant D.  beyond_KBS: Feedback's onward_KBS of the chunk that follows.
    backend: "auto" (backends.py has the rule), "torch", "compiled", "triton".
    Not differentiable. ValueError names what is wrong and what is allowed."""
    given = (cell, states_TBS, saved_TBQD, weight_hh_RK, error_TBS, reset_TB, decay_NND, beyond_KBS)
    delta, gates, inputs, increments, total, onward = _op(*given, refinements, backend)
    return Feedback(delta, gates, inputs if inputs.numel() else gates, increments, total, onward)


@in_the_types_given
def refine(
    window: Window,
    error_TBS: Tensor,
    decay_NND: Tensor | None,
    sweeps: int,
    backend: str = "auto",
    beyond_KBS: Tensor | None = None,
    *,
    onward: bool = False,
) -> Refined:
    """Σ_k u_k with u_0 = scan(e), u_k = scan(shift(R u_{k−1})): K sweeps towards the fixed point, which is BPTT.

    decay None: the Jacobian's own diagonal, and R u is W° times the gates' gradients.
    beyond_KBS: the onward_KBS of the chunk of time that follows: chunks give what the whole window does.
    onward: is it wanted of this one?"""
    one_pass, summed = _pass_by(backend_for(backend, window.cell, error_TBS)), accumulation_dtype(error_TBS)
    decay_NND, beyond_KBS = (None if each is None else each.to(summed) for each in (decay_NND, beyond_KBS))
    error_TBS = error_TBS.contiguous()
    if not error_TBS.numel():
        return _of_nothing(window, error_TBS, sweeps, beyond_KBS)
    weight_RK = window.weight_hh_RK
    if decay_NND is None and sweeps:
        weight_RK = window.weights_beside_the_diagonal()
    beyond = (None,) * (sweeps + 1) if beyond_KBS is None else beyond_KBS
    done = one_pass(window, decay_NND, error_TBS, carry_BS=beyond[0], last=sweeps == 0)
    norms, flows_on = [done.increment_B], [done.carry_BS]
    for sweep in range(1, sweeps + 1):
        flow_TBD = window.through(done.gates_TBR, weight_RK)
        past = _past_the_scan(window, flow_TBD[0], done) if onward else 0
        done = one_pass(window, decay_NND, error_TBS, flow_TBD, done, beyond[sweep], last=sweep == sweeps)
        norms.append(done.increment_B)
        if onward:
            flows_on.append(done.carry_BS + past)
    assert done.inputs_TBR is not None
    solved = Solved(done.delta_TBS, done.gates_TBR, done.inputs_TBR)
    return Refined(solved, torch.stack([*norms, done.total_B]).double(), torch.stack(flows_on) if onward else None)


def _of_nothing(window: Window, error_TBS: Tensor, sweeps: int, beyond_KBS: Tensor | None) -> Refined:
    """Of a window without steps or sequences: what flows in flows on."""
    norms = error_TBS.new_zeros(sweeps + 2, error_TBS.shape[1], dtype=torch.float64)
    if beyond_KBS is None:
        beyond_KBS = error_TBS.new_zeros(sweeps + 1, *error_TBS.shape[1:], dtype=accumulation_dtype(error_TBS))
    return Refined(window.solved(error_TBS.clone()), norms, beyond_KBS.clone())


def _past_the_scan(window: Window, flow_BD: Tensor, before: Pass) -> Tensor:
    """(B, S): what the pass before sends from the first step to before the window, beside its own scan."""
    past = torch.zeros_like(before.carry_BS)
    if before.rest_TBS is not None:
        past += before.rest_TBS[0]
    past[:, : flow_BD.shape[-1]] += flow_BD
    return window.cut(past.unsqueeze(0), 0)[0]


def _pass_by(backend: str) -> Callable[..., Pass]:
    if backend == "compiled":
        return compiled_pass
    if backend == "torch":
        return pass_reference
    from ssrnn_kernels.fused_feedback.triton import triton_pass

    return triton_pass


@torch.library.custom_op("ssrnn::fused_feedback", mutates_args=())
def _op(
    cell: str,
    states: Tensor,
    saved: Tensor,
    weight_hh: Tensor,
    error: Tensor,
    reset: Tensor | None,
    decay: Tensor | None,
    beyond: Tensor | None,
    refinements: int,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    window = Window.checked(cell, states, saved, weight_hh, error, reset)
    _check(window, error, decay, beyond, refinements)
    done = refine(window, error, decay, refinements, backend, beyond, onward=True)
    assert done.onward_KBS is not None
    return *done.solved.apart(), done.norms_KB[:-1].clone(), done.norms_KB[-1].clone(), done.onward_KBS


@_op.register_fake
def _(
    cell: str,
    states: Tensor,
    saved: Tensor,
    weight_hh: Tensor,
    error: Tensor,
    reset: Tensor | None,
    decay: Tensor | None,
    beyond: Tensor | None,
    refinements: int,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    window = Window.checked(cell, states, saved, weight_hh, error, reset)
    _check(window, error, decay, beyond, refinements)
    norms = error.new_empty(refinements + 1, error.shape[1], dtype=torch.float64)
    onward = error.new_empty(refinements + 1, *error.shape[1:], dtype=accumulation_dtype(error))
    return *window.room_for_solved(error), norms, torch.empty_like(norms[0]), onward


def _check(window: Window, error: Tensor, decay: Tensor | None, beyond: Tensor | None, refinements: int) -> None:
    n, d = window.shape.n_states, window.shape.n_units
    if refinements < 0:
        raise ValueError(f"refinements: {refinements}; allowed: 0 or more")
    if decay is not None and decay.shape != (n, n, d):
        raise ValueError(f"decay: shape {tuple(decay.shape)}; allowed: {(n, n, d)}, or None for the Jacobian's own")
    for name, given in (("decay", decay), ("beyond", beyond)):
        if given is not None and (not is_float(given) or given.device != error.device):
            came = f"{given.dtype} on {given.device}"
            raise ValueError(f"{name}: {came}; allowed: floating-point on {error.device}, where the error is")
    wanted = (refinements + 1, *error.shape[1:])
    if beyond is not None and beyond.shape != wanted:
        raise ValueError(f"beyond: shape {tuple(beyond.shape)}; allowed: {wanted}, as the chunk after gave it")
