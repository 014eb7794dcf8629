"""The networks that are compared: a recurrent one by a rule, or the Transformer where there is none.

Imports both models."""

from typing import Any

from ssrnn_dist.bench.transformer import Transformer
from ssrnn_dist.config import ModelConfig
from ssrnn_dist.config.model import FeedbackConfig, ModelSection
from ssrnn_dist.model import LanguageModel


def network(shape: ModelSection, feedback: FeedbackConfig | None, vocab_size: int) -> Any:
    """A LanguageModel; feedback None: a Transformer of that shape, which the engine takes for one."""
    if feedback is None:
        return Transformer(shape, vocab_size)
    return LanguageModel(ModelConfig(**shape.model_dump(), vocab_size=vocab_size, feedback=feedback))
