"""One recurrent layer: torch.nn's weights and mathematics, with a backward by structured feedback.

Imports the feedback and the kernels; knows nothing of parallelism. B batch, T time, D state, S states·D."""

import math
from collections.abc import Callable
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssrnn_dist.config.model import FeedbackConfig
from ssrnn_dist.feedback import LayerFeedback, recurrence
from ssrnn_dist.feedback.recurrence import observe_diagonal
from ssrnn_kernels.cells import get_cell


class RecurrentLayer(nn.Module):
    """A recurrent layer over a window of time.

    d_input, d_state: widths.  cell: "gru".  n_heads: 1.  feedback: the learning rule (docs/method.md).
    ValueError names the argument, what came and what is allowed."""

    TORCH_CLASSES: ClassVar[dict[str, Callable[..., nn.RNNBase]]] = {"gru": nn.GRU}

    def __init__(
        self,
        d_input: int,
        d_state: int,
        cell: str = "gru",
        n_heads: int = 1,
        feedback: FeedbackConfig | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("d_input", d_input), ("d_state", d_state)):
            if value < 1:
                raise ValueError(f"{name}: {value}; allowed: 1 or more")
        if n_heads != 1:
            raise ValueError(f"n_heads: {n_heads}; allowed: 1 (block-diagonal recurrences are not there yet)")
        self.d_input, self.d_state = d_input, d_state
        self.cell = get_cell(cell)
        self.feedback = LayerFeedback(feedback or FeedbackConfig(), d_state)
        self.observing = False  # true while a calibrated decay looks for its first value
        n_rows = self.cell.N_GATES * d_state
        self.weight_ih = nn.Parameter(torch.empty(n_rows, d_input))
        self.weight_hh = nn.Parameter(torch.empty(n_rows, d_state))
        self.bias_ih = nn.Parameter(torch.empty(n_rows))
        self.bias_hh = nn.Parameter(torch.empty(n_rows))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """torch.nn's initialisation: uniform within ±1/√d_state."""
        bound = 1 / math.sqrt(self.d_state)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(
        self, x_BTD: Tensor, state_BS: Tensor | None = None, reset_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, T, D) and the state (B, S) after the last step.

        x_BTD: (B, T, d_input); time-major memory is used as it is.  state_BS: before the first step; None: zero.
        reset_BT: bool; true where a step starts a document, from a zero state."""
        self._check(x_BTD, state_BS, reset_BT)
        inputs_TBG = F.linear(x_BTD.transpose(0, 1), self.weight_ih, self.bias_ih)
        if state_BS is None:
            state_BS = inputs_TBG.new_zeros(x_BTD.shape[0], self.cell.N_STATES * self.d_state)
        if x_BTD.shape[1] == 0:
            return x_BTD.new_empty(x_BTD.shape[0], 0, self.d_state), state_BS
        run = observe_diagonal if self.observing else recurrence
        dtype = inputs_TBG.dtype
        states_TBS = run(
            self.cell,
            self.feedback,
            inputs_TBG,
            self.weight_hh.to(dtype),
            self.bias_hh.to(dtype),
            state_BS.to(dtype),
            None if reset_BT is None else reset_BT.transpose(0, 1),
        )
        return states_TBS[..., : self.d_state].transpose(0, 1), states_TBS[-1]

    def _check(self, x_BTD: Tensor, state_BS: Tensor | None, reset_BT: Tensor | None) -> None:
        if x_BTD.dim() != 3 or x_BTD.shape[-1] != self.d_input:
            raise ValueError(f"x_BTD: shape {tuple(x_BTD.shape)}; allowed: (batch, time, {self.d_input})")
        n_batch, n_steps = x_BTD.shape[:2]
        size = self.cell.N_STATES * self.d_state
        if state_BS is not None and state_BS.shape != (n_batch, size):
            raise ValueError(f"state: shape {tuple(state_BS.shape)}; allowed: ({n_batch}, {size})")
        if reset_BT is not None and (reset_BT.shape != (n_batch, n_steps) or reset_BT.dtype != torch.bool):
            came = f"shape {tuple(reset_BT.shape)}, {reset_BT.dtype}"
            raise ValueError(f"reset_BT: {came}; allowed: ({n_batch}, {n_steps}), torch.bool")

    @classmethod
    def from_torch(cls, module: nn.RNNBase, feedback: FeedbackConfig | None = None) -> Self:
        """A layer with the weights of a torch.nn.GRU of one layer and one direction."""
        name = module.mode.lower()
        if name not in cls.TORCH_CLASSES:
            allowed = ", ".join(f"torch.nn.{each.upper()}" for each in cls.TORCH_CLASSES)
            raise ValueError(f"module: {type(module).__name__}; allowed: {allowed}")
        if module.num_layers != 1 or module.bidirectional or not module.bias:
            raise ValueError("module: more than one layer or direction, or no bias; allowed: one of each, with bias")
        layer = cls(module.input_size, module.hidden_size, name, feedback=feedback)
        layer = layer.to(next(module.parameters()))
        for ours in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(layer, ours).data.copy_(getattr(module, f"{ours}_l0").data)
        return layer

    def to_torch(self) -> nn.RNNBase:
        """The torch.nn module of one layer with these weights, batch first."""
        kind = self.TORCH_CLASSES[self.cell.NAME]
        module = kind(self.d_input, self.d_state, batch_first=True)
        module = module.to(self.weight_hh)
        for ours in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(module, f"{ours}_l0").data.copy_(getattr(self, ours).data)
        return module
