"""Energy from meters: RAPL's counters in a made-up /sys. NVML's are in test_nvml.py."""

from pathlib import Path

import pytest
import torch

from ssrnn_dist.tracking.energy import EnergyMeter

RANGE = 262_143_328_850  # microjoules, as processors have it


class Sys:
    """A tree such as /sys/class/powercap."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def zone(self, number: str, name: str, microjoules: int) -> Path:
        zone = self.folder / f"intel-rapl:{number}"
        zone.mkdir(parents=True)
        (zone / "name").write_text(f"{name}\n")
        (zone / "max_energy_range_uj").write_text(f"{RANGE}\n")
        (zone / "energy_uj").write_text(f"{microjoules}\n")
        return zone / "energy_uj"


@pytest.fixture
def sys(tmp_path: Path) -> Sys:
    return Sys(tmp_path / "powercap")


def test_packages_are_added_up_and_shared_and_what_lies_in_or_around_them_is_not(sys: Sys) -> None:
    first, second = sys.zone("0", "package-0", 5_000_000), sys.zone("1", "package-1", 0)
    inside = [sys.zone("0:0", "core", 0), sys.zone("0:1", "dram", 0)]
    around = sys.zone("2", "psys", 0)
    meter = EnergyMeter.open(False, share=0.25, powercap=sys.folder)
    assert meter is not None
    assert meter.joules() == 0.0
    first.write_text("9000000\n")
    second.write_text("2000000\n")
    for other in (*inside, around):
        other.write_text("77000000\n")
    assert meter.joules() == pytest.approx((4 + 2) / 4)
    assert meter.joules() == pytest.approx((4 + 2) / 4)


def test_counters_begin_again(sys: Sys) -> None:
    counter = sys.zone("0", "package-0", RANGE - 3_000_000)
    meter = EnergyMeter.open(False, powercap=sys.folder)
    assert meter is not None
    for lap in range(1, 4):
        counter.write_text("2000000\n")
        assert meter.joules() == pytest.approx(5 + (lap - 1) * RANGE / 1e6, rel=1e-9)
        counter.write_text(f"{RANGE - 3_000_000}\n")
        meter.joules()


def test_what_cannot_be_read_is_not_estimated(sys: Sys, tmp_path: Path) -> None:
    assert EnergyMeter.open(False, powercap=tmp_path / "nothing") is None
    sys.zone("0", "package-0", 1)
    unreadable = sys.zone("1", "package-1", 1)
    unreadable.unlink()
    unreadable.mkdir()  # as root's own file is to others: it cannot be read, not even by root
    assert EnergyMeter.open(False, powercap=sys.folder) is None
    unreadable.rmdir()
    unreadable.write_text("not a number")
    assert EnergyMeter.open(False, powercap=sys.folder) is None


def test_a_counter_that_goes_away_keeps_what_it_counted(sys: Sys) -> None:
    counter = sys.zone("0", "package-0", 0)
    meter = EnergyMeter.open(False, powercap=sys.folder)
    assert meter is not None
    counter.write_text("3000000")
    assert meter.joules() == pytest.approx(3.0)
    counter.unlink()
    assert meter.joules() == pytest.approx(3.0)
    counter.write_text("4000000")
    assert meter.joules() == pytest.approx(4.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_has_no_meter_is_not_replaced_by_the_processors(sys: Sys) -> None:
    sys.zone("0", "package-0", 0)
    assert EnergyMeter.open(True, powercap=sys.folder) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_real_gpu_counts(sys: Sys) -> None:
    meter = EnergyMeter.open(True, powercap=sys.folder)
    if meter is None:
        pytest.skip("this GPU has no energy counter")
    a = torch.randn(4096, 4096, device="cuda")
    for _ in range(300):
        a = a @ a / 64
    torch.cuda.synchronize()
    assert meter.joules() > 0
