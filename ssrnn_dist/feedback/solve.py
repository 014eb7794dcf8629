"""From the errors of a window to δ = dL/ds and the gates' gradients, by each rule: docs/method.md, time-major.

Imports torch and the kernels. T time, B batch, R rows of the weights, D units, N states a unit, S = N·D."""

import torch
from torch import Tensor

from ssrnn_dist.feedback.layer_feedback import LayerFeedback
from ssrnn_kernels.fused_bptt import exact_feedback
from ssrnn_kernels.fused_feedback import refine
from ssrnn_kernels.window import Solved, Window


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


def solve_chunk(
    window: Window, error_TBS: Tensor, feedback: LayerFeedback, beyond_KBS: Tensor | None
) -> tuple[Solved, Tensor | None]:
    """The same of a chunk of time, given the chunk after's onward_KBS, and its own; None by BPTT, which goes by states.

    A sequence whose sweeps grow in the chunk does without those that do, and hands nothing of them on."""
    if feedback.config.kind == "exact":
        return exact_feedback(window, error_TBS), None
    decay, sweeps = _decay_of_chunks(error_TBS, feedback), feedback.sweeps
    done = refine(window, error_TBS, decay, sweeps, beyond_KBS=beyond_KBS, onward=True)
    assert done.onward_KBS is not None
    if sweeps == 0:
        return done.solved, done.onward_KBS
    increments_KB = done.norms_KB[:-1].cpu()
    shrinks_KB = shrinking(increments_KB)
    told = (increments_KB[-1], increments_KB[-2], done.norms_KB[-1].cpu())
    feedback.saw_increments(*(each.where(shrinks_KB[-1], 0.0).norm() for each in told))
    if bool(shrinks_KB.all()):
        return done.solved, done.onward_KBS
    feedback.saw_sweeps_grow(grows_all_in_all(increments_KB, shrinks_KB))
    can_make_B = shrinks_KB.sum(dim=0) - 1
    for fewer in can_make_B[can_make_B < sweeps].unique().tolist():
        sequences = (can_make_B == fewer).nonzero().flatten().to(error_TBS.device)
        into = None if beyond_KBS is None else beyond_KBS[: fewer + 1, sequences]
        part = refine(window.sequences(sequences), error_TBS[:, sequences], decay, fewer, beyond_KBS=into)
        done.solved.take(sequences, part.solved)
    return done.solved, done.onward_KBS * shrinks_KB.unsqueeze(-1).to(done.onward_KBS)


def _decay_of_chunks(error_TBS: Tensor, feedback: LayerFeedback) -> Tensor | None:
    """None: the Jacobian's own diagonal. ValueError: a rule that asks for the whole window."""
    if feedback.is_auto or feedback.is_dense or feedback.calibrates:
        rule = "refinements: auto" if feedback.is_auto else f"decay: {feedback.config.decay}"
        raise ValueError(f"{rule} does not go by chunks of time; allowed: exact, truncated, selective and stationary")
    if feedback.config.kind == "truncated":
        return error_TBS.new_zeros(feedback.block)
    return None if feedback.config.kind == "selective" else feedback.decay_for(error_TBS)


def _dense(window: Window, error_TBS: Tensor, matrix_SS: Tensor) -> Tensor:
    """The paper's ablations: δ_t = e_t + Aᵀ δ_{t+1} with a fixed random matrix A, step by step."""
    delta = error_TBS.clone()
    for t in reversed(range(window.n_steps - 1)):
        delta[t] += window.cut(delta[t + 1 : t + 2] @ matrix_SS, t + 1)[0]
    return delta


def _refined(
    window: Window, error_TBS: Tensor, decay_NND: Tensor | None, feedback: LayerFeedback, sweeps: int
) -> Solved:
    """The sweeps that shrink: a sequence whose sweeps grow does without those that do, unless all T will run.

    `auto`, which promises a tolerance, takes such a sequence back step by step."""
    if feedback.goes_by_bptt:
        return exact_feedback(window, error_TBS)
    done = refine(window, error_TBS, decay_NND, sweeps)
    if sweeps == 0:
        return done.solved
    norms_KB = done.norms_KB.cpu()  # of a GPU the one thing that the host waits for
    increments_KB = norms_KB[:-1]
    shrinks_KB = shrinking(increments_KB)
    if sweeps >= window.n_steps - 1:  # however they go, they end at BPTT
        shrinks_KB = torch.ones_like(shrinks_KB)
    if sweeps == feedback.sweeps:
        told = (increments_KB[-1], increments_KB[-2], norms_KB[-1])
        feedback.saw_increments(*(each.where(shrinks_KB[-1], 0.0).norm() for each in told))
    if bool(shrinks_KB.all()):
        return done.solved
    feedback.saw_sweeps_grow(grows_all_in_all(increments_KB, shrinks_KB))
    can_make_B = shrinks_KB.sum(dim=0) - 1
    for fewer in can_make_B[can_make_B < sweeps].unique().tolist():
        sequences = (can_make_B == fewer).nonzero().flatten().to(error_TBS.device)
        part = window.sequences(sequences), error_TBS[:, sequences]
        apart = exact_feedback(*part) if feedback.is_auto else refine(*part, decay_NND, fewer).solved
        done.solved.take(sequences, apart)
    return done.solved


def shrinking(increments_KB: Tensor) -> Tensor:
    """(K + 1, B) bool: has no sweep up to this one added more to the sequence than the scan itself did?"""
    grows_KB = ~(increments_KB <= increments_KB[0])  # so does what is not a number
    grows_KB[0] = False
    return ~grows_KB.cummax(dim=0).values


def grows_all_in_all(increments_KB: Tensor, shrinks_KB: Tensor) -> bool:
    """Does a sweep add more than the scan to all sequences together, but for those that grew before?"""
    together_K = increments_KB[1:].where(shrinks_KB[:-1], 0.0).norm(dim=1)
    return not bool((together_K <= increments_KB[0].norm()).all())
