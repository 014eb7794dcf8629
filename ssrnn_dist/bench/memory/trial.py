"""One training on a task: the product's engine and schedule until it is solved or the steps are over, then the tests.

Imports the engine. A process for each; seconds are of one core (process time)."""

import time
from typing import Any

import numpy as np
import torch

from ssrnn_data import IGNORED_TARGET, Batch
from ssrnn_dist.bench.machine import described_machine
from ssrnn_dist.bench.memory.recipe import Recipe, Trial
from ssrnn_dist.bench.memory.tasks import TASKS, Task
from ssrnn_dist.bench.memory.windows import packed_window, single_episodes, slices
from ssrnn_dist.bench.networks import engine_alone, network
from ssrnn_dist.config.model import ModelSection
from ssrnn_dist.config.sections import TrainSection
from ssrnn_dist.engine import Engine
from ssrnn_dist.schedule import learning_rate

TEST_SEED = 2**32  # far from the seeds of training
LOOKED_AT = 32  # episodes of a look while training
MOST_TOKENS = 2**15  # of a test, at a time


def settings(recipe: Recipe, trial: Trial) -> dict[str, Any]:
    """All that a result depends on, to compare with what a file was made with."""
    rule = recipe.rules.get(trial.cell.row)
    task = TASKS[trial.cell.task]
    return {
        "task": {"asks": task.asks, "vocab_size": task.vocab_size, "shortest": task.shortest},
        "model": _shape(recipe, trial).model_dump(mode="json"),
        "feedback": rule.model_dump(mode="json") if rule else None,
        "train": _train(recipe, trial).model_dump(mode="json"),
        "stop": {"check_every_steps": recipe.check_every_steps, "solved_accuracy": recipe.solved_accuracy},
        "test": {"lengths": recipe.tested_lengths, "episodes": recipe.tested_episodes},
    }


def run_trial(recipe: Recipe, trial: Trial) -> dict[str, Any]:
    """Train it and say how it went."""
    task, train = TASKS[trial.cell.task], _train(recipe, trial)
    model = network(_shape(recipe, trial), recipe.rules.get(trial.cell.row), task.vocab_size)
    with engine_alone(model, train) as engine:
        curve, core_seconds = _trained(engine, recipe, train, task)
        tests = {str(times * trial.cell.length): times * trial.cell.length for times in recipe.tested_lengths}
        accuracy = {name: _tested(model, task, length, recipe.tested_episodes) for name, length in tests.items()}
    return {
        "what": "ssrnn bench memory",
        "task": trial.cell.task,
        "length": trial.cell.length,
        "rule": trial.cell.row,
        "learning_rate": trial.learning_rate,
        "seed": trial.cell.seed,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "solved": _is_solved(curve, recipe.solved_accuracy),
        "steps": curve[-1]["step"],
        "accuracy": accuracy,
        "core_seconds": core_seconds,
        "curve": curve,
        "settings": settings(recipe, trial),
        "machine": described_machine(),
    }


def _shape(recipe: Recipe, trial: Trial) -> ModelSection:
    shape = recipe.model if trial.cell.row in recipe.rules else recipe.transformer
    assert shape is not None
    return shape.model_copy(update={"init_seed": trial.cell.seed})


def _train(recipe: Recipe, trial: Trial) -> TrainSection:
    given = recipe.train.model_dump()
    of_trial = {"learning_rate": trial.learning_rate, "seed": trial.cell.seed, "sequence_length": trial.cell.length}
    return TrainSection(**{**given, **of_trial, "carry_state": False})


def _trained(engine: Engine, recipe: Recipe, train: TrainSection, task: Task) -> tuple[list[dict[str, Any]], float]:
    """The accuracy of each look, and the seconds of learning without the looks."""
    random = np.random.default_rng(train.seed)
    curve, seconds, none = [], 0.0, engine.zero_state()
    for step in range(train.steps):
        began = time.process_time()
        batch = packed_window(task, random, train.lanes, train.sequence_length)
        engine.prepare(batch, none, step)
        engine.step(batch, none, learning_rate(step, train))
        seconds += time.process_time() - began
        last = step + 1 == train.steps or not engine.stepped
        if last or (step + 1) % recipe.check_every_steps == 0:
            seen = _tested(engine.model, task, train.sequence_length, LOOKED_AT)
            sweeps = [layer.refinements for layer in engine.steering.layers]
            look = {"step": step + 1, "tokens": (step + 1) * train.tokens_per_batch}
            curve.append({**look, "accuracy": seen, "sweeps": sweeps})
        if last or _is_solved(curve, recipe.solved_accuracy):
            break
    return curve, seconds


def _is_solved(curve: list[dict[str, Any]], accuracy: float) -> bool:
    """Did the last two looks reach it?"""
    return len(curve) > 1 and all(look["accuracy"] >= accuracy for look in curve[-2:])


@torch.no_grad()
def _tested(model: Any, task: Task, length: int, episodes: int) -> float:
    """The fraction of right answers in episodes that training has not seen."""
    test = single_episodes(task, np.random.default_rng([TEST_SEED, length]), episodes, length)
    right = sum(_right_answers(model, part) for part in slices(test, MOST_TOKENS))
    return right / int((test.targets_BT != IGNORED_TARGET).sum())


def _right_answers(model: Any, batch: Batch) -> int:
    logits_BTV, _ = model(batch.tokens_BT)
    asked = batch.targets_BT != IGNORED_TARGET
    return int((logits_BTV.argmax(dim=-1) == batch.targets_BT)[asked].sum())
