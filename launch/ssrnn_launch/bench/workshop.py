"""Where `ssrnn bench launch` works: a folder with a small corpus, configs, and the programs that run in it.

Starts processes and ends them by their pids. Imports yaml and the config; torch and ray only in what it starts."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ssrnn_dist.config import RunConfig, load_config
from ssrnn_dist.tracking.history import HISTORY, read_history
from ssrnn_dist.tracking.jsonl import read_json_lines
from ssrnn_launch.bench.comparing import Timed, means_of, windows_of
from ssrnn_launch.bench.marks import MARKS_VARIABLE, Mark, read_marks, step_ends
from ssrnn_launch.plan.processes import run_together
from ssrnn_launch.problems import LaunchFailed

LONGEST_SECONDS = 300.0  # of one run
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05
N_LAYERS, SEQUENCE_LENGTH, TOKENS_PER_BATCH = 2, 256, 8192  # the batch is a config's default
VOCAB_SIZE = 1024
LOG_EVERY_STEPS = 10
SOURCES = ("asyncio", "email")  # of Python's library: about a megabyte of text, the same on every machine alike


@dataclass(frozen=True)
class Workshop:
    """The folder, and the corpus in it."""

    folder: Path
    corpus: Path

    def values(self, name: str, *, width: int, steps: int, workers: Any = 1, threads: int = 1) -> dict[str, Any]:
        """A run's config, to be changed; all runs share a run_root, and so an MLflow."""
        return {
            "name": name,
            "run_root": str(self.folder / "runs"),
            "data": {"index": str(self.corpus)},
            "model": {"d_model": width, "n_layers": N_LAYERS},
            "train": {
                "steps": steps,
                "tokens_per_batch": TOKENS_PER_BATCH,
                "sequence_length": SEQUENCE_LENGTH,
                "log_every_steps": LOG_EVERY_STEPS,
            },
            "scale": {"workers": workers, "cpus_per_worker": threads},
            "tracking": {"report": False},
            "cost": {"usd_per_worker_hour": 1.0},
        }

    def written(self, values: Mapping[str, Any]) -> Path:
        """The config as a file."""
        path = self.folder / f"{values['name']}.yaml"
        path.write_text(yaml.safe_dump(dict(values)))
        return path

    def run(self, name: str, arguments: Sequence[Sequence[str]], env: Mapping[str, str], what: str) -> None:
        """Run Python with each of the arguments, together, to the end. LaunchFailed where one of them fails."""
        logs = self.folder / "logs" / name
        logs.mkdir(parents=True)
        run_together(what, arguments, [{**env, "COLUMNS": "100"}] * len(arguments), logs, LONGEST_SECONDS)


def open_workshop(folder: Path) -> Workshop:
    """Build the corpus: code of Python's library, byte-level BPE."""
    from ssrnn_data import build_corpus

    library = Path(sysconfig.get_paths()["stdlib"])
    sources = [str(library / each) for each in SOURCES]
    built = build_corpus(sources, folder / "corpus", vocab_size=VOCAB_SIZE, holdout=0.0, processes=1)
    return Workshop(folder, built.parent)


def width_for(shop: Workshop, threads: int, target_seconds: float) -> int:
    """How wide a model makes a step of the plain loop so long here."""
    name = f"sizing-{threads}"
    config = load_config(shop.written(shop.values(name, width=64, steps=1, threads=threads)))
    task = {"config": config.model_dump(mode="json"), "threads": threads, "target_seconds": target_seconds}
    (found,) = _plain(shop, name, task, 1, threads)
    return int(found["width"])


def plain(shop: Workshop, values: Mapping[str, Any], threads: int, processes: int = 1) -> Timed:
    """The plain loop in one process, or in several that share the batch and send each other nothing."""
    config = load_config(shop.written(values))
    task = {"config": config.model_dump(mode="json"), "threads": threads, "processes": processes}
    found = _plain(shop, config.name, task, processes, threads)
    every = config.train.log_every_steps
    slowest, costliest = (
        tuple(max(row) for row in zip(*(windows_of(each[kind], every) for each in found), strict=True))
        for kind in ("ends", "cpu")
    )
    return Timed(slowest, costliest, means_of(found[0]["losses"], every))


def _plain(shop: Workshop, name: str, task: dict[str, Any], processes: int, threads: int) -> list[dict[str, Any]]:
    path = shop.folder / f"{name}.json"
    path.write_text(json.dumps(task))
    words = [["-m", "ssrnn_launch.bench.plain_loop", str(path), str(rank)] for rank in range(processes)]
    shop.run(name, words, {"OMP_NUM_THREADS": str(threads)}, "the plain loop")
    return [json.loads(Path(f"{path}.{rank}").read_text()) for rank in range(processes)]


@dataclass(frozen=True)
class Trained:
    """A timed run. command, worker: what the command and its first worker wrote down; began: in Unix seconds."""

    config: RunConfig
    began: float
    command: tuple[Mark, ...]
    worker: tuple[Mark, ...]


def train(shop: Workshop, kind: str, values: Mapping[str, Any], threads: int) -> Trained:
    """kind: alone (DeepSpeed, books and MLflow, no Ray) or train (the whole command)."""
    path = shop.written(values)
    config, marks = load_config(path), path.with_suffix(".marks")
    env = {MARKS_VARIABLE: str(marks), "OMP_NUM_THREADS": str(threads)}
    began = time.time()
    shop.run(config.name, [["-m", "ssrnn_launch.bench.timed", kind, str(path)]], env, f"the {kind} run")
    command = () if kind == "alone" else tuple(read_marks(marks, "command"))
    return Trained(config, began, command, tuple(read_marks(marks, "0")))


def timed(trained: Trained) -> Timed:
    """Step times and losses of a run."""
    config = trained.config
    rows = read_history(config.folder / HISTORY)
    later = [row["tokens_per_second"] for row in rows[1:]]
    inside = sorted(config.train.tokens_per_batch / each for each in later)[len(later) // 2]
    losses = tuple(row["train_loss"] for row in rows)
    clock, cpu = (windows_of(ends, config.train.log_every_steps) for ends in step_ends(trained.worker))
    return Timed(clock, cpu, losses, inside)


@contextmanager
def background(words: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A program beside us; it is asked to end, and then made to."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            list(words), env=dict(env), stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield process
    finally:
        with suppress(OSError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment(**more: str) -> dict[str, str]:
    """Ours without what names another Ray; our modules are found as we found them."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "SSRNN_"))}
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)
    return {**kept, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore", "COLUMNS": "100", **more}


def wait_until(what: str, found: Callable[[], Any], process: "subprocess.Popen[Any]", log: Path) -> Any:
    """What `found` returns once that is something. LaunchFailed where the process ends before, or time runs out."""
    until = time.monotonic() + LONGEST_SECONDS
    while True:
        value = found()
        if value:
            return value
        if process.poll() not in (None, 0) or time.monotonic() > until:
            raise LaunchFailed(f"waiting for {what}, in vain", str(log))
        time.sleep(POLL_SECONDS)


def events(folder: Path, kind: str, since: float = 0.0) -> list[dict[str, Any]]:
    """What happened to a run, of one kind, after a moment in Unix seconds."""
    return [row for row in read_json_lines(folder / "events.jsonl") if row["kind"] == kind and row["time"] >= since]
