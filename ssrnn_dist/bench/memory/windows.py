"""Episodes as batches: windows packed with episodes of all lengths to learn from, single ones to be tested on.

Pure numpy and tensors. B lanes, T time."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.random import Generator

from ssrnn_data import IGNORED_TARGET, Batch
from ssrnn_dist.bench.memory.tasks import BLANK, Task


def packed_window(task: Task, random: Generator, lanes: int, length: int) -> Batch:
    """Every lane filled with episodes, each a document, of a length whose logarithm is even up to the window's.

    So most episodes are short and most tokens belong to long ones: what is learnt on the short helps with the long."""
    tokens_BT, targets_BT, reset_BT = _empty(lanes, length)
    for tokens, targets, reset in zip(tokens_BT, targets_BT, reset_BT, strict=True):
        at = 0
        while length - at >= task.shortest:
            drawn = math.exp(random.uniform(math.log(task.shortest), math.log(length)))
            end = at + min(max(round(drawn), task.shortest), length - at)
            tokens[at:end], targets[at:end] = task.episode(random, end - at)
            reset[at] = True
            at = end
        reset[at : at + 1] = True  # what is left is blank and a document of its own
    return _batch(tokens_BT, targets_BT, reset_BT)


def single_episodes(task: Task, random: Generator, lanes: int, length: int) -> Batch:
    """An episode a lane, as long as the window."""
    tokens_BT, targets_BT, reset_BT = _empty(lanes, length)
    for tokens, targets in zip(tokens_BT, targets_BT, strict=True):
        tokens[:], targets[:] = task.episode(random, length)
    reset_BT[:, 0] = True
    return _batch(tokens_BT, targets_BT, reset_BT)


def slices(batch: Batch, most_tokens: int) -> Iterator[Batch]:
    """The lanes of a batch, some at a time, for the memory's sake."""
    lanes = max(1, most_tokens // batch.tokens_BT.shape[1])
    for start in range(0, len(batch.tokens_BT), lanes):
        yield Batch(**{name: each[start : start + lanes] for name, each in vars(batch).items()})


def _empty(lanes: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = (lanes, length)
    return np.full(shape, BLANK), np.full(shape, IGNORED_TARGET), np.zeros(shape, dtype=bool)


def _batch(tokens_BT: np.ndarray, targets_BT: np.ndarray, reset_BT: np.ndarray) -> Batch:
    tokens, targets, reset = (torch.from_numpy(each) for each in (tokens_BT, targets_BT, reset_BT))
    return Batch(tokens, targets, reset, lane_ids_B=torch.arange(len(tokens)))
