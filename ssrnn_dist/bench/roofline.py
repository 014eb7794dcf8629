"""A picture of where each kernel stands under the machine's ceilings, and what bounds it. Imports matplotlib inside."""

from pathlib import Path
from typing import Any

from ssrnn_dist.bench.kernels import Ceilings

COLOURS = {"torch": "#8a94a3", "compiled": "#1f6feb", "triton": "#d1495b"}


def draw_roofline(rows: list[dict[str, Any]], ceilings: Ceilings, path: Path) -> None:
    """Operations a second over operations a byte moved, both on logarithmic axes; an SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    placed = [row for row in rows if row["flops_per_byte"]]
    markers = dict(zip(dict.fromkeys(row["op"] for row in placed), "ovs^DP", strict=False))
    figure = Figure(figsize=(8.5, 5.2), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    least, most = (pick(row["flops_per_byte"] for row in placed) for pick in (min, max))
    ridge = ceilings.matrix_flops_per_second / ceilings.copy_bytes_per_second
    span = [least / 3, ridge, max(most, ridge) * 3]
    roof = [min(x * ceilings.copy_bytes_per_second, ceilings.matrix_flops_per_second) / 1e9 for x in span]
    axes.plot(span, roof, color="#1d2733", linewidth=1.2)
    for row in placed:
        place = row["flops_per_byte"], row["flops_per_second"] / 1e9
        axes.scatter(*place, s=34, alpha=0.85, color=_colour(row["backend"]), marker=markers[row["op"]], zorder=3)
    for backend in dict.fromkeys(row["backend"] for row in placed):
        axes.scatter([], [], color=_colour(backend), marker="s", label=backend)
    for op, marker in markers.items():
        axes.scatter([], [], color="none", edgecolor="#1d2733", marker=marker, label=op)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations a byte moved")
    axes.set_ylabel("10⁹ operations a second")
    axes.set_title(
        f"under the roof: memory {ceilings.copy_bytes_per_second / 1e9:,.0f} GB/s, "
        f"products {ceilings.matrix_flops_per_second / 1e9:,.0f} GFLOP/s",
        fontsize=10, loc="left",
    )  # fmt: skip
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "ssrnn"}):
        figure.savefig(path, metadata={"Date": None})


def _colour(backend: str) -> str:
    return COLOURS.get(backend, "#2a9d8f")
