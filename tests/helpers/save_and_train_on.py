"""Run by tests as one rank of a group: checkpoints of a tiny run that trains on meanwhile, or one that loads them.

RANK=… WORLD_SIZE=… python save_and_train_on.py CONFIG STAGE save|load"""

import sys

import torch

from ssrnn_dist.checkpoint.store import newest_checkpoint
from ssrnn_dist.checkpoint.training_state import Progress, Saver, load_training
from ssrnn_dist.checkpoint.zero_shards import OwnedShards
from ssrnn_dist.config import ModelConfig, RunConfig, load_config
from ssrnn_dist.data import open_corpora, open_stream
from ssrnn_dist.engine import Engine, cut_lanes
from ssrnn_dist.model import LanguageModel
from ssrnn_dist.world import World, end_process, joined_world

torch.set_num_threads(1)


def build(config: RunConfig, world: World):
    corpora = open_corpora(config)
    index = corpora[0].index
    model = ModelConfig(**config.model.model_dump(), vocab_size=index.vocab_size, feedback=config.feedback)
    stream = open_stream(config, corpora, rank=world.rank, world_size=world.size, position=None)
    micro = cut_lanes(config.train.lanes, len(stream.lanes), world.size, config.train.micro_batch_lanes)
    engine = Engine(LanguageModel(model), config.train, config.scale, world, micro)
    return engine, stream, index.tokenizer_json()


def train(engine: Engine, stream, progress: Progress, steps: int) -> Progress:
    for _ in range(steps):
        batch = next(stream)
        engine.prepare(batch, progress.hidden, progress.step)
        _, hidden = engine.step(batch, progress.hidden, 0.01)
        progress = Progress(progress.step + 1, progress.tokens, stream.position(), hidden)
    return progress


def save(config: RunConfig, world: World) -> None:
    """Steps 2 and 4 in the background, with training on at once; step 2 also in the foreground, under another name."""
    engine, stream, tokenizer = build(config, world)
    torch.manual_seed(0)
    section = config.checkpoint.model_copy(update={"asynchronous": False, "uri": None})
    beside = {"run_root": f"{config.folder.parent}-sync", "checkpoint": section}
    quiet = Saver(config.model_copy(update=beside), engine, stream.lanes, tokenizer)
    saver = Saver(config, engine, stream.lanes, tokenizer)
    progress = train(engine, stream, Progress(0, 0, stream.position(), engine.zero_state()), 2)
    quiet.start(progress)
    saver.start(progress)
    progress = train(engine, stream, progress, 2)
    saver.start(progress)
    quiet.start(progress)
    train(engine, stream, progress, 1)
    saver.wait()
    print("news", saver.take_news())


def load(config: RunConfig, world: World) -> None:
    engine, stream, _ = build(config, world)
    found = newest_checkpoint(config.folder / "checkpoints", world, config.remote_folder)
    assert found is not None
    progress = load_training(found, engine, stream.lanes)
    sums = {kind: torch.zeros((), dtype=torch.float64) for kind in ("weight", "exp_avg", "exp_avg_sq")}
    for shard in OwnedShards(engine).shards:
        for kind in sums:
            sums[kind] += shard.tensors[kind].double().abs().sum()
    hidden = sum(state.double().abs().sum() for state in progress.hidden)
    print("loaded", progress.step, *(float(world.sum(each)) for each in [*sums.values(), hidden]), flush=True)


if __name__ == "__main__":
    config = load_config(sys.argv[1])
    config = config.model_copy(update={"scale": config.scale.model_copy(update={"zero_stage": int(sys.argv[2])})})
    with joined_world(uses_gpu=False) as world:
        {"save": save, "load": load}[sys.argv[3]](config, world)
    end_process(0)
