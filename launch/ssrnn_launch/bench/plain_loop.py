"""Run by `ssrnn bench launch`: the loop that a researcher would write: model, AdamW, clipping, nothing else.

python -m ssrnn_launch.bench.plain_loop TASK.json RANK. Batches are read beforehand. Imports torch inside."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssrnn_data import Batch
    from ssrnn_dist.config import RunConfig

POLL_SECONDS = 0.01
SIZING_LANES = 8
SIZING_STEPS = 5


def main(task_path: str, rank: int) -> None:
    """Do the task, and write what came of it beside it.

    A task: config, processes (that share the batch and send nothing), threads; or with target_seconds, to find out how
    many lanes make a step of so long."""
    task = json.loads(Path(task_path).read_text())
    import torch

    from ssrnn_dist.config import check_config

    torch.set_num_threads(task["threads"])
    config = check_config(task["config"])
    if "target_seconds" in task:
        found: dict[str, Any] = {"lanes": lanes_for(config, task["target_seconds"])}
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


def lanes_for(config: "RunConfig", target_seconds: float) -> int:
    """How many lanes, an even number, make a step of so long; from two looks."""
    lanes = SIZING_LANES
    for _ in range(2):
        lanes = next_lanes(lanes, _step_seconds(config, lanes), target_seconds)
    return lanes


def next_lanes(lanes: int, step_seconds: float, target_seconds: float) -> int:
    """As many as would take the target's time if time went with the lanes; even, 2 to 1,024."""
    return min(1024, max(2, 2 * round(lanes * target_seconds / step_seconds / 2)))


def _step_seconds(config: "RunConfig", lanes: int) -> float:
    """The least of a few steps: what the machine can do."""
    size = {"tokens_per_batch": lanes * config.train.sequence_length, "steps": SIZING_STEPS}
    asked = config.model_copy(update={"train": config.train.model_copy(update=size)})
    began = time.perf_counter()
    ends = train(asked, 0, 1, lambda: None)["ends"]
    return min(end - start for start, end in zip([began, *ends], ends, strict=False))


def _all_ready(task_path: str, rank: int, processes: int) -> None:
    """Begin together with the others."""
    Path(f"{task_path}.ready-{rank}").touch()
    while not all(Path(f"{task_path}.ready-{each}").exists() for each in range(processes)):
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
