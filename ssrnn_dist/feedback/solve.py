"""From the errors of a window to δ = dL/ds and the gates' gradients, by each rule: docs/method.md, time-major.

Imports torch and the kernels. T time, B batch, R rows of the weights, D units, N states a unit, S = N·D."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ssrnn_dist.feedback.layer_feedback import LayerFeedback
from ssrnn_kernels.fused_bptt import exact_feedback
from ssrnn_kernels.fused_feedback import refine
from ssrnn_kernels.window import Solved, Window


def solve_feedback(window: Window, error_TBS: Tensor, feedback: LayerFeedback) -> Solved:
    """δ and what follows from it, by the layer's rule; tells the layer its increments and its diagonal."""
    if feedback.config.kind == "exact":
        return exact_feedback(window, error_TBS)
    if feedback.calibrates:
        feedback.saw_diagonal(window.diagonal(), window.reset_TB)
    decay = _decay(error_TBS, feedback)
    if feedback.is_dense:
        assert decay is not None
        return window.solved(_dense(window, error_TBS, decay))
    return _refined(window, error_TBS, decay, feedback)


def solve_chunk(
    window: Window, error_TBS: Tensor, feedback: LayerFeedback, beyond_KBS: Tensor | None
) -> tuple[Solved, Tensor | None]:
    """The same of a chunk of time, given the chunk after's onward_KBS, and its own; None by BPTT, which goes by states.

    A sequence whose sweeps grow in the chunk does without those that do, and hands nothing of them on; where they are
    taken on Trust, it is found out later.
    ValueError: a rule that asks for the whole window."""
    if feedback.config.kind == "exact":
        return exact_feedback(window, error_TBS), None
    if feedback.is_auto or feedback.is_dense or feedback.calibrates:
        rule = "refinements: auto" if feedback.is_auto else f"decay: {feedback.config.decay}"
        raise ValueError(f"{rule} does not go by chunks of time; allowed: exact, truncated, selective and stationary")
    decay = _decay(error_TBS, feedback)
    done = refine(window, error_TBS, decay, feedback.sweeps, beyond_KBS=beyond_KBS, onward=True)
    assert done.onward_KBS is not None
    if feedback.sweeps == 0:
        return done.solved, done.onward_KBS
    if feedback.unjudged is not None:
        feedback.unjudged.append((feedback, done.norms_KB))
        return done.solved, done.onward_KBS

    def apart(sequences: Tensor, fewer: int) -> Solved:
        into = None if beyond_KBS is None else beyond_KBS[: fewer + 1, sequences]
        part = window.sequences(sequences), error_TBS[:, sequences]
        return refine(*part, decay, fewer, beyond_KBS=into).solved

    shrinks_KB = _judged(done.norms_KB.cpu(), feedback)
    _solve_apart(done.solved, shrinks_KB, apart)
    return done.solved, done.onward_KBS * shrinks_KB.unsqueeze(-1).to(done.onward_KBS)


def _decay(error_TBS: Tensor, feedback: LayerFeedback) -> Tensor | None:
    """None: the Jacobian's own diagonal."""
    if feedback.config.kind == "selective":
        return None
    if feedback.config.kind == "truncated":
        return error_TBS.new_zeros(feedback.block)
    return feedback.decay_for(error_TBS)


def _dense(window: Window, error_TBS: Tensor, matrix_SS: Tensor) -> Tensor:
    """The paper's ablations: δ_t = e_t + Aᵀ δ_{t+1} with a fixed random matrix A, step by step."""
    delta = error_TBS.clone()
    for t in reversed(range(window.n_steps - 1)):
        delta[t] += window.cut(delta[t + 1 : t + 2] @ matrix_SS, t + 1)[0]
    return delta


def _refined(window: Window, error_TBS: Tensor, decay_NND: Tensor | None, feedback: LayerFeedback) -> Solved:
    """The sweeps that shrink: a sequence whose sweeps grow does without those that do, unless all T will run.

    `auto`, which promises a tolerance, takes such a sequence back step by step."""
    if feedback.goes_by_bptt:
        return exact_feedback(window, error_TBS)
    sweeps = feedback.sweeps
    done = refine(window, error_TBS, decay_NND, sweeps)
    if sweeps == 0:
        return done.solved

    def apart(sequences: Tensor, fewer: int) -> Solved:
        part = window.sequences(sequences), error_TBS[:, sequences]
        return exact_feedback(*part) if feedback.is_auto else refine(*part, decay_NND, fewer).solved

    norms_KB = done.norms_KB.cpu()  # of a GPU the one thing that the host waits for
    _solve_apart(done.solved, _judged(norms_KB, feedback, all_will_run=sweeps >= window.n_steps - 1), apart)
    return done.solved


class Trust:
    """Sweeps of chunks that nobody has judged yet."""

    def __init__(self, layers: Sequence[LayerFeedback]) -> None:
        self._layers = layers
        self._norms: list[tuple[LayerFeedback, Tensor]] = []  # of chunks, (K + 2, B) each

    @contextmanager
    def given(self) -> Iterator[None]:
        """The backwards that run meanwhile, in any thread, make all their sweeps, and no host waits for a GPU."""
        for layer in self._layers:
            layer.unjudged = self._norms
        try:
            yield
        finally:
            for layer in self._layers:
                layer.unjudged = None

    def was_right(self) -> bool:
        """Did every sequence's sweeps shrink? Then the layers are told; else what they gave is not to be used.

        Looks again at the same memory at each call: what a graph has replayed."""
        if not self._norms:
            return True
        layers, norms = zip(*self._norms, strict=True)
        flat = torch.cat([norms_KB.flatten() for norms_KB in norms]).cpu()  # the host waits once
        parts = flat.split([norms_KB.numel() for norms_KB in norms])
        looked = [part.view_as(norms_KB) for part, norms_KB in zip(parts, norms, strict=True)]
        if not all(bool(shrinking(norms_KB[:-1]).all()) for norms_KB in looked):
            return False
        for layer, norms_KB in zip(layers, looked, strict=True):
            _judged(norms_KB, layer)
        return True


def _judged(norms_KB: Tensor, feedback: LayerFeedback, *, all_will_run: bool = False) -> Tensor:
    """(K + 1, B) bool: shrinking(), of which the layer is told.  norms_KB: a Refined's, on the CPU.

    all_will_run: however they go, they end at BPTT."""
    increments_KB = norms_KB[:-1]
    shrinks_KB = shrinking(increments_KB)
    if all_will_run:
        shrinks_KB = torch.ones_like(shrinks_KB)
    told = (increments_KB[-1], increments_KB[-2], norms_KB[-1])
    feedback.saw_increments(*(each.where(shrinks_KB[-1], 0.0).norm() for each in told))
    if not shrinks_KB.all():
        feedback.saw_sweeps_grow(grows_all_in_all(increments_KB, shrinks_KB))
    return shrinks_KB


def _solve_apart(solved: Solved, shrinks_KB: Tensor, apart: Callable[[Tensor, int], Solved]) -> None:
    """Replace the sequences that cannot make all sweeps, in place: apart(sequences, how many they can make)."""
    can_make_B = shrinks_KB.sum(dim=0) - 1
    for fewer in can_make_B[can_make_B < len(shrinks_KB) - 1].unique().tolist():
        sequences = (can_make_B == fewer).nonzero().flatten().to(solved.delta_TBS.device)
        solved.take(sequences, apart(sequences, fewer))


def shrinking(increments_KB: Tensor) -> Tensor:
    """(K + 1, B) bool: has no sweep up to this one added more to the sequence than the scan itself did?"""
    grows_KB = ~(increments_KB <= increments_KB[0])  # so does what is not a number
    grows_KB[0] = False
    return ~grows_KB.cummax(dim=0).values


def grows_all_in_all(increments_KB: Tensor, shrinks_KB: Tensor) -> bool:
    """Does a sweep add more than the scan to all sequences together, but for those that grew before?"""
    together_K = increments_KB[1:].where(shrinks_KB[:-1], 0.0).norm(dim=1)
    return not bool((together_K <= increments_KB[0].norm()).all())
