"""`ssrnn bench kernels|parallel|wavefront`: the kernels beside the ways that they replace; commands of bench.py."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.bench import SHAPES, app, known, parsed_shape
from ssrnn_launch.cli.options import DebugOption, JsonOption

if TYPE_CHECKING:
    from ssrnn_dist.bench.kernels import Ceilings

LENGTHS = [512, 1024, 2048, 4096, 8192]
TOLERANCES = [1e-2, 1e-3, 1e-4]


@app.command()
def kernels(
    cell: Annotated[list[str], typer.Option(help="A cell; may be repeated.")] = ["gru", "lstm"],  # noqa: B006
    shape: Annotated[list[str], typer.Option(help="Batch,time,width; may be repeated.")] = SHAPES,
    heads: Annotated[list[int], typer.Option(min=1, help="Heads; may be repeated.")] = [1],  # noqa: B006
    dtype: Annotated[list[str], typer.Option(help="float32, bfloat16 or float16; may be repeated.")] = ["float32"],  # noqa: B006
    device: Annotated[str, typer.Option(help="cpu or cuda; default: a GPU where there is one.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 5,
    flashrnn: Annotated[
        list[str] | None, typer.Option(help="On a GPU, beside the package flashrnn: cuda, cuda_fused or triton_fused.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw a roofline to this SVG file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the results to this JSON file, too.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Time every op by every backend here, and whole layers, beside the memory's and the matrix unit's own speed.

    An op that is wrong is not timed. The ratio is to torch's own backend, of a layer to torch.nn's BPTT.

    Example: ssrnn bench kernels --cell gru --shape 16,256,256 --picture roofline.svg
    """
    shapes = [parsed_shape(text) for text in shape]
    import torch

    from ssrnn_dist.bench.kernels import DTYPES, Case, ceilings, measure
    from ssrnn_dist.bench.machine import described_machine
    from ssrnn_dist.bench.published import BACKENDS, has_flashrnn
    from ssrnn_dist.bench.roofline import draw_roofline
    from ssrnn_dist.files import write_json_atomic
    from ssrnn_dist.problems import user_error
    from ssrnn_kernels.cells import CELLS

    known("--cell", cell, CELLS)
    known("--dtype", dtype, DTYPES)
    here = _device_from(device)
    if flashrnn:
        if here != "cuda" or not has_flashrnn():
            raise user_error(
                "--flashrnn", flashrnn[0], "it wants a GPU and the package flashrnn, one of which is not here"
            )
        known("--flashrnn", flashrnn, BACKENDS)
    torch.set_num_threads(threads)
    roofs = {each: ceilings(here, each) for each in dtype}
    rows: list[dict[str, Any]] = []
    results = {
        "what": "ssrnn bench kernels", **described_machine(), **_described_device(here), "repeats": repeats,
        "ceilings": {name: vars(each) for name, each in roofs.items()}, "rows": rows,
    }  # fmt: skip
    for case in (
        Case(one_cell, *one_shape, one_heads, one_dtype, here)
        for one_dtype in dtype
        for one_cell in cell
        for one_heads in heads
        for one_shape in shapes
    ):
        if case.d % case.n_heads:
            raise user_error("--heads", f"{case.n_heads}", f"what divides the width {case.d} without a rest is allowed")
        output.note(f"{case.cell}, B {case.n_batch}, T {case.n_steps}, d {case.d}, heads {case.n_heads}, {case.dtype}")
        mine = [{**vars(case), **vars(timing)} for timing in measure(case, repeats, flashrnn or ())]
        rows += mine
        if out is not None:  # after every case, so that a run that is ended loses one at most
            write_json_atomic(out, results)
        if not output.as_json():
            output.table(
                ["op", "by", "ms", "×", "GB/s", "of copy", "GFLOP/s", "of products"],
                [_kernel_row(row, roofs[case.dtype]) for row in mine],
            )
    if picture is not None:
        draw_roofline([row for row in rows if row["dtype"] == dtype[0]], roofs[dtype[0]], picture)
    if output.as_json():
        output.emit_json(results)


def _kernel_row(row: "dict[str, Any]", roof: "Ceilings") -> list[str]:
    told = [row["op"], row["backend"], f"{1000 * row['seconds']:.2f}", f"{row['ratio']:.2f}"]
    if row["bytes_per_second"] is None:
        return [*told, "", "", "", ""]
    moved, made = row["bytes_per_second"], row["flops_per_second"]
    of_copy, of_products = moved / roof.copy_bytes_per_second, made / roof.matrix_flops_per_second
    return [*told, f"{moved / 1e9:.1f}", f"{of_copy:.0%}", f"{made / 1e9:.1f}", f"{of_products:.0%}"]


def _device_from(given: str) -> str:
    """The one that was named, or a GPU where there is one."""
    import torch

    there = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    known("--device", [given or there[0]], sorted(there))
    return given or there[0]


def _described_device(device: str) -> dict[str, Any]:
    from ssrnn_dist.bench.on_a_gpu import described_gpu
    from ssrnn_dist.tracking.facts import cpu_model

    return described_gpu() if device == "cuda" else {"device": cpu_model() or "a CPU"}


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
    from ssrnn_dist.problems import user_error

    if not all(each > 0 for each in tolerance):
        raise user_error("--tolerance", f"{min(tolerance):g}", "more than 0 is allowed")
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


@app.command()
def wavefront(
    cell: Annotated[str, typer.Option(help="A cell.")] = "gru",
    shape: Annotated[list[str], typer.Option(help="Batch,time,width; may be repeated.")] = ["16,256,256", "8,256,512"],  # noqa: B006
    layers: Annotated[int, typer.Option(min=1, help="Blocks of the model.")] = 6,
    heads: Annotated[int, typer.Option(min=1, help="Heads.")] = 1,
    chunks: Annotated[list[int], typer.Option(min=2, help="Chunks of time; may be repeated.")] = [2, 4, 8, 16],  # noqa: B006
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda; default: a GPU where there is one.")] = "",
    threads: Annotated[int, typer.Option(min=2, help="CPU threads.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Write the results to this JSON file, too.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run a model's blocks over chunks of time in waves, beside one block after another.

    On a CPU a core each; on a GPU a stream each, and all of it in CUDA graphs. Forward and backward, selective with
    one sweep. Waves that are not the blocks' own numbers are not timed.

    Example: ssrnn bench wavefront --shape 8,256,512 --layers 6

    Example: ssrnn bench wavefront --device cuda --dtype bfloat16 --shape 16,1024,768 --heads 12
    """
    shapes = [parsed_shape(text) for text in shape]
    import torch

    from ssrnn_dist.bench.machine import described_machine
    from ssrnn_dist.bench.waves import DTYPES, Case, measure
    from ssrnn_dist.config.model import ModelConfig
    from ssrnn_dist.files import write_json_atomic
    from ssrnn_dist.problems import user_error
    from ssrnn_kernels.cells import CELLS

    known("--cell", [cell], CELLS)
    known("--dtype", [dtype], list(DTYPES))
    here = _device_from(device)
    torch.set_num_threads(threads)
    rows: list[dict[str, Any]] = []
    results = {
        "what": "ssrnn bench wavefront", **described_machine(), **_described_device(here), "repeats": repeats,
        "rows": rows,
    }  # fmt: skip
    for n_batch, n_steps, d in shapes:
        if d % heads:
            raise user_error("--heads", f"{heads}", f"what divides the width {d} without a rest is allowed")
        output.note(f"{cell}, {layers} layers, B {n_batch}, T {n_steps}, d {d}, heads {heads}, {dtype}, {here}")
        config = ModelConfig(vocab_size=256, d_model=d, n_layers=layers, cell=cell, n_heads=heads)
        about: dict[str, Any] = {
            "cell": cell,
            "n_layers": layers,
            "n_batch": n_batch,
            "n_steps": n_steps,
            "d": d,
            "n_heads": heads,
            "dtype": dtype,
        }
        case = Case(n_batch, n_steps, here, dtype)
        mine = [about | vars(timing) for timing in measure(config, case, chunks, repeats)]
        rows += mine
        if out is not None:
            write_json_atomic(out, results)
        if not output.as_json():
            output.table(
                ["chunks", "forward ms", "×", "forward and backward ms", "×"],
                [
                    [
                        f"{row['n_chunks']}{', a graph' * row['graph']}",
                        f"{1000 * row['forward_seconds']:.3g}", f"{row['forward_ratio']:.2f}",
                        f"{1000 * row['seconds']:.3g}", f"{row['ratio']:.2f}",
                    ]
                    for row in mine
                ],
            )  # fmt: skip
    if output.as_json():
        output.emit_json(results)
