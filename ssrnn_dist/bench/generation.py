"""`ssrnn bench generate`: seconds a token and memory at growing context, beside a Transformer with a key-value cache.

Imports torch and both models. Untrained weights: neither time nor memory depends on what they say."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ssrnn_dist.bench.quality.recipe import Recipe
from ssrnn_dist.bench.timing import in_turn
from ssrnn_dist.bench.transformer import Transformer
from ssrnn_dist.config import ModelConfig
from ssrnn_dist.model import LanguageModel
from ssrnn_dist.problems import RunFailed

CHECKED_TOKENS = 9
MOST_ERROR = 1e-4  # of logits, a token at a time beside all at once
State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Generation:
    """Of one model after so many tokens of context."""

    model: str
    context_tokens: int
    tokens_per_second: float
    state_megabytes: float  # what it keeps of the context
    parameters: int


@torch.no_grad()
def measure(recipe: Recipe, vocab_size: int, contexts: list[int], tokens: int) -> list[Generation]:
    """Every cell of the recipe and its Transformer; RunFailed where a model does not say the same token by token."""
    models: dict[str, LanguageModel | Transformer] = {
        cell: LanguageModel(ModelConfig(**{**recipe.model.model_dump(), "cell": cell}, vocab_size=vocab_size))
        for cell in recipe.cells
    }
    if recipe.transformer is not None:
        models["transformer"] = Transformer(recipe.transformer, vocab_size)
    for name, model in models.items():
        _check(name, model)
    found = []
    for context in contexts:
        states = {name: _state_after(model, context) for name, model in models.items()}
        seconds = in_turn({name: _reading(model, states[name]) for name, model in models.items()}, tokens)
        for name, model in models.items():
            megabytes = sum(each.numel() * each.element_size() for each in states[name] if each.dim()) / 2**20
            count = sum(parameter.numel() for parameter in model.parameters())
            found.append(Generation(name, context, 1 / seconds[name], megabytes, count))
    return found


def _check(name: str, model: LanguageModel | Transformer) -> None:
    tokens = torch.arange(CHECKED_TOKENS).unsqueeze(0) % model.embedding.num_embeddings
    whole, _ = model(tokens)
    logits, state = model(tokens[:, :1])
    pieces = [logits]
    for t in range(1, CHECKED_TOKENS):
        logits, state = model(tokens[:, t : t + 1], state)
        pieces.append(logits)
    error = float((torch.cat(pieces, dim=1) - whole).norm() / whole.norm())
    if not error < MOST_ERROR:
        raise RunFailed(f"{name}: token by token its logits are off by {error:.1e}: nothing is timed")


def _state_after(model: LanguageModel | Transformer, context: int) -> State:
    """A state of the size that this context leaves; a cache of numbers drawn, which cost the same as real ones."""
    _, state = model(torch.zeros(1, 1, dtype=torch.int64))
    if isinstance(model, LanguageModel):
        return state
    held = (torch.randn(1, each.shape[1], context + 1, each.shape[3]) for each in state[1:])
    return (torch.tensor(context), *held)


def _reading(model: LanguageModel | Transformer, state: State) -> Callable[[], None]:
    token = torch.zeros(1, 1, dtype=torch.int64)

    def read() -> None:
        model(token, state)

    return read
