"""Which numbers of workers a plan looks at, and which of them are impossible and why: pure.

Imports the config and memory.py."""

from dataclasses import dataclass, replace

from ssrnn_dist.config import RunConfig
from ssrnn_launch.plan.memory import Base, Memory, Split, host_bytes, smaller_stages
from ssrnn_launch.plan.workload import Workload

MOST_BETWEEN = 8  # of a range's numbers that are looked at one by one
TIMES = 4  # powers of two from a quarter of the fewest to four times the most
LARGEST = 1024


@dataclass(frozen=True)
class Room:
    """What a worker's weights and tensors lie in. bytes_each: of a GPU; machine_bytes: RAM that all workers here share.

    None: not known."""

    bytes_each: float | None
    machine_bytes: float | None
    gpus_here: int | None = None  # where the run stays on this machine


def counts_of(config: RunConfig, most: int | None = None) -> list[int]:
    """The given numbers of workers and their neighbours. most: powers of two up to there, too."""
    low, high = config.scale.fewest_workers, config.scale.most_workers
    step = max(1, -(-(high - low) // MOST_BETWEEN))
    end = most or min(LARGEST, high * TIMES)
    powers = [1 << power for power in range(21) if low / TIMES <= 1 << power <= end]
    inside = range(low, high + 1, step)
    return sorted({*powers, *inside, high})


def why_impossible(
    work: Workload, config: RunConfig, split: Split, memory: Memory, base: Base, room: Room
) -> str | None:
    """The first reason against a number of workers; None: it is possible, or nothing is known against it."""
    n, lanes, ranks = split.workers, work.train.lanes, config.scale.partition_ranks
    if n > lanes:
        return f"{n} workers for {lanes} lanes: at most one worker a lane (a larger train.tokens_per_batch)"
    if ranks is not None and n % ranks:
        return f"scale.partition_ranks {ranks} does not divide {n}"
    if room.gpus_here is not None and n > room.gpus_here:
        return f"this machine has {room.gpus_here} GPU{'s' * (room.gpus_here != 1)}; cluster.address names no other"
    if room.bytes_each is not None and memory.total > room.bytes_each:
        return _too_much(work, split, memory, base, room.bytes_each)
    on_host = n * ((0 if split.on_gpu else memory.total) + host_bytes(work, split))
    if room.machine_bytes is not None and on_host > room.machine_bytes:
        each = room.machine_bytes / n
        return _too_much(work, split, memory, base, each)
    return None


def _too_much(work: Workload, split: Split, memory: Memory, base: Base, room_bytes: float) -> str:
    came = f"{gigabytes(memory.total)} a worker, {gigabytes(room_bytes)} are there"
    advice = [f"scale.zero_stage {stage}" for stage in smaller_stages(work, split, base, room_bytes)[:1]]
    lanes = _fitting_micro_lanes(work, split, base, room_bytes)
    advice += [f"train.micro_batch_lanes {lanes}"] if lanes else []
    return f"{came}; {' or '.join(advice)} would fit" if advice else came


def _fitting_micro_lanes(work: Workload, split: Split, base: Base, room_bytes: float) -> int | None:
    """The largest half, quarter, … of the lanes at a time that fits."""
    from ssrnn_launch.plan.memory import memory_of

    lanes = work.micro_lanes(split.workers) // 2
    while lanes:
        train = work.train.model_copy(update={"micro_batch_lanes": lanes})
        if memory_of(replace(work, train=train), split, base).total <= room_bytes:
            return lanes
        lanes //= 2
    return None


def gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
