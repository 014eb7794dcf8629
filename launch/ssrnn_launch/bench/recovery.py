"""How long a run stands still when nodes die, freeze, are drained or join: from the moment on to the next group's step.

Runs `ssrnn train` on a cluster of several nodes; reads the run's own files. Times are Unix seconds of one clock."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssrnn_dist.config import load_config
from ssrnn_dist.tracking.history import HISTORY, RESUMED_FROM
from ssrnn_dist.tracking.jsonl import read_json_lines
from ssrnn_dist.tracking.ledger import LEDGER
from ssrnn_launch.bench import workshop
from ssrnn_launch.bench.cluster import ManyNodes, many_nodes
from ssrnn_launch.bench.workshop import Workshop

GOAL_SECONDS = 20.0
NODES, WORKERS = 4, 2  # two spare ones take the places of those that go
WIDTH, SEQUENCE_LENGTH, LANES = 256, 64, 4  # steps of a tenth of a second or less
CHECKPOINT_EVERY_STEPS = 50
SETTLE_SECONDS = 4.0  # of training between two events
EVENTS = ("kill", "drain", "freeze", "add")
WORDS = {
    "kill": "a node is killed",
    "freeze": "a node freezes (scale.lost_seconds: 12)",
    "drain": "a node is drained (planned)",
    "add": "a node joins (planned)",
}
NOTICED_BY = {"kill": "worker_failed", "freeze": "worker_failed", "drain": "resize", "add": "resize"}
COMMAND = "from ssrnn_launch.cli.main import run; run()"


def measure_recovery(shop: Workshop, events: Sequence[str], told: Callable[[str], None]) -> dict[str, Any]:
    """A row an event, in one run; each has trained for some seconds before it."""
    folder = shop.folder / "recovery"
    folder.mkdir()
    told(f"starting a cluster of {NODES} nodes")
    with many_nodes(NODES, folder) as cluster:
        path = shop.written(_values(shop, cluster.address))
        run, log = load_config(path).folder, folder / "train.out"
        words = [sys.executable, "-c", COMMAND, "train", str(path)]
        with workshop.background(words, cluster.env, log) as process:
            workshop.wait_until("the first checkpoint", lambda: _has_checkpoint(run), process, log)
            rows = []
            for event in events:
                time.sleep(SETTLE_SECONDS)
                told(f"recovery: {WORDS[event]}")
                rows.append(_one(event, cluster, run, process, log))
    killed = [row["first_step_seconds"] for row in rows if row["event"] == "kill"]
    met = all(seconds <= GOAL_SECONDS for seconds in killed)
    return {"nodes": NODES, "workers": WORKERS, "rows": rows, "goal_seconds": GOAL_SECONDS, "met": met}


def _values(shop: Workshop, address: str) -> dict[str, Any]:
    values = shop.values("recovery", width=WIDTH, steps=100_000, workers=[1, WORKERS])
    batch = {"sequence_length": SEQUENCE_LENGTH, "tokens_per_batch": LANES * SEQUENCE_LENGTH}
    values["train"] |= batch | {"log_every_steps": 1}
    values["scale"] |= {"resize_seconds": 1.0, "max_restarts": 10}
    return values | {"cluster": {"address": address}, "checkpoint": {"every_steps": CHECKPOINT_EVERY_STEPS}}


def _has_checkpoint(run: Path) -> bool:
    return any((run / "checkpoints").glob("step-*"))


def _one(event: str, cluster: ManyNodes, run: Path, process: "subprocess.Popen[bytes]", log: Path) -> dict[str, Any]:
    """Cause it, and wait until the next group has made a step."""
    began, done = cluster.do(event)
    happened = done if event == "add" else began

    def next_step() -> Mapping[str, Any] | None:
        return _first_step(run, began, happened, NOTICED_BY[event])

    found = dict(workshop.wait_until(f"the run to go on after: {WORDS[event]}", next_step, process, log))
    return {"event": event, "what": WORDS[event], **found}


def _first_step(run: Path, began: float, happened: float, noticed_by: str) -> dict[str, Any] | None:
    """What became of what was begun then, once a new group has made its first step.

    Seconds are from when it happened: a new node may be noticed before the cluster says that it stands."""
    noticed = workshop.events(run, noticed_by, began)
    resumed = workshop.events(run, "resumed", noticed[0]["time"]) if noticed else []
    if not resumed:
        return None
    rows = read_json_lines(run / HISTORY)
    lives = [at for at, row in enumerate(rows) if RESUMED_FROM in row]
    step = next((row for row in rows[lives[-1] :] if row.get("time", 0.0) >= resumed[0]["time"]), None)
    if step is None:
        return None
    since = min(happened, noticed[0]["time"])
    asked = [row["time"] for row in read_json_lines(run / LEDGER) if row["kind"] == "life" and row["time"] >= since]
    return {
        "noticed_seconds": noticed[0]["time"] - since,
        "group_asked_for_seconds": asked[0] - since,
        "group_ready_seconds": resumed[0]["time"] - since,
        "first_step_seconds": step["time"] - since,
        "steps_repeated": max(0, noticed[0]["fields"]["step"] - resumed[0]["fields"]["step"]),
        "workers": resumed[0]["fields"]["workers"],
    }
