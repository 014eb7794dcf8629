"""What a mixture would read, before it is trained on: shares, epochs and errors as numbers, and as a picture.

Reads indexes only. matplotlib is imported when the picture is drawn.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ssrnn_data.lanes import check_counts
from ssrnn_data.mixture.shares import Shares, allocate, error_bound
from ssrnn_data.mixture.sources import MixtureSource, OpenedSource, open_sources

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COUNTED_WINDOWS = 10_000_000  # some seconds' work; of a longer run the beginning
_BLOCK_WINDOWS = 1 << 16
_CURVE_POINTS = 201
_EPOCHS_LISTED = 16
# Okabe and Ito's colours, which colour-blind readers tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_INK, _RULE = "#1d2733", "#e3e7ec"


def preview_mixture(
    sources: Sequence[MixtureSource], *, split: str = "train", lanes: int, sequence_length: int, tokens: int
) -> dict[str, Any]:
    """A JSON-able account of a run of so many tokens, rounded up to whole steps.

    sources: one row each, with corpus_tokens (its split's), tokens read, share_wanted and share_got of all tokens,
    epochs, epoch_ends_at_steps (of the first 16: the step with which it has read as much as its epochs hold, to within
    one step), and its mean number of lanes at_first, in_the_middle and at_last. largest_error_windows: how far any
    source ever is from its share, at any window of the first windows_counted; error_bound_windows: at any at all.
    handovers_per_step: lanes that change their source. curve: tokens_seen, and by name shares and epochs.

    Raises DataError as MixtureStream does.
    """
    check_counts(lanes=lanes, tokens=tokens)
    opened = open_sources(sources, split, sequence_length)
    shares = Shares.of([source.weight for source in opened], sequence_length)
    steps = -(-tokens // (lanes * sequence_length))
    windows = steps * lanes
    wanted_S = shares.targets(np.array([windows]))[:, 0]
    counted, given_S, error, handovers = _count(shares, windows, lanes)
    got_S = given_S if counted == windows else np.round(wanted_S)
    lanes_S3 = shares.at(np.array([0, windows / 2, windows])) * lanes
    rows = [
        {
            "name": source.name,
            "corpus_tokens": source.split.tokens,
            "tokens": int(got) * sequence_length,
            "share_wanted": float(wanted) / windows,
            "share_got": float(got) / windows,
            "epochs": float(got) / source.epoch_windows,
            "epoch_ends_at_steps": _epoch_ends(shares, place, source, windows, lanes),
            "lanes": dict(zip(("at_first", "in_the_middle", "at_last"), lanes_S3[place].tolist(), strict=True)),
        }
        for place, (source, wanted, got) in enumerate(zip(opened, wanted_S, got_S, strict=True))
    ]
    return {
        "steps": steps,
        "tokens": windows * sequence_length,
        "windows": windows,
        "windows_counted": counted,
        "largest_error_windows": error,
        "error_bound_windows": error_bound(len(opened)),
        "handovers_per_step": handovers,
        "sources": rows,
        "curve": _curve(shares, opened, windows, sequence_length),
    }


def _count(shares: Shares, windows: int, lanes: int) -> tuple[int, np.ndarray, float, float]:
    """Divides windows as training does: how many, windows by source, the largest error, lanes that move a step."""
    block = max(1, _BLOCK_WINDOWS // lanes) * lanes
    most = min(windows, max(1, COUNTED_WINDOWS // lanes) * lanes)
    given_S, error, moved = np.zeros(shares.sources, np.int64), 0.0, 0
    last_S1 = np.empty((shares.sources, 0), np.int64)
    for at in range(0, most, block):
        count = min(block, most - at)
        is_given_SN = allocate(shares, 0, given_S, at, count) == np.arange(shares.sources)[:, None]
        given_SN = given_S[:, None] + is_given_SN.cumsum(axis=1)
        error = max(error, float(np.abs(given_SN - shares.targets(np.arange(at + 1, at + count + 1))).max()))
        by_step = np.hstack([last_S1, is_given_SN.reshape(shares.sources, -1, lanes).sum(axis=2)])
        moved += int(np.abs(np.diff(by_step)).sum()) // 2
        given_S, last_S1 = given_SN[:, -1], by_step[:, -1:]
    return most, given_S, error, moved / max(1, most // lanes - 1)


def _epoch_ends(shares: Shares, place: int, source: OpenedSource, windows: int, lanes: int) -> list[int]:
    ends_N = shares.when(place, source.epoch_windows * np.arange(1, _EPOCHS_LISTED + 1))
    return [math.ceil(end / lanes) for end in ends_N.tolist() if end <= windows]


def _curve(shares: Shares, opened: Sequence[OpenedSource], windows: int, sequence_length: int) -> dict[str, Any]:
    windows_N = np.linspace(0, windows, _CURVE_POINTS)
    share_SN, target_SN = shares.at(windows_N), shares.targets(windows_N)
    return {
        "tokens_seen": (windows_N * sequence_length).tolist(),
        "shares": {source.name: share_SN[place].tolist() for place, source in enumerate(opened)},
        "epochs": {
            source.name: (target_SN[place] / source.epoch_windows).tolist() for place, source in enumerate(opened)
        },
    }


def draw_mixture(preview: dict[str, Any]) -> "Figure":
    """A preview's curve: above the shares, one on the other, below the epochs of each source; over tokens seen."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, PercentFormatter

    curve = preview["curve"]
    tokens, names = curve["tokens_seen"], list(curve["shares"])
    colours = [_COLOURS[place % len(_COLOURS)] for place in range(len(names))]
    figure = Figure(figsize=(7.2, 5.2), facecolor="white", layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.stackplot(tokens, *curve["shares"].values(), labels=names, colors=colours, alpha=0.85, linewidth=0)
    above.set_ylim(0, 1)
    above.yaxis.set_major_formatter(PercentFormatter(1))
    for name, colour in zip(names, colours, strict=True):
        below.plot(tokens, curve["epochs"][name], color=colour, linewidth=1.6)
    below.set_ylim(bottom=0)
    below.set_xlim(0, tokens[-1])
    below.xaxis.set_major_formatter(EngFormatter(sep=""))
    below.set_xlabel("tokens seen", color=_INK)
    _style(above, "share of the tokens")
    _style(below, "epochs")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9, reverse=True)
    return figure


def _style(axes: "Axes", title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.grid(axis="y", color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
