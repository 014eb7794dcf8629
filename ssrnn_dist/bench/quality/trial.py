"""One training of the study: the product's engine, stream and schedule, validated as it goes. A process for each.

Imports the engine. Seconds are of one core (process time): they do not grow when the machine is busy otherwise."""

import time
from typing import Any

import torch
from torch import Tensor

from ssrnn_data import IGNORED_TARGET, Batch, CorpusIndex, EvaluationStream, TokenStream
from ssrnn_dist.bench.machine import described_machine
from ssrnn_dist.bench.networks import engine_alone, network
from ssrnn_dist.bench.quality.recipe import TRANSFORMER, Recipe, Trial
from ssrnn_dist.config.model import ModelSection
from ssrnn_dist.config.sections import TrainSection
from ssrnn_dist.data import open_index
from ssrnn_dist.engine import Engine
from ssrnn_dist.evaluate import Evaluation, NatsOf, evaluate
from ssrnn_dist.feedback.fidelity import fidelity
from ssrnn_dist.model.language_model import State
from ssrnn_dist.schedule import learning_rate


def settings(recipe: Recipe, trial: Trial, index: CorpusIndex) -> dict[str, Any]:
    """All that a result depends on, to compare with what a file was made with."""
    rule = recipe.rules.get(trial.row.rule)
    shape = _shape(recipe, trial).model_dump(mode="json", exclude={"cell", "init_seed"})
    return {
        "corpus": index.fingerprint,
        "model": {**shape, "network": trial.row.network},
        "feedback": rule.model_dump(mode="json") if rule else None,
        "train": _train(recipe, trial).model_dump(mode="json"),
    }


def run_trial(recipe: Recipe, trial: Trial) -> dict[str, Any]:
    """Train it and say how it went; the losses are null where the gradient stopped being finite."""
    index = open_index(recipe.data, recipe.data.sources[0].index)
    model = network(_shape(recipe, trial), recipe.rules.get(trial.row.rule), index.vocab_size)
    train = _train(recipe, trial)
    with engine_alone(model, train) as engine:
        curve, told = _trained(engine, train, index)
    last = curve[-1]
    return {
        "what": "ssrnn bench quality",
        "network": trial.row.network,
        "rule": trial.row.rule,
        "learning_rate": trial.learning_rate,
        "seed": trial.seed,
        "steps": trial.steps,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **{key: last[key] for key in ("loss", "perplexity", "bits_per_byte", "core_seconds")},
        "curve": curve,
        "layers": told,
        "settings": settings(recipe, trial, index),
        "machine": described_machine(),
    }


def _shape(recipe: Recipe, trial: Trial) -> ModelSection:
    if trial.row.network == TRANSFORMER:
        assert recipe.transformer is not None
        return recipe.transformer.model_copy(update={"init_seed": trial.seed})
    return recipe.model.model_copy(update={"cell": trial.row.network, "init_seed": trial.seed})


def _train(recipe: Recipe, trial: Trial) -> TrainSection:
    changes = {"steps": trial.steps, "learning_rate": trial.learning_rate, "seed": trial.seed}
    return recipe.train.model_copy(update=changes)


def _trained(engine: Engine, train: TrainSection, index: CorpusIndex) -> tuple[list[dict], list[dict]]:
    """The curve of validation, and what each layer's feedback came to at the end."""
    stream = TokenStream(index, lanes=train.lanes, sequence_length=train.sequence_length, seed=train.seed)
    hidden, seconds, curve = engine.zero_state(), 0.0, []
    every = train.validate_every_steps or train.steps
    for step in range(train.steps):
        began = time.process_time()
        batch = next(stream)
        before = hidden if train.carry_state else engine.zero_state()
        engine.prepare(batch, before, step)
        _, hidden = engine.step(batch, before, learning_rate(step, train))
        seconds += time.process_time() - began
        if not engine.stepped or (step + 1) % every == 0 or step + 1 == train.steps:
            valid = _validate(engine, train, index) if engine.stepped else None
            curve.append(_point(step + 1, train, seconds, valid))
        if not engine.stepped:
            break
    stream.close()
    return curve, _told(engine)


def _point(step: int, train: TrainSection, seconds: float, valid: Evaluation | None) -> dict[str, Any]:
    measured = {key: valid.as_dict()[key] if valid else None for key in ("loss", "perplexity", "bits_per_byte")}
    return {"step": step, "tokens": step * train.tokens_per_batch, "core_seconds": seconds, **measured}


def _told(engine: Engine) -> list[dict[str, Any]]:
    layers = zip(engine.steering.layers, engine.steering.take_increments(), strict=True)
    return [{"sweeps": layer.refinements, **vars(fidelity(sums_4))} for layer, sums_4 in layers]


def _validate(engine: Engine, train: TrainSection, index: CorpusIndex) -> Evaluation:
    """A recurrent network carries its state; the Transformer sees half a window before every half that counts."""
    recurrent = bool(engine.model.recurrent_layers)
    length = train.sequence_length if recurrent else train.sequence_length // 2
    stream = EvaluationStream(index, lanes=train.lanes, sequence_length=length)
    return evaluate(engine.nats if recurrent else with_context(engine.nats), stream)


def with_context(nats_of: NatsOf) -> NatsOf:
    """nats_of for a model without a state: each window is read after the one before it, whose targets do not count.

    The state that goes from window to window is the window itself."""

    def nats(batch: Batch, state: State | None) -> tuple[Tensor, State]:
        here = batch.tokens_BT, batch.reset_BT
        if state is None:
            return nats_of(batch, None)[0], here
        tokens_BT, reset_BT = (torch.cat(pair, dim=1) for pair in zip(state, here, strict=True))
        targets_BT = torch.cat([torch.full_like(state[0], IGNORED_TARGET), batch.targets_BT], dim=1)
        return nats_of(Batch(tokens_BT, targets_BT, reset_BT, batch.lane_ids_B), None)[0], here

    return nats
