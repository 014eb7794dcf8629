"""A run's configuration: one pydantic model a section, loaded and checked in load.py. Imports no torch."""

from ssrnn_dist.config.load import apply_overrides, check_config, load_config, read_yaml, to_yaml
from ssrnn_dist.config.model import FeedbackConfig, ModelConfig, ModelSection
from ssrnn_dist.config.run import RunConfig

__all__ = [
    "FeedbackConfig",
    "ModelConfig",
    "ModelSection",
    "RunConfig",
    "apply_overrides",
    "check_config",
    "load_config",
    "read_yaml",
    "to_yaml",
]
