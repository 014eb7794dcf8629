"""NVIDIA's management library, as far as a run needs it: what its GPUs do, hold and draw.

Imports ctypes only and loads the driver's library inside; without one there are no devices."""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

LIBRARY = "libnvidia-ml.so.1"


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
    """The library, loaded once. OSError where the machine has none, or its driver does not answer."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        status = self._library.nvmlInit_v2()
        if status:
            raise OSError(f"{LIBRARY}: nvmlInit gave {status}")

    def handles(self, visible: Sequence[str] | None) -> dict[int, Any]:
        """The devices of these numbers or UUIDs (as in CUDA_VISIBLE_DEVICES), by number; None: all."""
        count = self._ask(ctypes.c_uint, self._library.nvmlDeviceGetCount_v2) or ctypes.c_uint()
        found = {}
        for index in range(count.value):
            handle = self._ask(ctypes.c_void_p, self._library.nvmlDeviceGetHandleByIndex_v2, ctypes.c_uint(index))
            if handle is None:
                continue
            uuid = self._uuid(handle)
            if visible is None or any(name and (name == str(index) or uuid.startswith(name)) for name in visible):
                found[index] = handle
        return found

    def read(self, handle: Any) -> GpuReading:
        library = self._library
        utilization = self._ask(_Utilization, library.nvmlDeviceGetUtilizationRates, handle)
        memory = self._ask(_Memory, library.nvmlDeviceGetMemoryInfo, handle)
        power = self._ask(ctypes.c_uint, library.nvmlDeviceGetPowerUsage, handle)
        limit = self._ask(ctypes.c_uint, library.nvmlDeviceGetEnforcedPowerLimit, handle)
        return GpuReading(
            utilization_percent=None if utilization is None else float(utilization.gpu),
            memory_used_bytes=None if memory is None else float(memory.used),
            memory_total_bytes=None if memory is None else float(memory.total),
            power_watts=None if power is None else power.value / 1000,
            power_limit_watts=None if limit is None else limit.value / 1000,
        )

    def _uuid(self, handle: Any) -> str:
        text = ctypes.create_string_buffer(96)
        failed = self._library.nvmlDeviceGetUUID(handle, text, ctypes.c_uint(96))
        return "" if failed else text.value.decode(errors="replace")

    @staticmethod
    def _ask(kind: Any, call: Callable[..., int], *arguments: Any) -> Any:
        """A call that fills in its last argument; None where it gives an error."""
        out = kind()
        return None if call(*arguments, ctypes.byref(out)) else out
