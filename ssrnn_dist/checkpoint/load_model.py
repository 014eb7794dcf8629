"""A plain LanguageModel from a checkpoint, with no DeepSpeed and no group: for evaluation and generation.

Imports the model and the store."""

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from ssrnn_dist.checkpoint.names import MANIFEST, TOKENIZER, newest_at, step_name
from ssrnn_dist.checkpoint.slices import Slice
from ssrnn_dist.checkpoint.store import Checkpoint, why_torn
from ssrnn_dist.config.model import ModelConfig
from ssrnn_dist.config.run import local_root
from ssrnn_dist.model import LanguageModel
from ssrnn_dist.problems import user_error
from ssrnn_dist.storage.remote import RemoteFolder


def find_checkpoint(path: Path | str) -> Checkpoint:
    """The checkpoint at path: its own folder, a run's folder or its checkpoints/; there the newest whole one.

    A URL of a run's folder is allowed too: the checkpoint's files come to this node as they are read."""
    if "://" in str(path):
        return _find_in_a_store(str(path).rstrip("/"))
    path = Path(path)
    if (path / MANIFEST).is_file():
        torn = why_torn(path)
        if torn is not None:
            raise user_error(str(path), f"a torn checkpoint ({torn})", "a whole one is wanted")
        return Checkpoint(path)
    for root in (path, path / "checkpoints"):
        for folder in sorted(root.glob("step-*"), reverse=True):
            if why_torn(folder) is None:
                return Checkpoint(folder)
    came = "no checkpoint in it" if path.is_dir() else "a file" if path.exists() else "no such folder"
    raise user_error(str(path), came, "the folder of a run or of one of its checkpoints is wanted")


def _find_in_a_store(url: str) -> Checkpoint:
    remote = RemoteFolder(url).below("checkpoints")
    step = newest_at(remote)
    if step < 0:
        raise user_error(RemoteFolder(url).shown, "no checkpoint in it", "the URL of a run's folder is wanted")
    above, _, name = url.rpartition("/")
    folder = local_root(above) / name / "checkpoints" / step_name(step)
    found = Checkpoint(folder, remote.below(folder.name))
    found.path(TOKENIZER)
    return found


def load_model(checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """The model with the checkpoint's master weights; UserError where they are another model's."""
    where = str(checkpoint.folder)
    model = LanguageModel(model_config(checkpoint.about, where))
    stored = checkpoint.parameters()
    wanted = {name: parameter.numel() for name, parameter in model.named_parameters()}
    if stored != wanted:
        odd = sorted(name for name in stored.keys() | wanted.keys() if stored.get(name) != wanted.get(name))
        raise user_error(where, f"weights of another model ({odd[0]} differs)", "the weights of its own config")
    for name, parameter in model.named_parameters():
        checkpoint.read("weight", Slice(name, 0, parameter.numel()), parameter.data.view(-1))
    return model.to(dtype).eval()


def model_config(about: dict[str, Any], where: str) -> ModelConfig:
    try:
        return ModelConfig.model_validate(about["model"])
    except (KeyError, ValidationError):
        raise user_error(where, "no readable model config", "a checkpoint of this version is wanted") from None
