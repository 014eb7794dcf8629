"""For the tests of waves: small models, what goes into them, and all that a way through the blocks gives."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ssrnn_dist.config.model import FeedbackConfig, ModelConfig
from ssrnn_dist.model.language_model import LanguageModel

Given = tuple[Tensor, list[Tensor], Tensor]  # x, states and resets
Forward = Callable[[Tensor, list[Tensor], Tensor], tuple[Tensor, Sequence[Tensor]]]


def model_of(rule: FeedbackConfig, cell: str = "gru", n_layers: int = 3, d: int = 8, n_heads: int = 1) -> LanguageModel:
    shape = {"vocab_size": 5, "d_model": d, "n_layers": n_layers, "n_heads": n_heads, "mlp_ratio": 2}
    return LanguageModel(ModelConfig(**shape, cell=cell, feedback=rule))


def drawn(model: LanguageModel, n_steps: int, n_batch: int, seed: int) -> Given:
    """In the model's type, and where it is."""
    generator = torch.Generator().manual_seed(seed)
    like = model.norm.weight
    x = torch.randn(n_steps, n_batch, model.config.d_model, generator=generator).to(like)
    states = [torch.randn(n_batch, each.state_size, generator=generator).to(like) for each in model.recurrent_layers]
    return x, states, (torch.rand(n_batch, n_steps, generator=generator) < 0.1).to(like.device)


def everything(model: LanguageModel, given: Given, forward: Forward) -> list[Tensor]:
    """Outputs and every gradient."""
    x, states, reset = given
    x, states = x.clone().requires_grad_(), [each.clone().requires_grad_() for each in states]
    y, after = forward(x, states, reset)
    weigh = torch.cos(torch.arange(y.numel(), dtype=y.dtype, device=y.device)).view_as(y)
    total = (y * weigh).sum() + sum(each.sum() for each in after)
    return [
        y.detach(),
        *(each.detach() for each in after),
        *torch.autograd.grad(total, [x, *states, *model.blocks.parameters()]),
    ]
