"""One rank of a group: how much tensors hold at most within a training step, beside what lasts. Prints bytes, as JSON.

python tensor_peak_rank.py CASE…: a case is JSON, {model, train, stage}; all ranks run all of them in order."""

import json
import sys
from typing import Any

import torch

from ssrnn_data import Batch
from ssrnn_dist.config import ModelConfig
from ssrnn_dist.config.model import FeedbackConfig
from ssrnn_dist.config.scale import ScaleSection
from ssrnn_dist.config.sections import TrainSection
from ssrnn_dist.engine import Engine, cut_lanes
from ssrnn_dist.model import LanguageModel
from ssrnn_dist.world import World, end_process, joined_world
from ssrnn_launch.plan.tensor_memory import peak_bytes_of


def peak_of(case: dict[str, Any], world: World) -> int:
    """The most that came and went within a step, the least of six: gloo may hold what it has sent a little longer."""
    train = TrainSection(**case["train"])
    model = ModelConfig(**{**case["model"], "feedback": FeedbackConfig(**case.get("feedback", {}))})
    lanes = train.lanes // world.size
    micro = cut_lanes(train.lanes, lanes, world.size, train.micro_batch_lanes)
    engine = Engine(LanguageModel(model), train, ScaleSection(zero_stage=case["stage"]), world, micro)
    drawn = torch.randint(model.vocab_size, (lanes, train.sequence_length + 1))
    reset = torch.zeros(lanes, train.sequence_length, dtype=torch.bool)
    batch, state = Batch(drawn[:, :-1], drawn[:, 1:], reset, torch.arange(lanes)), engine.zero_state()
    for step in range(2):
        engine.prepare(batch, state, step)
        engine.step(batch, state, 1e-3)
    return min(peak_bytes_of(lambda: engine.step(batch, state, 1e-3)) for _ in range(6))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined_world(uses_gpu=False) as world:
        print(json.dumps({"peaks": [peak_of(json.loads(case), world) for case in sys.argv[1:]]}))
    end_process(0)
