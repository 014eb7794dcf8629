"""What Ray, DeepSpeed, MLflow and the ledger add to a plain loop's step, and what a second worker brings.

Imports what measures; the numbers are made in comparing.py. All loops take turns, round by round."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ssrnn_launch.bench import comparing, workshop
from ssrnn_launch.bench.comparing import Timed
from ssrnn_launch.bench.workshop import Workshop

TARGET_SECONDS = 0.2
MOST_OVERHEAD, LEAST_SPEEDUP, SPEEDUP_RESOLUTION = 0.03, 1.8, 0.2
PLAIN, ALONE, WHOLE = "plain loop", "DeepSpeed, books, MLflow", "ssrnn train (Ray, 1 worker)"
TWO, APART = "ssrnn train (Ray, 2 workers)", "two plain loops, half of the batch each, that send nothing"


def rows_of(rounds: Sequence[Mapping[str, Timed]]) -> list[dict[str, Any]]:
    """A row a loop: median seconds a step, and the ratio to the first loop's, round by round. LaunchFailed: unequal."""
    for number, found in enumerate(rounds, 1):
        comparing.check_equal(f"round {number}", {name: each.losses for name, each in found.items() if each.losses})
    first = next(iter(rounds[0]))
    rows = []
    for name in rounds[0]:
        seconds = [found[name].step_seconds for found in rounds]
        ratio = comparing.ratio_of(seconds, [found[first].step_seconds for found in rounds])
        inside = [found[name].inside_seconds for found in rounds]
        rows.append(
            {
                "loop": name,
                "step_seconds": statistics.median(seconds),
                "inside_seconds": None if None in inside else statistics.median(filter(None, inside)),
                "core_seconds": statistics.median(found[name].core_seconds for found in rounds),
                "ratio": asdict(ratio),
                "rounds": [{"windows": each.windows, "losses": each.losses} for each in (r[name] for r in rounds)],
            }
        )
    return rows


def measure_overhead(
    shop: Workshop, threads: int, width: int, steps: int, rounds: int, told: Callable[[str], None]
) -> dict[str, Any]:
    """The plain loop, the loop alone, and the whole command: the same model, batches, threads and steps."""

    def one(number: int) -> dict[str, Timed]:
        told(f"overhead, {threads} threads, round {number + 1} of {rounds}")
        named = {kind: f"overhead-{threads}-{kind}-{number}" for kind in ("plain", "alone", "train")}
        values = {k: shop.values(name, width=width, steps=steps, threads=threads) for k, name in named.items()}
        return {
            PLAIN: workshop.plain(shop, values["plain"], threads),
            ALONE: workshop.timed(workshop.train(shop, "alone", values["alone"], threads)),
            WHOLE: workshop.timed(workshop.train(shop, "train", values["train"], threads)),
        }

    rows = rows_of([one(number) for number in range(rounds)])
    ratio = comparing.Ratio(**rows[-1]["ratio"])
    overhead = ratio.median - 1
    met = comparing.judged(ratio, overhead <= MOST_OVERHEAD, 2 * MOST_OVERHEAD)
    return {
        "threads": threads, "d_model": width, "n_layers": workshop.N_LAYERS, "vocab_size": workshop.VOCAB_SIZE,
        "tokens_per_batch": workshop.TOKENS_PER_BATCH, "steps": steps, "rows": rows,
        "overhead": overhead, "goal": MOST_OVERHEAD, "met": met,
    }  # fmt: skip


def measure_scaling(shop: Workshop, width: int, steps: int, rounds: int, told: Callable[[str], None]) -> dict[str, Any]:
    """One worker and two, a thread each, the same global batch; beside them what the cores could do at best."""

    def one(number: int) -> dict[str, Timed]:
        told(f"two workers, round {number + 1} of {rounds}")

        def values(kind: str, workers: int = 1) -> dict[str, Any]:
            return shop.values(f"scaling-{kind}-{number}", width=width, steps=steps, workers=workers)

        apart = workshop.plain(shop, values("apart"), threads=1, processes=2)
        return {
            PLAIN: workshop.plain(shop, values("plain"), threads=1),
            WHOLE: workshop.timed(workshop.train(shop, "train", values("one"), threads=1)),
            TWO: workshop.timed(workshop.train(shop, "train", values("two", workers=2), threads=1)),
            APART: replace(apart, losses=()),  # they learn something else: each from its own half
        }

    found = [one(number) for number in range(rounds)]
    rows = rows_of(found)
    speedup = comparing.ratio_of(
        [each[WHOLE].step_seconds for each in found], [each[TWO].step_seconds for each in found]
    )
    bound = comparing.ratio_of(
        [each[PLAIN].step_seconds for each in found], [each[APART].step_seconds for each in found]
    )
    met = comparing.judged(speedup, speedup.median >= LEAST_SPEEDUP, SPEEDUP_RESOLUTION)
    return {
        "threads_each": 1, "d_model": width, "steps": steps, "rows": rows, "speedup": asdict(speedup),
        "possible_speedup": asdict(bound), "goal": LEAST_SPEEDUP, "met": met,
    }  # fmt: skip
