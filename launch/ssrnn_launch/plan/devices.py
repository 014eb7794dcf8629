"""What data sheets say of GPUs, for plans where none is at hand. Peaks, which no program reaches; dense, no sparsity.

Held against what others quote of these sheets on 2026-11-27 (docs/plan.md); nothing here was measured by us."""

from dataclasses import dataclass

from ssrnn_dist.problems import user_error

SHEETS_OF = "2026-11-27"


@dataclass(frozen=True)
class Gpu:
    """One GPU. node_gigabits: a GPU's share of the network of the maker's own 8-GPU machine; None: it has none."""

    name: str
    bf16_tflops: float
    fp32_tflops: float  # of the ordinary units: torch's products in float32 do not use TF32 unless told to
    memory_gb: float
    memory_gb_per_second: float
    peer_gb_per_second: float  # one direction, to the other GPUs of the node
    over_nvlink: bool
    node_gigabits: float | None
    watts: float
    source: str


GPUS = (
    Gpu("A100-40G", 312, 19.5, 40, 1555, 300, True, 200, 400, "NVIDIA A100 data sheet, SXM; DGX A100 data sheet"),
    Gpu("A100-80G", 312, 19.5, 80, 2039, 300, True, 200, 400, "NVIDIA A100 data sheet, SXM; DGX A100 data sheet"),
    Gpu("H100", 989, 67, 80, 3350, 450, True, 400, 700, "NVIDIA H100 data sheet, SXM; DGX H100/H200 user guide"),
    Gpu("H200", 989, 67, 141, 4800, 450, True, 400, 700, "NVIDIA H200 data sheet, SXM; DGX H100/H200 user guide"),
    # 180 GB at 1,000 W. NVIDIA's first brief of Blackwell has 80 TFLOP/s and 8,000 GB/s; the smaller ones are taken.
    Gpu("B200", 2250, 75, 180, 7700, 900, True, 400, 1000, "NVIDIA HGX B200 data sheet; DGX B200 user guide"),
    Gpu("A10", 125, 31.2, 24, 600, 32, False, None, 150, "NVIDIA A10 data sheet"),
    Gpu("L4", 121, 30.3, 24, 300, 32, False, None, 72, "NVIDIA L4 data sheet"),
    Gpu("L40S", 362, 91.6, 48, 864, 32, False, None, 350, "NVIDIA L40S data sheet"),
    # Seven links to the others, of 128 GB/s in both directions together. AMD's own board brings no network.
    Gpu("MI300X", 1307, 163.4, 192, 5300, 448, False, None, 750, "AMD Instinct MI300X data sheet"),
)
OTHER_NAMES = {"A100": "A100-40G", "AMD-Instinct-MI300X-OAM": "MI300X", "AMD-INSTINCT-MI300X-OAM": "MI300X"}


def gpu_named(name: str, where: str = "--device") -> Gpu:
    """By Ray's name for it, or the table's; UserError names those that there are."""
    wanted = OTHER_NAMES.get(name, name).upper()
    for gpu in GPUS:
        if gpu.name == wanted:
            return gpu
    known = ", ".join(gpu.name for gpu in GPUS)
    raise user_error(where, f"{name!r}, of which no data sheet is written down", f"one of {known} is allowed")
