"""What tensors a piece of work holds at most, counted from torch's own allocations. Imports torch."""

from collections.abc import Callable, Iterable
from typing import Any


def allocations_of(run: Callable[[], object]) -> list[tuple[int, int, int]]:
    """(nanoseconds, address, bytes: negative where it is given back) in order."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    results = profile.profiler.kineto_results
    found: list[tuple[int, int, int]] = []
    _gather(results.experimental_event_tree(), found)
    return sorted(found)


def peak_bytes_of(run: Callable[[], object]) -> int:
    """The most that came and had not yet gone."""
    held = most = 0
    for _, _, size in allocations_of(run):
        held += size
        most = max(most, held)
    return most


def _gather(events: Iterable[Any], found: list[tuple[int, int, int]]) -> None:
    for event in events:
        if str(event.tag).endswith("Allocation"):
            _, details = event.typed
            found.append((event.start_time_ns, details.ptr, details.alloc_size))
        _gather(event.children, found)
