"""From the errors of a window to δ = dL/ds and the gates' gradients, by each rule: docs/method.md, time-major.

Imports torch and the kernels. T time, B batch, R rows of the weights, D units, N states a unit, S = N·D."""

import torch
from torch import Tensor

from ssrnn_dist.feedback.layer_feedback import LayerFeedback
from ssrnn_kernels.fused_feedback import Solved, Window, exact_feedback, feedback_pass_for


def solve_feedback(window: Window, error_TBS: Tensor, feedback: LayerFeedback) -> Solved:
    """δ and what follows from it, by the layer's rule; tells the layer its increments and its diagonal."""
    kind = feedback.config.kind
    if kind == "exact":
        return exact_feedback(window, error_TBS)
    if kind == "truncated":
        return _refined(window, error_TBS, error_TBS.new_zeros(feedback.block), feedback, 0)
    if kind == "selective":
        return _refined(window, error_TBS, None, feedback, feedback.sweeps)
    if feedback.calibrates:
        feedback.saw_diagonal(window.diagonal(), window.reset_TB)
    decay = feedback.decay_for(error_TBS)
    if feedback.is_dense:
        return window.solved(_dense(window, error_TBS, decay))
    return _refined(window, error_TBS, decay, feedback, feedback.sweeps)


def _dense(window: Window, error_TBS: Tensor, matrix_SS: Tensor) -> Tensor:
    """The paper's ablations: δ_t = e_t + Aᵀ δ_{t+1} with a fixed random matrix A, step by step."""
    delta = error_TBS.clone()
    for t in reversed(range(window.n_steps - 1)):
        delta[t] += window.cut(delta[t + 1 : t + 2] @ matrix_SS, t + 1)[0]
    return delta


def _refined(
    window: Window, error_TBS: Tensor, decay_NND: Tensor | None, feedback: LayerFeedback, sweeps: int
) -> Solved:
    """Σ_k u_k with u_0 = scan(e), u_k = scan(shift(R u_{k−1})): K sweeps towards the fixed point, which is BPTT.

    decay None: the Jacobian's own diagonal, and R u is W° times the gates' gradients.
    A sweep that adds more to a sequence than the scan itself diverges: that sequence does without it and those after
    it, unless all T will run. `auto`, which promises a tolerance, takes it back step by step then."""
    if feedback.goes_by_bptt:
        return exact_feedback(window, error_TBS)
    weight_RK = window.weights_beside_the_diagonal() if decay_NND is None else window.weight_hh_RK
    feedback_pass = feedback_pass_for(window, error_TBS)
    done = feedback_pass(window, decay_NND, error_TBS, last=sweeps == 0)
    scanned_B, shrinks_B = done.increment_B, torch.ones_like(done.increment_B, dtype=torch.bool)
    apart: list[tuple[Tensor, int]] = []  # sequences, and how many sweeps they can make
    all_in_all_it_grows = False
    for sweep in range(1, sweeps + 1):
        flow_TBD = window.through(done.gates_TBR, weight_RK)
        following = feedback_pass(window, decay_NND, error_TBS, flow_TBD, done, last=sweep == sweeps)
        if sweeps < window.n_steps - 1:
            grows_B = shrinks_B & ~(following.increment_B <= scanned_B)
            if bool(grows_B.any()):
                apart.append((grows_B.nonzero().flatten(), sweep - 1))
                all_in_all_it_grows |= not bool(following.increment_B.where(shrinks_B, 0.0).norm() <= scanned_B.norm())
                shrinks_B = shrinks_B & ~grows_B
        if sweep == feedback.sweeps:
            norms = (following.increment_B, done.increment_B, following.total_B)
            feedback.saw_increments(*(each.where(shrinks_B, 0.0).norm() for each in norms))
        done = following
    assert done.inputs_TBR is not None
    solved = Solved(done.delta_TBS, done.gates_TBR, done.inputs_TBR)
    if apart:
        feedback.saw_sweeps_grow(all_in_all_it_grows)
    for sequences, fewer in apart:
        part = window.sequences(sequences), error_TBS[:, sequences]
        by_sweeps = not feedback.is_auto
        solved.take(sequences, _refined(*part, decay_NND, feedback, fewer) if by_sweeps else exact_feedback(*part))
    return solved
