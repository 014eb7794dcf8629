"""Seconds of the real training step on this machine, by processes of their own: what a plan's times are made of.

Starts processes; what to measure is decided by pure functions. Imports the config and the machine's facts."""

import datetime
import json
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssrnn_dist.config import RunConfig
from ssrnn_launch.machine import available_cores
from ssrnn_launch.plan.calibration import Calibration, Timing, facts_of
from ssrnn_launch.plan.memory import Split, memory_of
from ssrnn_launch.plan.processes import free_port, run_together
from ssrnn_launch.plan.workload import Workload

MOST_SECONDS = 900.0
MOST_SETTINGS = 4


def threads_of(config: RunConfig, workers: int, cores: int) -> int:
    """What each of so many workers on this machine computes with (worker.py)."""
    return config.scale.cpus_per_worker or max(1, cores // workers)


def settings_of(work: Workload, config: RunConfig, counts: Sequence[int], cores: int) -> list[dict[str, Any]]:
    """What to time: each number of workers that this machine has cores for, and the most of them on fewer lanes too.

    One GPU is one worker."""
    room = 1 if config.scale.gpus_per_worker else cores
    given = config.scale.most_workers
    near = sorted({n for n in counts if n <= room} | {1}, key=lambda n: (abs(n - min(given, room)), n))[:MOST_SETTINGS]
    probes = config.feedback.probe_every is not None and config.feedback.kind != "exact"

    def setting(workers: int, lanes: int) -> dict[str, Any]:
        threads = threads_of(config, workers, cores)
        micro = work.micro_lanes(workers)
        return {"workers": workers, "threads": threads, "lanes": lanes, "micro_lanes": micro, "probes": probes}

    found = [setting(n, work.lanes_each(n)) for n in sorted(near)]
    densest = max(near)
    few = max(1, work.micro_lanes(densest) // 4)
    if few < work.lanes_each(densest):
        found.append(setting(densest, few))
    return found


def calibrate(config: RunConfig, work: Workload, vocab_size: int, counts: Sequence[int]) -> Calibration:
    """Run it; LaunchFailed says where to look if a process fails."""
    cores = available_cores()
    settings = settings_of(work, config, counts, cores)
    processes = max(each["workers"] for each in settings)
    task = {
        "config": config.model_dump(mode="json"),
        "vocab_size": vocab_size,
        "port": free_port(),
        "processes": processes,
        "gradient_bytes": work.number_bytes * work.parameters,
        "settings": settings,
        "product_threads": sorted({each["threads"] for each in settings}),
    }
    found = _run(task, processes)
    return _calibration(config, work, vocab_size, settings, found)


def _run(task: dict[str, Any], processes: int) -> list[dict[str, Any]]:
    """Every rank's findings; the logs stay where one fails."""
    folder = Path(tempfile.mkdtemp(prefix="ssrnn-plan-"))
    path = folder / "task.json"
    path.write_text(json.dumps(task))
    device = {} if task["config"]["scale"]["gpus_per_worker"] else {"DS_ACCELERATOR": "cpu"}
    words = [["-m", "ssrnn_launch.plan.calibration_rank", str(path), str(rank)] for rank in range(processes)]
    run_together("the calibration", words, [device] * processes, folder, MOST_SECONDS)
    found = [json.loads(Path(f"{path}.{rank}").read_text()) for rank in range(processes)]
    shutil.rmtree(folder)
    return found


def _calibration(
    config: RunConfig, work: Workload, vocab_size: int, settings: list[dict[str, Any]], found: list[dict[str, Any]]
) -> Calibration:
    first = found[0]
    timings = []
    for index, setting in enumerate(settings):
        parts = [
            rank["timings"][_place(settings, index, number)] for number, rank in enumerate(found[: setting["workers"]])
        ]
        timings.append(_timing(setting, parts))
    on_gpu = config.scale.gpus_per_worker > 0
    return Calibration(
        device=_device(on_gpu),
        on_gpu=on_gpu,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        run=facts_of(config, vocab_size),
        timings=tuple(timings),
        product_flops_per_second=first["products"],
        rates=first["rates"],
        framework_bytes=first["framework_bytes"],
        ray_bytes=first["ray_bytes"],
        allocator_fraction=_allocator_fraction(work, config, first),
        start_seconds=max(rank["start_seconds"] for rank in found),
    )


def _place(settings: list[dict[str, Any]], index: int, rank: int) -> int:
    """Where a rank's list has a setting: it had no part in those of fewer workers."""
    return sum(each["workers"] > rank for each in settings[:index])


def _timing(setting: dict[str, Any], parts: list[dict[str, Any]]) -> Timing:
    """A step takes as long as its slowest worker; the mean of steps, of which a run is made."""
    rows = [max(step) for step in zip(*(part["rows"] for part in parts), strict=True)]
    totals = [row[0] for row in rows]
    low, middle, high = statistics.quantiles(totals, n=4)
    data = [part["data_seconds"] for part in parts]
    return Timing(
        workers=setting["workers"],
        threads=setting["threads"],
        lanes=setting["lanes"],
        micro_batches=-(-setting["lanes"] // min(setting["micro_lanes"], setting["lanes"])),
        step_seconds=statistics.fmean(totals),
        update_seconds=statistics.fmean(row[1] for row in rows),
        forward_seconds=max(part["forward_seconds"] for part in parts),
        data_seconds=None if None in data else max(data),
        probe_seconds=max(part["probe_seconds"] for part in parts),
        steps=len(rows),
        spread=(high - low) / 2 / middle,
    )


def _allocator_fraction(work: Workload, config: RunConfig, first: dict[str, Any]) -> float:
    """What the process held beyond framework and tensors, over what came and went in a step."""
    split = Split(1, config.scale.zero_stage, offload=config.scale.offload != "none")
    expected = memory_of(work, split)
    held = expected.total - expected.parts["checkpoint"]  # which a calibration does not make
    beyond = first["peak_bytes"] - first["framework_bytes"] - held
    return max(0.0, beyond / expected.passing) if first["peak_bytes"] and expected.passing else 0.0


def _device(on_gpu: bool) -> str:
    if on_gpu:
        import torch

        return torch.cuda.get_device_name(0)
    from ssrnn_dist.tracking.facts import cpu_model

    return f"{cpu_model()}, {available_cores()} cores"
