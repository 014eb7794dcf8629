"""What a node does while it trains: processor, memory, network, disk, and the GPUs in use, as MLflow names them.

Imports psutil; NVML through nvml.py where there is one."""

import os
from collections.abc import Sequence

import psutil

from ssrnn_dist.tracking.nvml import GpuReading, Nvml

MEGABYTE = 1e6


class NodeSampler:
    """One a node; sample() every few seconds. Counters are since it was made."""

    def __init__(self, gpus: Sequence[str] | None = None) -> None:
        """gpus: numbers or UUIDs of those in use on this node; None: what CUDA_VISIBLE_DEVICES says, or all."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") if gpus is None else ",".join(gpus)
        self._nvml = Nvml.open()
        names = None if visible is None else [name.strip() for name in visible.split(",")]
        self._gpus = self._nvml.handles(names) if self._nvml else {}
        self._first = _counters()
        psutil.cpu_percent()  # counts from here on

    def sample(self) -> dict[str, float]:
        """The node's numbers now; the processor's are means since the last call. What can't be read is left out."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(os.sep)
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MEGABYTE,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / MEGABYTE,
            "disk_available_megabytes": disk.free / MEGABYTE,
            **{key: value - self._first.get(key, 0.0) for key, value in _counters().items()},
        }
        if self._nvml is not None:
            for index, handle in self._gpus.items():
                values |= gpu_values(index, self._nvml.read(handle))
        return {key: round(value, 2) for key, value in values.items()}


def gpu_values(index: int, reading: GpuReading) -> dict[str, float]:
    """A GPU's numbers by name; what it cannot tell is left out."""
    values = {f"gpu_{index}_utilization_percentage": reading.utilization_percent}
    if reading.memory_used_bytes is not None and reading.memory_total_bytes:
        values[f"gpu_{index}_memory_usage_megabytes"] = reading.memory_used_bytes / MEGABYTE
        values[f"gpu_{index}_memory_usage_percentage"] = 100 * reading.memory_used_bytes / reading.memory_total_bytes
    values[f"gpu_{index}_power_usage_watts"] = reading.power_watts
    if reading.power_watts is not None and reading.power_limit_watts:
        values[f"gpu_{index}_power_usage_percentage"] = 100 * reading.power_watts / reading.power_limit_watts
    return {key: value for key, value in values.items() if value is not None}


def _counters() -> dict[str, float]:
    """Megabytes since the machine was started; a container may see none."""
    network, disk = psutil.net_io_counters(), psutil.disk_io_counters()
    values: dict[str, float] = {}
    if network is not None:
        values["network_receive_megabytes"] = network.bytes_recv / MEGABYTE
        values["network_transmit_megabytes"] = network.bytes_sent / MEGABYTE
    if disk is not None:
        values["disk_read_megabytes"] = disk.read_bytes / MEGABYTE
        values["disk_write_megabytes"] = disk.write_bytes / MEGABYTE
    return values
