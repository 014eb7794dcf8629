"""What this machine has, and how a run's workers share it. The decisions are pure.

Imports the config only."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ssrnn_dist.config import RunConfig

WORKER_BYTES = 1_200_000_000  # a CPU worker of the quickstart: measured 0.6 to 0.7 GB, with room to spare
MOST_QUICKSTART_WORKERS = 8


@dataclass(frozen=True)
class LocalShare:
    """What a local Ray is told to have, and what each worker gets."""

    ray_cpus: int
    cpus_per_worker: int
    threads_per_worker: int


@dataclass(frozen=True)
class WorkerShape:
    """What each worker asks of Ray, and the environment that it runs in."""

    cpus: int
    threads: int | None
    env_vars: Mapping[str, str]


def available_cores(cpu_max: str | None = None) -> int:
    """Cores that this process may use: the affinity mask, and a container's quota (the text of its cpu.max)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = (_read_cpu_max() if cpu_max is None else cpu_max).partition(" ")
    if quota.isdigit() and period.strip().isdigit() and int(period):
        allowed = min(allowed, -(-int(quota) // int(period)))
    return max(1, allowed)


def _read_cpu_max() -> str:
    try:
        return Path("/sys/fs/cgroup/cpu.max").read_text()
    except OSError:
        return ""


def local_share(config: RunConfig, cores: int) -> LocalShare:
    """How a run's workers share cores; more workers than cores run too, a thread each."""
    workers, asked = config.scale.most_workers, config.scale.cpus_per_worker
    reserved = asked or 1
    return LocalShare(max(cores, workers * reserved), reserved, asked or max(1, cores // workers))


def quickstart_workers(cores: int, lanes: int, free_bytes: int) -> int:
    """A worker a core, as far as lanes and memory go; beyond eight, workers get more threads instead."""
    return max(1, min(cores, lanes, free_bytes // WORKER_BYTES, MOST_QUICKSTART_WORKERS))
