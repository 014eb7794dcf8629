"""`ssrnn bench data`: reading and building of corpora beside the peers that are installed; a command of bench.py."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.bench import app, known
from ssrnn_launch.cli.options import DebugOption, JsonOption

NO_PARTS: list[str] = []


@app.command()
def data(
    corpus: Annotated[
        Path | None, typer.Option(help="A corpus that stands; default: one of Python's own source is built.")
    ] = None,
    only: Annotated[list[str], typer.Option(help="reading, building, resume or dealing; may be repeated.")] = NO_PARTS,
    python: Annotated[
        list[str], typer.Option(metavar="NAME=PATH", help="The Python that has a peer; may be repeated.")
    ] = NO_PARTS,
    lanes: Annotated[int, typer.Option(min=1, help="Rows of a batch, of all workers together.")] = 32,
    sequence_length: Annotated[int, typer.Option(min=1, help="Tokens of a row.")] = 256,
    workers: Annotated[list[int], typer.Option(min=1, help="Ranks that read; may be repeated.")] = [1, 2],  # noqa: B006
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small corpus, one round, one worker: a first look.")
    ] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw the readers to this SVG file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the results to this JSON file, too.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Time reading, building, resuming and dealing beside MosaicML Streaming, litdata and Hugging Face datasets.

    One corpus, fresh processes in turn. Nothing is told where one result is wrong. Ratios above 1: ours is faster.

    Example: ssrnn bench data --python mosaicml-streaming=streaming-venv/bin/python --out benchmarks/results/data.json
    """
    import tempfile

    from ssrnn_dist.bench.data.measure import PARTS, Plan, described, measure
    from ssrnn_dist.bench.data.peers import installed, pythons_of
    from ssrnn_dist.bench.data.picture import draw_readers
    from ssrnn_dist.bench.machine import described_machine
    from ssrnn_dist.files import write_json_atomic
    from ssrnn_launch.machine import available_cores

    known("--only", only, PARTS)
    peers, left_out = installed(pythons_of(python))
    for line in left_out:
        output.note(line)
    cores = available_cores()
    plan = Plan(
        parts=tuple(part for part in PARTS if not only or part in only),
        lanes=lanes,
        sequence_length=sequence_length,
        workers=(1,) if quick else tuple(workers),
        loader_processes=(0,) if quick else (0, 1, 2),
        map_processes=(0,) if quick else (0, cores),
        rounds=1 if quick else repeats,
        warm_seconds=0.5 if quick else 1.0,
    )
    with tempfile.TemporaryDirectory(prefix="ssrnn-bench-data-") as work:
        found = measure(plan, corpus, peers, Path(work), output.note, quick=quick)
    results = {
        "what": "ssrnn bench data", **described_machine(), "cores": cores, **described(plan, peers),
        "left_out": left_out, **found,
    }  # fmt: skip
    if out is not None:
        write_json_atomic(out, results)
    if picture is not None and "reading" in found:
        draw_readers(found["reading"], picture)
    if output.as_json():
        output.emit_json(results)
        return
    _show(found)


def _show(found: dict[str, Any]) -> None:
    if "reading" in found:
        output.table(
            [
                "reader",
                "workers",
                "loaders",
                "cold M tokens/s",
                "×",
                "warm M tokens/s",
                "least-most",
                "×",
                "first batch s",
            ],
            [_reading_row(row) for row in found["reading"]],
        )
    if "building" in found:
        output.table(
            ["builder", "processes", "seconds", "×", "with loading", "×"],
            [_building_row(row) for row in found["building"]],
        )
    if "resume" in found:
        each = found["resume"]
        output.say(
            f"resumed after {each['tokens_seen']:,} tokens ({each['shards']:,} shards): "
            f"{each['cold_seconds']:.2f} s cold, {each['warm_seconds']:.2f} s warm, to the first batch"
        )
    if "dealing" in found:
        each = found["dealing"]
        output.say(
            f"dealt {each['shards']:,} shards to {each['workers']:,} workers: "
            f"{each['seconds']:.1f} s, peak {each['peak_bytes'] / 1e6:,.0f} MB"
        )


def _reading_row(row: dict[str, Any]) -> list[str]:
    best = "*" if row["is_best"] else ""
    return [
        row["reader"] + best,
        str(row["world_size"]),
        str(row["loader_processes"]),
        f"{row['cold_tokens_per_second'] / 1e6:.2f}",
        f"{row['cold_ratio']:.2f}",
        f"{row['warm_tokens_per_second'] / 1e6:.2f}",
        f"{row['warm_least'] / 1e6:.2f}-{row['warm_most'] / 1e6:.2f}",
        f"{row['warm_ratio']:.2f}",
        f"{row['first_batch_seconds']:.3f}",
    ]


def _building_row(row: dict[str, Any]) -> list[str]:
    return [
        row["builder"],
        str(row["loader_processes"]),
        f"{row['seconds']:.2f}",
        f"{row['ratio']:.2f}",
        f"{row['seconds_with_loading']:.2f}",
        f"{row['ratio_with_loading']:.2f}",
    ]
