"""NVIDIA's management library, as far as a run needs it: what its GPUs do, hold and draw. The one place that calls it.

Imports ctypes only and loads the driver's library inside; without one there are no devices."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
Handle = ctypes.c_void_p


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


@dataclass(frozen=True)
class GpuReading:
    """What one GPU told; None: it cannot tell."""

    utilization_percent: float | None
    memory_used_bytes: float | None
    memory_total_bytes: float | None
    power_watts: float | None
    power_limit_watts: float | None


class Nvml:
    """The library, loaded once."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    @classmethod
    def open(cls, library: str = LIBRARY) -> "Nvml | None":
        """None where the machine has none, or its driver does not answer."""
        try:
            loaded = ctypes.CDLL(library)
            return None if loaded.nvmlInit_v2() else cls(loaded)
        except (OSError, AttributeError):
            return None

    def handles(self, visible: Sequence[str] | None) -> dict[int, Handle]:
        """The devices of these numbers or UUIDs (as in CUDA_VISIBLE_DEVICES), by number; None: all."""
        count = self._ask(ctypes.c_uint, "nvmlDeviceGetCount_v2") or ctypes.c_uint()
        found = {}
        for index in range(count.value):
            handle = self._ask(Handle, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index))
            if handle is None:
                continue
            uuid = self._uuid(handle)
            if visible is None or any(name and (name == str(index) or uuid.startswith(name)) for name in visible):
                found[index] = handle
        return found

    def handle_of(self, uuid: str) -> Handle | None:
        """The device with this whole UUID."""
        handle: Handle | None = self._ask(Handle, "nvmlDeviceGetHandleByUUID", uuid.encode())
        return handle

    def read(self, handle: Handle) -> GpuReading:
        """What the device does now."""
        utilization = self._ask(_Utilization, "nvmlDeviceGetUtilizationRates", handle)
        memory = self._ask(_Memory, "nvmlDeviceGetMemoryInfo", handle)
        power = self._ask(ctypes.c_uint, "nvmlDeviceGetPowerUsage", handle)
        limit = self._ask(ctypes.c_uint, "nvmlDeviceGetEnforcedPowerLimit", handle)
        return GpuReading(
            utilization_percent=None if utilization is None else float(utilization.gpu),
            memory_used_bytes=None if memory is None else float(memory.used),
            memory_total_bytes=None if memory is None else float(memory.total),
            power_watts=None if power is None else power.value / 1000,
            power_limit_watts=None if limit is None else limit.value / 1000,
        )

    def millijoules(self, handle: Handle) -> int | None:
        """Since the driver was loaded; None: the device has no counter (older than Volta, or a part of one)."""
        energy = self._ask(ctypes.c_ulonglong, "nvmlDeviceGetTotalEnergyConsumption", handle)
        return None if energy is None else int(energy.value)

    def _uuid(self, handle: Handle) -> str:
        text = ctypes.create_string_buffer(96)
        failed = self._library.nvmlDeviceGetUUID(handle, text, ctypes.c_uint(96))
        return "" if failed else text.value.decode(errors="replace")

    def _ask(self, kind: Any, name: str, *arguments: Any) -> Any:
        """A call that fills in its last argument; None where it gives an error, or the driver is too old to have it."""
        call, out = getattr(self._library, name, None), kind()
        return None if call is None or call(*arguments, ctypes.byref(out)) else out
