"""One of the processes of a calibration: times the run's own engine, alone or while others compute beside it.

python -m ssrnn_launch.plan.calibration_rank TASK.json RANK. Imports the trainer; every socket is on 127.0.0.1."""

import importlib
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from ssrnn_launch.plan.process_memory import held_bytes, resident_bytes

TOGETHER_SECONDS = 300
PRODUCT_SECONDS = 1.0


def main(task_path: str, rank: int) -> None:
    """Do this rank's part of a task, and write what it found beside it."""
    began = time.monotonic()
    task = json.loads(Path(task_path).read_text())
    import torch
    import torch.distributed as dist

    from ssrnn_dist.config import check_config
    from ssrnn_dist.world import joined_world
    from ssrnn_launch.plan.collective_times import gloo_rates
    from ssrnn_launch.plan.engine_times import EngineTimes

    config = check_config(task["config"])
    torch.set_num_threads(1)
    together = timedelta(seconds=TOGETHER_SECONDS)
    store = dist.TCPStore("127.0.0.1", task["port"], task["processes"], rank == 0, together)
    found: dict[str, Any] = {"rates": None, "timings": []}
    if task["processes"] > 1 and rank < 2:
        found["rates"] = gloo_rates(store, rank, task["gradient_bytes"])
    with joined_world(uses_gpu=config.scale.gpus_per_worker > 0) as world:
        times = EngineTimes(config, task["vocab_size"], world.device, store, rank)
        times.warm_up(world)
        found["framework_bytes"] = held_bytes(world.device)
        found["start_seconds"] = time.monotonic() - began
        for index, setting in enumerate(task["settings"]):
            if rank < setting["workers"]:
                found["timings"].append(times.measure(f"setting-{index}", setting, world))
        found["peak_bytes"] = times.peak_bytes
    if rank == 0:
        found["products"] = {str(threads): product_rate(threads, world.device) for threads in task["product_threads"]}
        found["ray_bytes"] = _rays_bytes()
    Path(f"{task_path}.{rank}").write_text(json.dumps(found))
    store.add("done", 1)
    while rank == 0 and store.add("done", 0) < task["processes"]:  # the first keeps the store
        time.sleep(0.01)


def product_rate(threads: int, device: Any) -> float:
    """Operations a second of a large product, the best of a second: what an MFU here is a part of."""
    import torch

    torch.set_num_threads(threads)
    size = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device) for _ in range(2))
    times: list[float] = []
    end = time.monotonic() + PRODUCT_SECONDS
    while len(times) < 6 or time.monotonic() < end:
        began = time.perf_counter()
        float((left @ right)[0, 0])  # waits for a GPU
        times.append(time.perf_counter() - began)
    return 2.0 * size**3 / min(times[1:])


def _rays_bytes() -> int:
    """What Ray adds to a worker: resident bytes as it is imported."""
    before = resident_bytes()
    importlib.import_module("ray")
    return max(0, resident_bytes() - before)


if __name__ == "__main__":
    from ssrnn_dist.world import end_process

    main(sys.argv[1], int(sys.argv[2]))
    end_process(0)
