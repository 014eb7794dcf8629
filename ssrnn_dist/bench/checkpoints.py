"""What a checkpoint costs a training: how long it stands still, and what the writing behind its back takes from it.

python -m ssrnn_dist.bench.checkpoints [--ranks 2] [--seconds 60] [--pairs 3] [--out FILE], on this machine's CPU."""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ssrnn_data import Batch
from ssrnn_dist.bench.machine import described_machine
from ssrnn_dist.checkpoint.training_state import Progress, Saver
from ssrnn_dist.config import ModelConfig, RunConfig
from ssrnn_dist.engine import Engine, cut_lanes
from ssrnn_dist.files import write_json_atomic
from ssrnn_dist.model import LanguageModel
from ssrnn_dist.model.language_model import count_parameters
from ssrnn_dist.world import World, end_process, joined_world

MODEL = ModelConfig(vocab_size=16_000, d_model=512, n_layers=6)
LANES, LENGTH = 8, 64


class Training:
    """A model of some 30 million parameters that learns noise."""

    def __init__(self, folder: Path, world: World) -> None:
        self.config = RunConfig.model_validate(
            {
                "name": "bench",
                "run_root": str(folder),
                "data": {"index": "none"},
                "train": {"tokens_per_batch": LANES * LENGTH, "sequence_length": LENGTH, "steps": 1000},
            }
        )
        here = len(range(world.rank, LANES, world.size))
        micro = cut_lanes(LANES, here, world.size, None)
        self.world = world
        self.engine = Engine(LanguageModel(MODEL), self.config.train, self.config.scale, world, micro)
        self.progress = Progress(0, 0, {}, self.engine.zero_state())
        self.batch = _noise(here)
        self.saver = Saver(self.config, self.engine, range(here), b"{}")

    def step(self) -> None:
        hidden = self.progress.hidden
        self.engine.prepare(self.batch, hidden, self.progress.step)
        _, hidden = self.engine.step(self.batch, hidden, 1e-4)
        self.progress = Progress(self.progress.step + 1, 0, {}, hidden)

    def steps_per_second(self, seconds: float, saves: bool) -> tuple[float, float]:
        """Over so many seconds with a checkpoint in their middle, or none; and for how long its start blocked."""
        began, steps, blocked, due = time.monotonic(), 0, 0.0, saves
        while self._still(time.monotonic() - began < seconds):
            self.step()
            steps += 1
            if due and self._still(time.monotonic() - began > seconds / 3):
                due = False
                started = time.monotonic()
                self.saver.start(self.progress)
                blocked = time.monotonic() - started
        rate = steps / (time.monotonic() - began)
        self.saver.wait()
        return rate, blocked

    def _still(self, mine: bool) -> bool:
        return bool(self.world.first_says(int(mine)))

    def one_save(self) -> tuple[float, float]:
        """Seconds of this rank's processor, and of the clock, for a checkpoint with nothing beside it."""
        cpu, began = time.process_time(), time.monotonic()
        self.saver.start(self.progress)
        self.saver.wait()
        return time.process_time() - cpu, time.monotonic() - began


def _noise(lanes: int) -> Batch:
    tokens = torch.randint(0, MODEL.vocab_size, (lanes, LENGTH + 1))
    reset = torch.zeros(lanes, LENGTH, dtype=torch.bool)
    return Batch(tokens[:, :-1], tokens[:, 1:], reset, torch.arange(lanes))


def measure(folder: Path, world: World, seconds: float, pairs: int) -> dict[str, Any]:
    """Pairs of spans with and without a checkpoint, so that what else the machine does falls on both."""
    training = Training(folder, world)
    for _ in range(3):
        training.step()
    training.one_save()  # the first makes the buffer
    alone = []
    for _ in range(5):
        training.step()
        alone.append(training.one_save())
    rows = []
    for pair in range(pairs):
        order = [True, False] if pair % 2 else [False, True]
        rates = {saves: training.steps_per_second(seconds, saves) for saves in order}
        rows.append({"without": rates[False][0], "with": rates[True][0], "blocked_seconds": rates[True][1]})
    cpu_seconds = statistics.median(cpu for cpu, _ in alone)
    return {
        "parameters": count_parameters(MODEL),
        "ranks": world.size,
        "bytes_per_rank": sum(value.numel() for value in training.engine.model.parameters()) * 12 // world.size,
        "blocked_seconds": statistics.median(row["blocked_seconds"] for row in rows),
        "alone_seconds": statistics.median(wall for _, wall in alone),
        "cpu_seconds": cpu_seconds,
        "cpu_share_at_one_a_minute": cpu_seconds / 60,
        "slowdown": 1 - statistics.median(row["with"] / row["without"] for row in rows),
        "span_seconds": seconds,
        "pairs": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if "RANK" in os.environ:
        torch.set_num_threads(1)
        with joined_world(uses_gpu=False) as world:
            found = measure(Path(os.environ["BENCH_FOLDER"]), world, given.seconds, given.pairs)
        results = {"what": "ssrnn_dist.bench.checkpoints", **described_machine(), **found}
        if world.is_first:
            print(json.dumps(results, indent=2), flush=True)
            if given.out is not None:
                write_json_atomic(given.out, results)
        end_process(0)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        port = _free_port()
        ranks = [_started(rank, given.ranks, port, folder) for rank in range(given.ranks)]
        code = max(process.wait() for process in ranks)
    sys.exit(code)


def _started(rank: int, size: int, port: int, folder: str) -> "subprocess.Popen[bytes]":
    where = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = {**os.environ, **{key: str(value) for key, value in where.items()}, "BENCH_FOLDER": folder}
    return subprocess.Popen([sys.executable, "-m", __spec__.name, *sys.argv[1:]], env=environment)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main()
