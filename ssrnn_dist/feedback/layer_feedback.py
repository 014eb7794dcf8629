"""One layer's learning rule and what it remembers from step to step: the calibrated decay, the sweeps' increments.

Plain tensors beside the module, not buffers: DeepSpeed would cast a buffer to bf16, and λ near 1 needs float32."""

import torch
from torch import Tensor

from ssrnn_dist.config.model import FeedbackConfig

MOMENTUM = 0.9  # of the calibrated decay, from optimizer step to optimizer step


class LayerFeedback:
    """The rule of one layer with d units and its running sums; the sums add up over micro-batches and ranks."""

    def __init__(self, config: FeedbackConfig, d_state: int) -> None:
        self.config = config
        self.decay_D: Tensor | None = torch.linspace(0, 1, d_state) if config.decay == "linspace" else None
        self.increments_3 = torch.zeros(3, dtype=torch.float64)  # Δ_K², Δ_{K−1}², ‖δ‖² since the last take
        self.diagonal_sum_D = torch.zeros(d_state, dtype=torch.float64)
        self.diagonal_count = torch.zeros((), dtype=torch.float64)

    @property
    def calibrates(self) -> bool:
        return self.config.decay == "calibrated"

    def saw_increments(self, last: Tensor, before: Tensor, total: Tensor) -> None:
        """Add a backward's norms Δ_K, Δ_{K−1} and ‖δ⁽ᴷ⁾‖."""
        norms = torch.stack([last, before, total]).double()
        self.increments_3 = self.increments_3.to(norms.device) + norms * norms

    def saw_diagonal(self, diagonal_TBD: Tensor, reset_TB: Tensor | None) -> None:
        """Add diag(J_t) of a window, without its first step and without the starts of documents."""
        inner = diagonal_TBD[1:].double()
        if reset_TB is None:
            count = torch.tensor(float(inner.shape[0] * inner.shape[1]), dtype=torch.float64, device=inner.device)
        else:
            keep_TB = (~reset_TB[1:]).double()
            inner, count = inner * keep_TB.unsqueeze(-1), keep_TB.sum()
        self.diagonal_sum_D = self.diagonal_sum_D.to(inner.device) + inner.sum(dim=(0, 1))
        self.diagonal_count = self.diagonal_count.to(inner.device) + count

    def take_diagonal(self) -> Tensor:
        """The sums and the count since the last call, as one vector (D + 1,) to be added over ranks."""
        taken = torch.cat([self.diagonal_sum_D, self.diagonal_count.reshape(1)])
        self.diagonal_sum_D = torch.zeros_like(self.diagonal_sum_D)
        self.diagonal_count = torch.zeros_like(self.diagonal_count)
        return taken

    def take_increments(self) -> Tensor:
        """The sums of squares since the last call, (3,), to be added over ranks."""
        taken, self.increments_3 = self.increments_3, torch.zeros_like(self.increments_3)
        return taken

    def recalibrate(self, sums_and_count: Tensor) -> None:
        """Move λ towards the mean of diag(J) that all ranks saw; the first value is taken whole."""
        if sums_and_count[-1] == 0:
            return
        mean_D = (sums_and_count[:-1] / sums_and_count[-1]).float()
        self.decay_D = mean_D if self.decay_D is None else MOMENTUM * self.decay_D + (1 - MOMENTUM) * mean_D
