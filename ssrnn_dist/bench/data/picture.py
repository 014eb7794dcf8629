"""A picture of tokens a second, each reader at its best beside ours. Imports matplotlib inside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = {"ssrnn": "#1f6feb", "mosaicml-streaming": "#8a94a3", "litdata": "#2a9d8f"}


def draw_readers(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Bars of millions of tokens a second and worker, cold pale, warm full; an SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    best = [row for row in rows if row["is_best"]]
    figure = Figure(figsize=(7.5, 0.7 + 0.55 * len(best)), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(best):
        for shift, temperature, alpha in ((0.19, "cold", 0.45), (-0.19, "warm", 1.0)):
            speed = row[f"{temperature}_tokens_per_second"] / 1e6
            axes.barh(-place + shift, speed, height=0.36, color=COLOURS[row["reader"]], alpha=alpha)
            axes.text(speed, -place + shift, f" {speed:.3g} {temperature}", va="center", fontsize=8)
    axes.set_yticks(
        [-place for place in range(len(best))],
        [f"{row['reader']}, {row['world_size']} worker{'s' if row['world_size'] > 1 else ''}" for row in best],
    )
    axes.margins(x=0.15)
    axes.set_xlabel("10⁶ tokens a second and worker")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "ssrnn"}):
        figure.savefig(path, metadata={"Date": None})
