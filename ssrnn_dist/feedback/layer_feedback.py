"""One layer's learning rule and what it remembers from step to step: the decay, the sweeps and their increments.

Plain tensors beside the module, not buffers: DeepSpeed would cast a buffer to bf16, and λ near 1 needs float32."""

import warnings

import torch
from torch import Tensor

from ssrnn_dist.config.model import FeedbackConfig
from ssrnn_dist.feedback.fidelity import BY_BPTT, MOST_SWEEPS

MOMENTUM = 0.9  # of the calibrated decay, from optimizer step to optimizer step


class LayerFeedback:
    """The rule of one layer with d units of n_states states; its running sums add up over micro-batches and ranks.

    ValueError: the config gives another number of decays than the layer has states."""

    def __init__(self, config: FeedbackConfig, d_units: int, n_states: int = 1) -> None:
        self.config, self.d_units, self.n_states = config, d_units, n_states
        self.decay: Tensor | None = _first_decay(config, n_states, d_units)
        self.refinements = 1 if config.refinements == "auto" else config.refinements
        self.looking = False  # true where a layer that `auto` has stopped from sweeping sweeps, to see if it should
        self.observing = False  # true while a calibrated decay looks for its first value
        self.unjudged: list[tuple[LayerFeedback, Tensor]] | None = None  # while solve.Trust is given: sweeps' norms
        self.increments_4 = torch.zeros(4, dtype=torch.float64)  # Δ_K², Δ_{K−1}², ‖δ‖², and sweeps that diverged
        self.block = (n_states, n_states, d_units)  # of a unit's own factors from step to step
        self.diagonal_sum = torch.zeros(self.block, dtype=torch.float64)
        self.diagonal_count = torch.zeros((), dtype=torch.float64)

    @property
    def calibrates(self) -> bool:
        return self.config.decay == "calibrated"

    @property
    def is_auto(self) -> bool:
        return self.config.refinements == "auto"

    @property
    def is_dense(self) -> bool:
        return self.config.decay in ("gaussian", "orthogonal")

    @property
    def sweeps(self) -> int:
        """How many refinement sweeps the next backward makes."""
        if self.looking:
            return 1 if self.refinements == 0 else MOST_SWEEPS
        return self.refinements

    @property
    def goes_by_bptt(self) -> bool:
        """Has `auto` found that sweeps do not come to an end, or not soon enough?"""
        return self.is_auto and self.sweeps == BY_BPTT

    def copy(self) -> "LayerFeedback":
        """The same rule at the same decay and sweeps, telling nothing to this one."""
        twin = LayerFeedback(self.config, self.d_units, self.n_states)
        twin.decay, twin.refinements, twin.looking = self.decay, self.refinements, self.looking
        return twin

    def decay_for(self, error: Tensor) -> Tensor:
        """The decay (N, N, D), or a dense one (S, S), where the error is; float64 for a float64 error."""
        if self.decay is None:
            raise RuntimeError(
                "a calibrated decay has no value yet: in a loop of your own Steering.observed gives it (docs/method.md)"
            )
        self.decay = self.decay.to(error.device)
        return self.decay.to(error.dtype) if self.is_dense or error.dtype == torch.float64 else self.decay

    def saw_increments(self, last: Tensor, before: Tensor, total: Tensor) -> None:
        """Add a backward's norms Δ_K, Δ_{K−1} and ‖δ⁽ᴷ⁾‖."""
        norms = torch.stack([last, before, total, torch.zeros_like(last)]).double()
        self.increments_4 = self.increments_4.to(norms.device) + norms * norms

    def saw_sweeps_grow(self, all_in_all: bool) -> None:
        """Some sequences' sweeps grew: say so once, and count the backward if all in all they did.

        A sequence or two are solved apart; where the sum over sequences grows, `auto` changes its ways."""
        self.increments_4[3] += all_in_all
        instead = "go by BPTT" if self.is_auto else "do without the sweeps that grow"
        warnings.warn(f"refinement grows instead of shrinking: the sequences concerned {instead}", stacklevel=2)

    def saw_diagonal(self, diagonal: Tensor, reset_TB: Tensor | None) -> None:
        """Add the diagonal (T, B, …, D) of a window's Jacobians, without its first step and documents' starts."""
        inner = diagonal[1:].double()
        inner = inner.reshape(*inner.shape[:2], *self.block)
        if reset_TB is None:
            count = torch.tensor(float(inner.shape[0] * inner.shape[1]), dtype=torch.float64, device=inner.device)
        else:
            keep_TB = (~reset_TB[1:]).double()
            inner, count = inner * keep_TB.reshape(*keep_TB.shape, *(1,) * (inner.dim() - 2)), keep_TB.sum()
        self.diagonal_sum = self.diagonal_sum.to(inner.device) + inner.sum(dim=(0, 1))
        self.diagonal_count = self.diagonal_count.to(inner.device) + count

    def take_diagonal(self) -> Tensor:
        """The sums and, last, the count since the last call, as one vector to be added over ranks."""
        taken = torch.cat([self.diagonal_sum.flatten(), self.diagonal_count.reshape(1)])
        self.diagonal_sum = torch.zeros_like(self.diagonal_sum)
        self.diagonal_count = torch.zeros_like(self.diagonal_count)
        return taken

    def take_increments(self) -> Tensor:
        """The sums of squares, and the count of sweeps that diverged, since the last call: (4,), to add over ranks."""
        taken, self.increments_4 = self.increments_4, torch.zeros_like(self.increments_4)
        return taken

    def recalibrate(self, sums_and_count: Tensor) -> None:
        """Move λ towards the mean of the diagonal that all ranks saw; the first value is taken whole."""
        if sums_and_count[-1] == 0:
            return
        mean = (sums_and_count[:-1] / sums_and_count[-1]).float().view_as(self.diagonal_sum)
        self.decay = mean if self.decay is None else MOMENTUM * self.decay + (1 - MOMENTUM) * mean


def _first_decay(config: FeedbackConfig, n_states: int, d_units: int) -> Tensor | None:
    """What a decay starts as: λ as a block (N, N, D), a dense matrix (S, S), drawn as weights are, or nothing."""
    decay, d_state = config.decay, n_states * d_units
    if decay is None or decay == "calibrated":
        return None
    if decay == "gaussian":
        return torch.randn(d_state, d_state) / d_state**0.5
    if decay == "orthogonal":
        return torch.linalg.qr(torch.randn(d_state, d_state)).Q
    if decay == "linspace":
        return _on_the_diagonal(torch.linspace(0, 1, d_state), n_states)
    numbers = torch.tensor(decay, dtype=torch.float32).reshape(-1)
    if len(numbers) not in (1, d_state):
        raise ValueError(
            f"decay: {len(numbers)} numbers; allowed: one, or one for each of the layer's {d_state} states"
        )
    return _on_the_diagonal(numbers.expand(d_state), n_states)


def _on_the_diagonal(factors_S: Tensor, n_states: int) -> Tensor:
    """(N, N, D): each state with its own factor, no state with another's."""
    return torch.diag_embed(factors_S.view(n_states, -1).t()).permute(1, 2, 0).contiguous()
