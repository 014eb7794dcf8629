"""The model: a recurrent layer and the language model built of it. Knows nothing of parallelism."""

from ssrnn_dist.config.model import FeedbackConfig, ModelConfig
from ssrnn_dist.model.language_model import LanguageModel
from ssrnn_dist.model.layer import RecurrentLayer

__all__ = ["FeedbackConfig", "LanguageModel", "ModelConfig", "RecurrentLayer"]
