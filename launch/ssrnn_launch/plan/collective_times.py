"""How fast two processes of this machine send each other what DeepSpeed has them send. Imports torch.distributed."""

import statistics
import time
from collections.abc import Callable
from typing import Any

SMALL_BYTES, LARGEST_BYTES = 1024, 64 << 20
SMALL_ROUNDS, LARGE_ROUNDS = 40, 9


def gloo_rates(store: Any, rank: int, gradient_bytes: int) -> dict[str, dict[str, float]]:
    """By kind of collective: what a small call takes, and bytes a second beyond that at the gradient's own size."""
    import os

    import torch.distributed as dist

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", store=dist.PrefixStore("rates", store), rank=rank, world_size=2)
    try:
        large = max(SMALL_BYTES * 64, min(gradient_bytes, LARGEST_BYTES)) // 8 * 8
        return {kind: _rate(run, large, passes) for kind, (run, passes) in _collectives().items()}
    finally:
        dist.destroy_process_group()


def _collectives() -> dict[str, tuple[Callable[[Any, Any], object], int]]:
    import torch.distributed as dist

    return {
        "all_reduce": (lambda whole, part: dist.all_reduce(whole), 2),
        "all_gather": (lambda whole, part: dist.all_gather_into_tensor(whole, part), 1),
        "reduce_scatter": (lambda whole, part: dist.reduce_scatter_tensor(part, whole), 1),
    }


def _rate(run: Callable[[Any, Any], object], large_bytes: int, passes: int) -> dict[str, float]:
    small = _seconds(run, SMALL_BYTES, SMALL_ROUNDS)
    beyond = max(1e-9, _seconds(run, large_bytes, LARGE_ROUNDS) - small)
    sent = passes * large_bytes / 2  # over a ring of two each sends half of it, a pass
    return {"bytes_per_second": sent / beyond, "hop_seconds": small / passes, "call_seconds": 0.0}


def _seconds(run: Callable[[Any, Any], object], n_bytes: int, rounds: int) -> float:
    import torch
    import torch.distributed as dist

    whole = torch.ones(n_bytes // 4)
    part = torch.ones(n_bytes // 8)
    times = []
    for _ in range(rounds + 2):
        dist.barrier()
        began = time.perf_counter()
        run(whole, part)
        times.append(time.perf_counter() - began)
        whole.fill_(1.0)
    return statistics.median(times[2:])
