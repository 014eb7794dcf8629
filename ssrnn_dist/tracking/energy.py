"""Energy that meters count: the GPU's own (NVML) and the processor's (RAPL). Never an estimate.

Imports the standard library and nvml.py, and torch where it is loaded already; reads /sys."""

import sys
from collections.abc import Callable
from pathlib import Path

from ssrnn_dist.tracking.nvml import LIBRARY, Nvml

POWERCAP = Path("/sys/class/powercap")
JOULES_PER_MICROJOULE, JOULES_PER_MILLIJOULE = 1e-6, 1e-3


class EnergyMeter:
    """Joules of one worker since it was opened: its GPU, and its share of the node's processors.

    With a GPU whose energy cannot be read there is no meter: the processors alone would be a small part of it. With
    processors that cannot be read (most kernels let only root) the GPU's energy is all that is counted."""

    def __init__(self, counters: list[Callable[[], float | None]]) -> None:
        """counters: joules since each was opened, None where it can't be read now."""
        self._counters, self._last = counters, [0.0] * len(counters)

    @classmethod
    def open(
        cls,
        uses_gpu: bool,
        device_index: int = 0,
        share: float = 1.0,
        *,
        powercap: Path = POWERCAP,
        library: str = LIBRARY,
    ) -> "EnergyMeter | None":
        """A meter that begins at 0; None where there is nothing to read.

        device_index: the worker's GPU as torch counts.  share: of the node's processors, such as 1 / its workers."""
        counters: list[Callable[[], float | None]] = []
        if uses_gpu:
            gpu = open_gpu(_uuid_of(device_index), library)
            if gpu is None:
                return None
            counters.append(gpu)
        counters += [_scaled(package, share) for package in open_packages(powercap)]
        return cls(counters) if counters else None

    def joules(self) -> float:
        """Since it was opened; never shrinks. To be called every few minutes at least: RAPL's counters are small."""
        for at, counter in enumerate(self._counters):
            self._last[at] = max(self._last[at], counter() or 0.0)
        return sum(self._last)


class Package:
    """The energy counter of a processor package, which begins again at 0 after its range."""

    def __init__(self, folder: Path) -> None:
        """OSError or ValueError where it cannot be read."""
        self._file = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._before, self._joules = int(self._file.read_text()), 0.0

    def __call__(self) -> float | None:
        try:
            now = int(self._file.read_text())
        except (OSError, ValueError):
            return None
        more = now - self._before if now >= self._before else now - self._before + self._range
        self._before = now
        self._joules += more * JOULES_PER_MICROJOULE
        return self._joules


def open_packages(powercap: Path) -> list[Package]:
    """The packages of this node; [] where any of them can't be read, as a part would be a wrong number.

    Of intel-rapl's zones only those named package-…: the others lie inside them (core, dram, uncore) or around them
    (psys)."""
    try:
        zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        return [Package(zone) for zone in zones if (zone / "name").read_text().startswith("package")]
    except (OSError, ValueError):
        return []


def open_gpu(uuid: str | None, library: str) -> Callable[[], float | None] | None:
    """The energy counter of a GPU by its UUID (NVML: of Volta and newer, whole GPUs only); None where it has none."""
    if uuid is None or (nvml := Nvml.open(library)) is None:
        return None
    device = nvml.handle_of(uuid)
    if device is None or (began := nvml.millijoules(device)) is None:
        return None

    def read() -> float | None:
        now = nvml.millijoules(device)
        return None if now is None else (now - began) * JOULES_PER_MILLIJOULE

    return read


def _uuid_of(device_index: int) -> str | None:
    """NVML's name of torch's GPU: their numbers differ where CUDA_VISIBLE_DEVICES hides some."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or device_index >= torch.cuda.device_count():
        return None
    return f"GPU-{torch.cuda.get_device_properties(device_index).uuid}"


def _scaled(counter: Callable[[], float | None], share: float) -> Callable[[], float | None]:
    def read() -> float | None:
        joules = counter()
        return None if joules is None else joules * share

    return read
