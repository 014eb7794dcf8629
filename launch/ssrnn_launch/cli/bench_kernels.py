"""`ssrnn bench parallel`: what the kernels do beside the ways that they replace. Adds to bench.py's commands."""

from pathlib import Path
from typing import Annotated

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.bench import app
from ssrnn_launch.cli.options import DebugOption, JsonOption

LENGTHS = [512, 1024, 2048, 4096, 8192]
TOLERANCES = [1e-2, 1e-3, 1e-4]


@app.command()
def parallel(
    checkpoint: Annotated[Path, typer.Argument(help="A run's folder, or one of its checkpoints.")],
    text: Annotated[Path, typer.Argument(help="A text file with tokens for the longest length.")],
    length: Annotated[list[int], typer.Option(min=1, help="Tokens; may be repeated.")] = LENGTHS,
    tolerance: Annotated[list[float], typer.Option(min=0, help="Of the residual; may be repeated.")] = TOLERANCES,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Write the results to this JSON file, too.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Solve a trained model's forward for all steps at once, and step by step, and compare: sweeps, error, time.

    Batch 1. Ratios above 1 are faster than step by step.

    Example: ssrnn bench parallel runs/quickstart README.md --length 512
    """
    import torch

    from ssrnn_dist.bench.machine import described_machine
    from ssrnn_dist.bench.parallel import measure
    from ssrnn_dist.files import write_json_atomic

    torch.set_num_threads(threads)
    found = []
    for each in measure(checkpoint, text, length, tolerance):
        found.append(each)
        went = "sweeps" if each.converged else "sweeps, not converged"
        output.note(f"T {each.n_steps:,}, layer {each.layer}, to {each.tolerance:g}: {each.sweeps} {went}")
    results = {"what": "ssrnn bench parallel", **described_machine(), "rows": [vars(each) for each in found]}
    if out is not None:
        write_json_atomic(out, results)
    if output.as_json():
        output.emit_json(results)
        return
    output.table(
        ["T", "layer", "tolerance", "sweeps", "error", "seconds", "× step by step"],
        [
            [
                f"{each.n_steps:,}",
                str(each.layer),
                f"{each.tolerance:g}",
                f"{each.sweeps}" if each.converged else f"over {each.sweeps}",
                f"{each.error:.1e}",
                f"{each.seconds:.3f}",
                f"{each.sequential_seconds / each.seconds:.2f}",
            ]
            for each in found
        ],
    )
