"""Everything a run needs to go on, gathered into a checkpoint and dealt out again, at any world size and ZeRO stage.

Imports the engine, its shards and the store: weights, moments, hidden states, calibrated decays, data position."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssrnn_dist.checkpoint.store import TOKENIZER, Checkpoint, lane_states, write_checkpoint
from ssrnn_dist.checkpoint.zero_shards import KINDS, OwnedShards
from ssrnn_dist.engine import Engine
from ssrnn_dist.model.language_model import State


@dataclass(frozen=True)
class Progress:
    """Where a run is between two optimizer steps."""

    step: int  # optimizer steps done
    tokens: int  # tokens trained on
    position: dict[str, Any]  # of the data stream
    hidden: State  # of this rank's lanes


def save_training(
    root: Path, engine: Engine, progress: Progress, lanes: range, tokenizer_json: bytes, keep: int
) -> Path:
    """Write a checkpoint of a run; every rank calls it at the same step.

    lanes: the lanes that this rank's hidden states belong to.  tokenizer_json: kept beside, to read and write text."""
    tensors: dict[str, Tensor] = {}
    for shard in OwnedShards(engine).shards:
        tensors |= {shard.slice.key(kind): shard.tensors[kind] for kind in KINDS}
    tensors["hidden/lanes"] = torch.arange(lanes.start, lanes.stop, dtype=torch.int64)
    tensors |= {f"hidden/{layer}": state for layer, state in enumerate(progress.hidden)}
    if engine.world.is_first:
        tensors |= {
            f"decay/{index}": layer.feedback.decay
            for index, layer in enumerate(engine.model.recurrent_layers)
            if layer.feedback.calibrates and layer.feedback.decay is not None
        }
    about = {
        "tokens": progress.tokens,
        "position": progress.position,
        "model": engine.model.config.model_dump(mode="json"),
        "world_size": engine.world.size,
        "sweeps": [layer.feedback.refinements for layer in engine.model.recurrent_layers],
    }
    beside = {TOKENIZER: tokenizer_json}
    return write_checkpoint(root, progress.step, tensors, about, beside, engine.world, keep)


def load_training(checkpoint: Checkpoint, engine: Engine, lanes: range) -> Progress:
    """Fill the engine from a checkpoint, whatever world and stage wrote it."""
    about = checkpoint.about
    owned = OwnedShards(engine)
    for shard in owned.shards:
        for kind in KINDS:
            checkpoint.read(kind, shard.slice, shard.tensors[kind].detach())
    owned.set_optimizer_steps(about["step"])
    owned.refresh_model()
    decays = checkpoint.rows("decay/")[0]
    for index, layer in enumerate(engine.model.recurrent_layers):
        if str(index) in decays:
            layer.feedback.decay = decays[str(index)]
        if layer.feedback.is_auto and "sweeps" in about:
            layer.feedback.refinements = about["sweeps"][index]
    hidden = lane_states(checkpoint, lanes, len(engine.model.recurrent_layers))
    moved = tuple(state.to(engine.world.device, engine.dtype) for state in hidden)
    return Progress(about["step"], about["tokens"], about["position"], moved)
