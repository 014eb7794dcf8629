"""NVIDIA's library as it is called: through one compiled here, which answers as NVML's own headers say."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ssrnn_dist.tracking.energy import open_gpu
from ssrnn_dist.tracking.nvml import GpuReading, Nvml
from ssrnn_dist.tracking.system_metrics import gpu_values

# Two GPUs; the second counts a joule a call, the first has neither counter nor power (NVML_ERROR_NOT_SUPPORTED).
NVML = """
#include <string.h>
#include <stdio.h>
static unsigned long long energy = 1000000;
static int devices[2] = {0, 1};
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (index > 1) return 15;  /* NVML_ERROR_GPU_IS_LOST */
    *device = &devices[index];
    return 0;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    if (!strcmp(uuid, "GPU-aa")) { *device = &devices[0]; return 0; }
    if (!strcmp(uuid, "GPU-bb")) { *device = &devices[1]; return 0; }
    return 6;
}
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length) {
    if (length < 96) return 7;
    snprintf(uuid, length, "GPU-%s", device == &devices[0] ? "aa" : "bb");
    return 0;
}
typedef struct { unsigned int gpu, memory; } utilization_t;
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) { rates->gpu = 71; rates->memory = 5; return 0; }
typedef struct { unsigned long long total, free, used; } memory_t;
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    memory->total = 80000000000ull; memory->free = 60000000000ull; memory->used = 20000000000ull;
    return 0;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    *milliwatts = 350000;
    return device == &devices[1] ? 0 : 3;
}
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned int *milliwatts) { *milliwatts = 700000; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy_mj) {
    if (device != &devices[1]) return 3;
    *energy_mj = energy;
    energy += 1000;
    return 0;
}
"""
OLD_DRIVER = "int nvmlInit_v2(void) { return 0; }"
NO_DRIVER = "int nvmlInit_v2(void) { return 9; }  /* NVML_ERROR_DRIVER_NOT_LOADED */"

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")


def compiled(source: str, folder: Path, name: str) -> str:
    (folder / f"{name}.c").write_text(source)
    library = str(folder / f"{name}.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, str(folder / f"{name}.c")], check=True)
    return library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled(NVML, tmp_path_factory.mktemp("nvml"), "nvml")


def test_energy_is_counted_from_when_the_meter_was_opened(library: str) -> None:
    counter = open_gpu("GPU-bb", library)
    assert counter is not None
    assert [counter() for _ in range(3)] == pytest.approx([1.0, 2.0, 3.0])
    for uuid in ("GPU-aa", "GPU-cc", None):
        assert open_gpu(uuid, library) is None


@pytest.mark.parametrize(
    ("visible", "found"),
    [(None, [0, 1]), (["1"], [1]), (["GPU-a"], [0]), (["GPU-bb", "0"], [0, 1]), ([""], []), ([], [])],
)
def test_devices_are_found_by_number_or_uuid(library: str, visible: list[str] | None, found: list[int]) -> None:
    nvml = Nvml.open(library)
    assert nvml is not None
    assert list(nvml.handles(visible)) == found


def test_a_device_tells_what_it_can(library: str) -> None:
    nvml = Nvml.open(library)
    assert nvml is not None
    first, second = (nvml.read(handle) for handle in nvml.handles(None).values())
    assert first == GpuReading(71.0, 20e9, 80e9, None, 700.0)
    assert second == GpuReading(71.0, 20e9, 80e9, 350.0, 700.0)
    assert gpu_values(1, second) == {
        "gpu_1_utilization_percentage": 71.0,
        "gpu_1_memory_usage_megabytes": 20_000.0,
        "gpu_1_memory_usage_percentage": 25.0,
        "gpu_1_power_usage_watts": 350.0,
        "gpu_1_power_usage_percentage": 50.0,
    }
    assert {key for key in gpu_values(0, first) if "power" in key} == set()


def test_without_a_driver_or_with_an_old_one_nothing_is_told(tmp_path: Path) -> None:
    assert Nvml.open(str(tmp_path / "no.so")) is None
    assert Nvml.open(compiled(NO_DRIVER, tmp_path, "none")) is None
    assert Nvml.open(compiled("int other;", tmp_path, "other")) is None
    path = compiled(OLD_DRIVER, tmp_path, "old")
    old = Nvml.open(path)
    assert old is not None
    assert old.handles(None) == {}
    assert open_gpu("GPU-bb", path) is None
