"""The networks that are compared, a recurrent one by a rule or the Transformer, and the product's engine around one.

Imports both models and the engine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ssrnn_dist.bench.transformer import Transformer
from ssrnn_dist.config import ModelConfig
from ssrnn_dist.config.model import FeedbackConfig, ModelSection
from ssrnn_dist.config.scale import ScaleSection
from ssrnn_dist.config.sections import TrainSection
from ssrnn_dist.engine import Engine, cut_lanes
from ssrnn_dist.model import LanguageModel
from ssrnn_dist.world import joined_world


def network(shape: ModelSection, feedback: FeedbackConfig | None, vocab_size: int) -> Any:
    """A LanguageModel; feedback None: a Transformer of that shape, which the engine takes for one."""
    if feedback is None:
        return Transformer(shape, vocab_size)
    return LanguageModel(ModelConfig(**shape.model_dump(), vocab_size=vocab_size, feedback=feedback))


@contextmanager
def engine_alone(model: Any, train: TrainSection) -> Iterator[Engine]:
    """The engine of a group of one that has all lanes, while this lasts; one core."""
    torch.set_num_threads(1)
    with joined_world(uses_gpu=False) as world:
        micro = cut_lanes(train.lanes, train.lanes, world.size, train.micro_batch_lanes)
        yield Engine(model, train, ScaleSection(), world, micro)
