"""One recurrent layer: torch.nn's weights and mathematics, with a backward by structured feedback.

Imports the feedback and the kernels; knows nothing of parallelism. B batch, T time, S a layer's whole state,
D = d_state, the hidden part of it; R = rows of the weights: heads · gates · units a head."""

import math
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssrnn_dist.config.model import FeedbackConfig
from ssrnn_dist.feedback import LayerFeedback, recurrence, recurrence_of_chunk
from ssrnn_kernels.cell import Cell, cell_name
from ssrnn_kernels.cells import CELLS, get_cell

OUTPUTS = ("h", "hc")


class RecurrentLayer(nn.Module):
    """A recurrent layer over a window of time.

    d_input, d_state: widths.  cell: a name of ssrnn_kernels.cells.  n_heads: blocks on the diagonal of the recurrent
    weights, which then have d_state / n_heads columns; their rows go by head, gate and unit.
    feedback: the learning rule (docs/method.md).  output: "h", the hidden state, or "hc", all of the state.
    ValueError names the argument, what came and what is allowed."""

    TORCH_CLASSES: ClassVar[dict[str, type[nn.RNN | nn.GRU | nn.LSTM]]] = {
        "elman": nn.RNN,
        "gru": nn.GRU,
        "lstm": nn.LSTM,
    }

    def __init__(
        self,
        d_input: int,
        d_state: int,
        cell: str = "gru",
        n_heads: int = 1,
        feedback: FeedbackConfig | None = None,
        output: str = "h",
    ) -> None:
        super().__init__()
        for name, value in (("d_input", d_input), ("d_state", d_state), ("n_heads", n_heads)):
            if value < 1:
                raise ValueError(f"{name}: {value}; allowed: 1 or more")
        if d_state % n_heads:
            raise ValueError(f"n_heads: {n_heads}; allowed: what divides d_state {d_state} without a rest")
        if output not in OUTPUTS:
            raise ValueError(f"output: {output!r}; allowed: {', '.join(OUTPUTS)}")
        self.d_input, self.d_state, self.n_heads, self.output = d_input, d_state, n_heads, output
        self.cell_name = cell_name(get_cell(cell))
        self.state_size = self.cell.N_STATES * d_state
        self.d_output = d_state if output == "h" else self.state_size
        self.feedback = LayerFeedback(feedback or FeedbackConfig(), d_state, self.cell.N_STATES)
        n_rows, head_size = len(self.cell.GATES) * d_state, d_state // n_heads
        self.weight_ih = nn.Parameter(torch.empty(n_rows, d_input))
        self.weight_hh = nn.Parameter(torch.empty(n_rows, head_size))
        self.bias_ih = nn.Parameter(torch.empty(n_rows))
        self.bias_hh = nn.Parameter(torch.empty(n_rows))
        self.reset_parameters()

    @property
    def cell(self) -> Cell:
        """The cell's functions: a module, which a layer that is copied or pickled must not hold."""
        return CELLS[self.cell_name]

    def reset_parameters(self) -> None:
        """torch.nn's initialisation: uniform within ±1/√d_state; within a head, ±1/√(units a head)."""
        for parameter in self.parameters():
            fan = parameter.shape[1] if parameter is self.weight_hh else self.d_state
            nn.init.uniform_(parameter, -1 / math.sqrt(fan), 1 / math.sqrt(fan))

    def forward(
        self, x_BTD: Tensor, state_BS: Tensor | None = None, reset_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, T, d_output) and the state (B, S) after the last step, in memory of its own.

        x_BTD: (B, T, d_input); time-major memory is used as it is.  state_BS: before the first step; None: zero.
        reset_BT: bool; true where a step starts a document, from a zero state."""
        self._check(x_BTD, state_BS, reset_BT)
        arguments = self._arguments(x_BTD, state_BS, reset_BT)
        if x_BTD.shape[1] == 0:
            return arguments[0][..., : self.d_output].transpose(0, 1), arguments[3]
        states_TBS = recurrence(self.cell, self.feedback, *arguments)
        return states_TBS[..., : self.d_output].transpose(0, 1), states_TBS[-1].clone()

    def chunk(
        self, x_BTD: Tensor, state_BS: Tensor | None, reset_BT: Tensor | None, before_KBS: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """forward over a chunk of a window; before_KBS and the third: what hangs chunks together (recurrence.py)."""
        arguments = self._arguments(x_BTD, state_BS, reset_BT)
        states_TBS, after_KBS = recurrence_of_chunk(self.cell, self.feedback, *arguments, before_KBS)
        return states_TBS[..., : self.d_output].transpose(0, 1), states_TBS[-1].clone(), after_KBS

    def _arguments(
        self, x_BTD: Tensor, state_BS: Tensor | None, reset_BT: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """The recurrence's, in the type of the inputs' product, time-major."""
        inputs_TBR = F.linear(x_BTD.transpose(0, 1), self.weight_ih, self.bias_ih)
        if state_BS is None:
            state_BS = inputs_TBR.new_zeros(x_BTD.shape[0], self.state_size)
        dtype, reset_TB = inputs_TBR.dtype, None if reset_BT is None else reset_BT.transpose(0, 1)
        return inputs_TBR, self.weight_hh.to(dtype), self.bias_hh.to(dtype), state_BS.to(dtype), reset_TB

    def _check(self, x_BTD: Tensor, state_BS: Tensor | None, reset_BT: Tensor | None) -> None:
        for name, value in (("x_BTD", x_BTD), ("state", state_BS), ("reset_BT", reset_BT)):
            if not isinstance(value, Tensor | None):
                raise ValueError(
                    f"{name}: a {type(value).__name__}; allowed: a tensor (an LSTM's state is h and c in one)"
                )
        if x_BTD.dim() != 3 or x_BTD.shape[-1] != self.d_input:
            raise ValueError(f"x_BTD: shape {tuple(x_BTD.shape)}; allowed: (batch, time, {self.d_input})")
        n_batch, n_steps = x_BTD.shape[:2]
        if state_BS is not None and state_BS.shape != (n_batch, self.state_size):
            raise ValueError(f"state: shape {tuple(state_BS.shape)}; allowed: ({n_batch}, {self.state_size})")
        if reset_BT is not None and (reset_BT.shape != (n_batch, n_steps) or reset_BT.dtype != torch.bool):
            came = f"shape {tuple(reset_BT.shape)}, {reset_BT.dtype}"
            raise ValueError(f"reset_BT: {came}; allowed: ({n_batch}, {n_steps}), torch.bool")

    @classmethod
    def from_torch(cls, module: nn.RNNBase, feedback: FeedbackConfig | None = None) -> Self:
        """A layer with the weights of a torch.nn.RNN (tanh), GRU or LSTM of one layer and one direction."""
        name = next((name for name, kind in cls.TORCH_CLASSES.items() if type(module) is kind), None)
        if name is None or getattr(module, "nonlinearity", "tanh") != "tanh" or module.proj_size:
            raise ValueError(
                f"module: {module}; allowed: torch.nn.RNN with tanh, torch.nn.GRU, torch.nn.LSTM without projection"
            )
        if module.num_layers != 1 or module.bidirectional or not module.bias:
            raise ValueError("module: more than one layer or direction, or no bias; allowed: one of each, with bias")
        layer = cls(module.input_size, module.hidden_size, name, feedback=feedback)
        layer = layer.to(next(module.parameters())).train(module.training)
        for ours, theirs in layer._beside(module):
            _copy(theirs, ours)
        return layer

    def to_torch(self) -> nn.RNNBase:
        """The torch.nn module of one layer with these weights, batch first; ValueError where torch.nn has none."""
        if self.cell_name not in self.TORCH_CLASSES or self.n_heads > 1:
            came = f"cell {self.cell_name!r} with n_heads {self.n_heads}"
            raise ValueError(f"{came}; allowed for torch.nn: {', '.join(self.TORCH_CLASSES)} with n_heads 1")
        module = self.TORCH_CLASSES[self.cell_name](self.d_input, self.d_state, batch_first=True)
        module = module.to(self.weight_hh).train(self.training)
        for ours, theirs in self._beside(module):
            _copy(ours, theirs)
        return module

    def _beside(self, module: nn.RNNBase) -> list[tuple[Tensor, Tensor]]:
        """Our parameters and torch.nn's, in pairs."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [(getattr(self, name), getattr(module, f"{name}_l0")) for name in names]


def _copy(source: Tensor, target: Tensor) -> None:
    """A parameter's values, and whether it is trained."""
    target.data.copy_(source.data)
    target.requires_grad_(source.requires_grad)
