"""What a process holds of RAM, and a worker of its GPU: now, and at most. Imports psutil; torch inside, for a GPU."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch


def resident_bytes() -> int:
    """Of this process, now."""
    return int(psutil.Process().memory_info().rss)


def forget_peak() -> None:
    """Start the high-water mark again from what is held now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_resident_bytes(pid: int | None = None) -> int:
    """The kernel's high-water mark of a process, this one by default; 0 where it does not tell, or there is none."""
    try:
        lines = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def held_bytes(device: "torch.device") -> int:
    """Of where a worker's tensors lie, without them on a GPU: what CUDA itself takes there."""
    if device.type != "cuda":
        return resident_bytes()
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return int(total - free - torch.cuda.memory_reserved(device))


def peak_bytes(device: "torch.device") -> int:
    """The most that was held there, tensors and all."""
    if device.type != "cuda":
        return peak_resident_bytes()
    import torch

    return held_bytes(device) + int(torch.cuda.max_memory_reserved(device))
