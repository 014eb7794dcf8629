"""The learning rate as a pure function of the step, so that a resumed run needs no scheduler's state.

Imports nothing of torch."""

import math

from ssrnn_dist.config.sections import TrainSection


def learning_rate(step: int, train: TrainSection) -> float:
    """The rate of optimizer step `step`, counted from 0: linear warm-up, then cosine or constant."""
    if step < train.warmup_steps:
        return train.learning_rate * (step + 1) / train.warmup_steps
    if train.schedule == "constant":
        return train.learning_rate
    done = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
    lowest = train.final_learning_rate_fraction
    return train.learning_rate * (lowest + (1 - lowest) * (1 + math.cos(math.pi * min(1.0, done))) / 2)
