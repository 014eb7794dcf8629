"""Everything a run needs to go on, gathered into a checkpoint and dealt out again, at any world size and ZeRO stage.

Imports the engine, its shards and the store: weights, moments, hidden states, calibrated decays, data position."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssrnn_dist.checkpoint.names import TOKENIZER
from ssrnn_dist.checkpoint.places import Contents
from ssrnn_dist.checkpoint.retention import Retention
from ssrnn_dist.checkpoint.store import Checkpoint, lane_states
from ssrnn_dist.checkpoint.writer import CheckpointWriter, Destination
from ssrnn_dist.checkpoint.zero_shards import KINDS, OwnedShards
from ssrnn_dist.config.run import RunConfig
from ssrnn_dist.engine import Engine
from ssrnn_dist.model.language_model import State
from ssrnn_dist.world import attempt


@dataclass(frozen=True)
class Progress:
    """Where a run is between two optimizer steps."""

    step: int  # optimizer steps done
    tokens: int  # tokens trained on
    position: dict[str, Any]  # of the data stream
    hidden: State  # of this rank's lanes


class Saver:
    """Saves a run as its config says. Every rank makes one and calls the same methods at the same step.

    lanes: the lanes that this rank's hidden states belong to.  tokenizer_json: kept beside, to read and write text."""

    def __init__(self, config: RunConfig, engine: Engine, lanes: range, tokenizer_json: bytes) -> None:
        section = config.checkpoint
        copy_folder = f"{section.uri.rstrip('/')}/{config.name}" if section.uri else None
        destination = Destination(config.folder / "checkpoints", config.remote_folder, copy_folder)
        retention = Retention(section.keep, section.keep_every_steps)
        self._writer = CheckpointWriter(destination, engine.world, retention)
        self._engine, self._lanes, self._tokenizer_json = engine, lanes, tokenizer_json
        self._asynchronous = section.asynchronous

    def start(self, progress: Progress) -> None:
        """Begin a checkpoint of now; with checkpoint.asynchronous: false, return when it stands.

        Waits for the one before, and raises what went wrong with it, as wait() does (writer.py)."""
        known = {"lanes": [self._lanes.start, self._lanes.stop]}
        contents = contents_of(self._engine, progress, self._tokenizer_json)
        self._writer.start(tensors_of(self._engine, progress, self._lanes), contents, known)
        if not self._asynchronous:
            self.wait()

    def wait(self) -> None:
        """Collective: until the last checkpoint stands; raises what went wrong with it (CheckpointWriter.wait)."""
        self._writer.wait()

    def take_news(self) -> list[tuple[str, dict[str, Any]]]:
        """On rank 0, events since the last call: checkpoints that stand now, warnings (CheckpointWriter.take_news)."""
        return self._writer.take_news()

    def close(self, grace_seconds: float = 5.0) -> None:
        """No collective, for when the run has failed: a checkpoint on its way has so long to come to stand."""
        self._writer.close(grace_seconds)


def tensors_of(engine: Engine, progress: Progress, lanes: range) -> dict[str, Tensor]:
    """What this rank owns of a run, by the names in a checkpoint's files; views, not copies."""
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
    return tensors


def contents_of(engine: Engine, progress: Progress, tokenizer_json: bytes) -> Contents:
    """What a checkpoint has beside the tensors."""
    about = {
        "tokens": progress.tokens,
        "position": progress.position,
        "model": engine.model.config.model_dump(mode="json"),
        "world_size": engine.world.size,
        "sweeps": [layer.feedback.refinements for layer in engine.model.recurrent_layers],
    }
    return Contents(progress.step, about, {TOKENIZER: tokenizer_json})


def load_training(checkpoint: Checkpoint, engine: Engine, lanes: range) -> Progress:
    """Fill the engine from a checkpoint, whatever world and stage wrote it; every rank calls it.

    Raises on every rank where one could not read."""
    hidden: list[tuple[Tensor, ...]] = []
    owned = OwnedShards(engine)

    def read() -> None:
        for shard in owned.shards:
            for kind in KINDS:
                checkpoint.read(kind, shard.slice, shard.tensors[kind].detach())
        _set_rules(checkpoint, engine)
        hidden.append(lane_states(checkpoint, lanes, len(engine.model.recurrent_layers)))

    engine.world.all_well(attempt(read), "reading the checkpoint")
    about = checkpoint.about
    owned.set_optimizer_steps(about["step"])
    owned.refresh_model()
    moved = tuple(state.to(engine.world.device, engine.dtype) for state in hidden[0])
    return Progress(about["step"], about["tokens"], about["position"], moved)


def _set_rules(checkpoint: Checkpoint, engine: Engine) -> None:
    """Calibrated decays and the sweeps of `auto`."""
    about = checkpoint.about
    decays = checkpoint.tensors(checkpoint.rank_files[0], "decay/")
    for index, layer in enumerate(engine.model.recurrent_layers):
        if str(index) in decays:
            layer.feedback.decay = decays[str(index)]
        if layer.feedback.is_auto and "sweeps" in about:
            layer.feedback.refinements = about["sweeps"][index]
