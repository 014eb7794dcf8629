"""From the command to the first step: `ssrnn train`, and `ssrnn submit` to a head that stands; where the time goes.

Starts both for real. All moments are Unix seconds of this machine's one clock."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ssrnn_dist.config import load_config
from ssrnn_dist.tracking.history import HISTORY, read_history
from ssrnn_dist.tracking.jsonl import read_json_lines
from ssrnn_dist.tracking.ledger import LEDGER
from ssrnn_launch.bench import workshop
from ssrnn_launch.bench.head import running_head
from ssrnn_launch.bench.workshop import Workshop
from ssrnn_launch.problems import LaunchFailed

STEPS = 3
COMMAND = "from ssrnn_launch.cli.main import run; run()"


def stages_of(moments: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """Seconds of each stage: from the moment before it, in the order of time. moments: what was reached when."""
    ordered = sorted(moments, key=lambda each: each[1])
    return [{"stage": what, "seconds": at - before} for (_, before), (what, at) in pairwise(ordered)]


def measure_starting(shop: Workshop, width: int, told: Callable[[str], None]) -> dict[str, Any]:
    """Both ways to start a run of one worker."""
    told("from `ssrnn train` to the first step")
    rows = [_described("ssrnn train", _trained(shop, width))]
    told("starting a Ray head to submit to")
    with running_head(cpus=2) as head:
        told("from `ssrnn submit` to the first step")
        rows.append(_described("ssrnn submit, to a running head", _submitted(shop, width, head.address, head.env)))
    return {"rows": rows}


def _described(way: str, moments: Sequence[tuple[str, float]]) -> dict[str, Any]:
    stages = stages_of(moments)
    return {"way": way, "seconds": sum(stage["seconds"] for stage in stages), "stages": stages}


def _trained(shop: Workshop, width: int) -> list[tuple[str, float]]:
    run = workshop.train(shop, "train", shop.values("start-train", width=width, steps=STEPS), threads=1)
    marks = [*run.command, *run.worker]
    first = next(mark.unix for mark in marks if mark.what == "step")
    reached = {mark.what: mark.unix for mark in marks if mark.what != "step"}
    words = {
        "input checked": "Python, config and corpus",
        "Ray started": "Ray (GCS, raylet)",
        "worker started": "books, supervisor, the worker's process",
        "torch imported": "torch and the trainer imported",
        "DeepSpeed imported": "group, corpus and model; DeepSpeed imported",
        "engine made": "engine (ZeRO), checkpoint looked for",
    }
    return [("", run.began), *((words[what], at) for what, at in reached.items()), ("first batch and step", first)]


def _submitted(shop: Workshop, width: int, address: str, env: Mapping[str, str]) -> list[tuple[str, float]]:
    values = shop.values("start-submit", width=width, steps=STEPS)
    values["train"]["log_every_steps"] = 1
    path = shop.written(values)
    folder, log = load_config(path).folder, shop.folder / "submit.out"
    words = [sys.executable, "-c", COMMAND, "submit", str(path), "--address", address]
    began = time.time()
    with workshop.background(words, env, log) as process:
        workshop.wait_until("`ssrnn submit`", lambda: process.poll() is not None, process, log)
        sent = time.time()
        if process.returncode:
            raise LaunchFailed("`ssrnn submit` failed", str(log))
        workshop.wait_until("the job's end", lambda: (folder / "summary.json").is_file(), process, log)
    life = next(row["time"] for row in read_json_lines(folder / LEDGER) if row["kind"] == "life")
    return [
        ("", began),
        ("Python, wheel, sent and accepted", sent),
        ("the job's driver, connected to Ray", life),
        ("worker's process, imports, engine", workshop.events(folder, "started")[0]["time"]),
        ("first batch and step", read_history(folder / HISTORY)[0]["time"]),
    ]
