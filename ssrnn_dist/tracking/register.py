"""The finished model in MLflow's registry: the weights of the last checkpoint, without the optimizer's moments.

export_weights imports torch and the checkpoints inside; register_version talks to the MLflow client it is given."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ARTIFACT = MODEL_FOLDER = "model"
KEPT = ("model", "tokens")  # of checkpoint.json


def export_weights(checkpoint_or_run: Path | str, out: Path) -> Path:
    """Write the newest checkpoint's weights as a checkpoint of its own, a third of the size; its folder.

    out: where it goes, emptied first. It holds checkpoint.json, rank-00000.safetensors (float32) and tokenizer.json:
    `ssrnn eval`, `ssrnn generate` and load_model take it. UserError where there is no checkpoint; OSError."""
    import torch

    from ssrnn_dist.checkpoint.file_format import HostBuffer
    from ssrnn_dist.checkpoint.load_model import find_checkpoint
    from ssrnn_dist.checkpoint.names import TOKENIZER, rank_file, step_folder
    from ssrnn_dist.checkpoint.places import Contents, SharedFolder
    from ssrnn_dist.checkpoint.slices import Slice

    checkpoint = find_checkpoint(checkpoint_or_run)
    weights = {}
    for name, length in checkpoint.parameters().items():
        piece = Slice(name, 0, length)
        weights[piece.key("weight")] = out_tensor = torch.empty(length)
        checkpoint.read("weight", piece, out_tensor)
    shutil.rmtree(out, ignore_errors=True)
    place, step = SharedFolder(out), checkpoint.about["step"]
    data = HostBuffer().fill(weights)
    place.put(step, "export", 0, data)
    about = {key: value for key, value in checkpoint.about.items() if key in KEPT}
    contents = Contents(step, about, {TOKENIZER: checkpoint.path(TOKENIZER).read_bytes()})
    note = {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "tensors": {key: value.numel() for key, value in weights.items()},
    }
    place.publish("export", contents, {rank_file(0): note})
    return step_folder(out, step)


def version_tags(summary: Mapping[str, Any]) -> dict[str, str]:
    """What one would choose a version of a model by, from a run's summary; what is not known is left out."""
    keys = ("run", "steps", "tokens", "valid_loss", "valid_bits_per_byte", "cost_usd", "worker_hours", "energy_kwh")
    return {key: str(summary[key]) for key in keys if summary.get(key) is not None}


def register_version(client: Any, run_id: str, folder: Path, name: str, tags: Mapping[str, str]) -> str:
    """Send the folder as the run's artifact and make a version of the registered model from it; its number.

    Done once: a version that the run has already is found again. Raises what MLflow raises."""
    from ssrnn_dist.tracking.mlflow_client import TAKEN, code_of

    for made in client.search_model_versions(f"run_id = '{run_id}'"):
        if made.name == name and made.tags == dict(tags):
            return str(made.version)
    client.log_artifacts(run_id, str(folder), ARTIFACT)
    try:
        client.create_registered_model(name)
    except Exception as error:
        if code_of(error) != TAKEN:
            raise
    source = f"{client.get_run(run_id).info.artifact_uri.rstrip('/')}/{ARTIFACT}"
    return str(client.create_model_version(name, source=source, run_id=run_id, tags=dict(tags)).version)
