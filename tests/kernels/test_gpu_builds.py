"""Every Triton kernel compiled ahead of time for each architecture: no spills, and kernels/RESOURCES.md is true."""

from functools import cache
from pathlib import Path

import pytest
import triton

from ssrnn_kernels.fused_feedback.triton import MOST_REGISTERS
from ssrnn_kernels.gpu.ahead_of_time import SHARED_BYTES, TARGETS, Build, usage_of
from ssrnn_kernels.gpu.builds import all_builds, cell, scan_build, serves
from ssrnn_kernels.gpu.triton import INTERPRETED

RESOURCES = Path(__file__).resolve().parents[2] / "kernels/RESOURCES.md"
pytestmark = pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET=1: nothing is compiled")


MOST_SPILLED_WHEN_SPREAD = 256  # bytes a thread: the LSTM's weights and values fill its registers; still the fastest


def is_soon(build: Build, arch: str) -> bool:
    """Of each op what matters most; the rest is `make test-long`."""
    if build.op == "feedback_scan":
        return build.dtype == "fp32, fp32" if "sums" in build.what else build.dtype in ("fp32, fp32", "bf16, fp32")
    if build.op == "fused_feedback":
        return (arch, build.dtype) == ("sm_90", "fp32") or (arch, build.what) == ("gfx942", "lstm, selective, last")
    if "spread" in build.what:
        return arch == "sm_90" and build.what.startswith(("gru, 768", "lstm, 1024"))
    return (arch, build.head_size) in (("sm_90", 128), ("gfx942", 32))


BUILDS = [
    pytest.param(build, arch, marks=[] if is_soon(build, arch) else pytest.mark.long, id=f"{build.name}, {arch}")
    for build in all_builds()
    for arch in TARGETS
    if serves(build, arch)
]


@cache
def committed() -> dict[tuple[str, str], str]:
    """The table's cells, by build and architecture."""
    rows = [line.strip("| ").split(" | ") for line in RESOURCES.read_text().splitlines() if line.startswith("| ")]
    return {(", ".join(row[:3]), arch): row[3 + place] for row in rows[1:] for place, arch in enumerate(TARGETS)}


@pytest.mark.parametrize(("build", "arch"), BUILDS)
def test_compiles_without_spills_into_what_the_table_says(build: Build, arch: str) -> None:
    compiled = build.compiled(arch)
    usage = usage_of(compiled)
    assert usage.spilled_bytes <= (MOST_SPILLED_WHEN_SPREAD if "spread" in build.what else 0)
    assert usage.shared_bytes <= SHARED_BYTES[arch]
    if f"Triton {triton.__version__}," in RESOURCES.read_text():
        assert committed()[build.name, arch] == cell(usage)
    if arch == "gfx942":
        return
    if build.op == "fused_feedback":
        assert 0 < usage.registers <= MOST_REGISTERS
    if build.op in ("feedback_scan", "fused_feedback"):
        assert "cp.async" in compiled.asm["ptx"], "the loads are not fetched ahead"
    else:
        assert ("mma" in compiled.asm["ptx"]) == (build.dtype == "bf16"), "products of bf16 are the matrix units' work"


def test_the_table_has_a_row_for_every_build() -> None:
    assert {name for name, _ in committed()} == {build.name for build in all_builds()}


@pytest.mark.parametrize("coupled", [False, True])
def test_the_scan_compiles_without_resets_and_without_a_future(coupled: bool) -> None:
    build = scan_build(("fp32", "fp32"), coupled, varies=True, options=False)
    assert usage_of(build.compiled("sm_90")).spilled_bytes == 0
