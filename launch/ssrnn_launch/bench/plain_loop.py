"""Run by `ssrnn bench launch`: the loop that a researcher would write: model, AdamW, clipping, nothing else.

python -m ssrnn_launch.bench.plain_loop TASK.json RANK. Batches are read beforehand. Imports torch inside."""

import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssrnn_data import Batch
    from ssrnn_dist.config import RunConfig

POLL_SECONDS = 0.01
SIZING_STEPS, SIZING_LOOKS = 4, 3
WIDTHS, WIDTH_STEP = (16, 4096), 16


def main(task_path: str, rank: int) -> None:
    """Do the task, and write what came of it beside it.

    A task: config, processes (that share the batch and send nothing), threads; or with target_seconds, to find out how
    wide a model makes a step of so long."""
    task = json.loads(Path(task_path).read_text())
    import torch

    from ssrnn_dist.config import check_config

    torch.set_num_threads(task["threads"])
    config = check_config(task["config"])
    if "target_seconds" in task:
        found: dict[str, Any] = {"width": width_for(config, task["target_seconds"])}
    else:
        found = train(config, rank, task["processes"], lambda: _all_ready(task_path, rank, task["processes"]))
    Path(f"{task_path}.{rank}").write_text(json.dumps(found))


def train(config: "RunConfig", rank: int, processes: int, ready: Callable[[], object]) -> dict[str, Any]:
    """The clock and the processor seconds at the end of each step; each step's nats per token of these lanes.

    ready: called once batches and model are there."""
    import torch

    from ssrnn_dist.schedule import learning_rate

    train = config.train
    batches = _batches(config, rank, processes)
    model = _model(config)
    optimizer = _adamw(model, config)
    state = model.zero_state(len(batches[0].tokens_BT))
    ends, cpu, nats = [], [], []
    ready()
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, train)
        loss, state = model.loss(batch.tokens_BT, batch.targets_BT, state, batch.reset_BT)
        (loss * processes / train.tokens_per_batch).backward()
        if train.gradient_clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), train.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        state = tuple(layer.detach() for layer in state)
        nats.append(float(loss.detach()) * processes / train.tokens_per_batch)
        ends.append(time.perf_counter())
        cpu.append(time.process_time())
    return {"ends": ends, "cpu": cpu, "losses": nats}


def _batches(config: "RunConfig", rank: int, processes: int) -> "list[Batch]":
    from ssrnn_dist.data import open_corpora, open_stream

    stream = open_stream(config, open_corpora(config), rank=rank, world_size=processes)
    try:
        return [next(stream) for _ in range(config.train.steps)]
    finally:
        stream.close()


def _model(config: "RunConfig") -> Any:
    from ssrnn_dist.config import ModelConfig
    from ssrnn_dist.data import open_corpora
    from ssrnn_dist.model import LanguageModel

    vocab_size = open_corpora(config)[0].index.vocab_size
    return LanguageModel(ModelConfig(**config.model.model_dump(), vocab_size=vocab_size, feedback=config.feedback))


def _adamw(model: Any, config: "RunConfig") -> Any:
    import torch

    train, parameters = config.train, list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=train.learning_rate, betas=(train.beta1, train.beta2))


def width_for(config: "RunConfig", target_seconds: float) -> int:
    """The width of a model whose step takes so long, from a few looks; begins with the config's own."""
    width = config.model.d_model
    for _ in range(SIZING_LOOKS):
        width = next_width(width, _step_seconds(config, width), target_seconds)
    return width


def next_width(width: int, step_seconds: float, target_seconds: float) -> int:
    """A width that is nearer: time goes with something between the width and its square. Within WIDTHS, even steps."""
    wanted = width * (target_seconds / step_seconds) ** (1 / 1.5)
    return min(WIDTHS[1], max(WIDTHS[0], WIDTH_STEP * round(wanted / WIDTH_STEP)))


def _step_seconds(config: "RunConfig", width: int) -> float:
    """The least of a few steps: what the machine can do."""
    model = config.model.model_copy(update={"d_model": width})
    train_section = config.train.model_copy(update={"steps": SIZING_STEPS})
    asked = config.model_copy(update={"model": model, "train": train_section})
    ends = train(asked, 0, 1, lambda: None)["ends"]
    return min(end - start for start, end in pairwise(ends))


def _all_ready(task_path: str, rank: int, processes: int) -> None:
    """Begin together with the others."""
    Path(f"{task_path}.ready-{rank}").touch()
    while not all(Path(f"{task_path}.ready-{each}").exists() for each in range(processes)):
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
