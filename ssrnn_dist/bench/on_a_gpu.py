"""Time on a GPU: by its own events, and of kernels without what launches them. Imports torch."""

import importlib.metadata
import subprocess
from collections.abc import Callable

import torch

from ssrnn_dist.bench.timing import wall_seconds

CLOCKS = ("driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem")


def described_gpu() -> dict[str, str | int | None]:
    """What a results file says of the GPU: its name, the versions of what runs on it, the clocks as they stand."""
    query = ["nvidia-smi", f"--query-gpu={','.join(CLOCKS)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        answer = ""
    try:
        triton: str | None = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        triton = None
    told = dict(zip(CLOCKS, answer.split(", "), strict=False)) if answer else {}
    versions = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "triton": triton}
    return {"device": torch.cuda.get_device_name(), **versions, **told}


def gpu_seconds(run: Callable[[], object]) -> float:
    """From an event before to one after all that the run launched."""
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    began.record()
    run()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / 1000


def clock_of(device: str) -> Callable[[Callable[[], object]], float]:
    """What times a run there, in seconds."""
    return gpu_seconds if device == "cuda" else wall_seconds


def captured(run: Callable[[], object]) -> Callable[[], None]:
    """The run as a CUDA graph, after two runs that compile what is to be compiled."""
    for _ in range(2):
        run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
