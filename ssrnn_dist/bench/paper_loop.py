"""The paper's own way of training (Caillon et al., arXiv 2503.23104), written after its description, to compare with.

A forward without a graph, the steps once more with the states cut off, and a hook that loops back over time with a
dense matrix that holds the diagonal. Imports torch. B batch, T time, D units, S states·units."""

import torch
from torch import Tensor, nn

CELLS: dict[type[nn.RNNBase], type[nn.RNNCell | nn.GRUCell | nn.LSTMCell]] = {
    nn.RNN: nn.RNNCell,
    nn.GRU: nn.GRUCell,
    nn.LSTM: nn.LSTMCell,
}


class PaperLoop(nn.Module):
    """One layer with the weights of a torch.nn module; its parameters are that module's."""

    matrix: Tensor

    def __init__(self, module: nn.RNNBase) -> None:
        super().__init__()
        self.module = module
        self.cell = CELLS[type(module)](module.input_size, module.hidden_size)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(self.cell, name, getattr(module, f"{name}_l0"))
        d_state = module.hidden_size * (2 if isinstance(module, nn.LSTM) else 1)
        self.register_buffer("matrix", torch.diag(torch.linspace(0, 1, d_state)))

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, None]:
        """(B, T, D), and None in the place of a state."""
        states = self._one_by_one(x_BTD) if isinstance(self.module, nn.LSTM) else self._all_at_once(x_BTD)
        if states.requires_grad:
            states.register_hook(self._back_in_time)
        return states[..., : self.module.hidden_size], None

    def _all_at_once(self, x_BTD: Tensor) -> Tensor:
        with torch.no_grad():
            states = self.module(x_BTD)[0]
        before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
        flat = self.cell(x_BTD.reshape(-1, x_BTD.shape[-1]), before.reshape(-1, before.shape[-1]))
        return flat.view(*x_BTD.shape[:2], -1)

    def _one_by_one(self, x_BTD: Tensor) -> Tensor:
        h = c = x_BTD.new_zeros(len(x_BTD), self.module.hidden_size)
        states = []
        for x_BD in x_BTD.unbind(1):
            h, c = self.cell(x_BD, (h.detach(), c.detach()))
            states.append(torch.cat([h, c], dim=-1))
        return torch.stack(states, dim=1)

    @torch.no_grad()
    def _back_in_time(self, error_BTS: Tensor) -> Tensor:
        deltas = [error_BTS[:, -1]]
        for t in reversed(range(error_BTS.shape[1] - 1)):
            deltas.append(error_BTS[:, t] + deltas[-1] @ self.matrix)
        return torch.stack(deltas[::-1], dim=1)
