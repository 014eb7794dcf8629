"""`ssrnn bench train|quality|memory|generate`: how fast the rules are, how well they learn, what their models write."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.options import DebugOption, JsonOption, SetOption, overrides

if TYPE_CHECKING:
    from ssrnn_dist.bench.layer import Timing

app = typer.Typer(no_args_is_help=True, help="Measure, side by side.\n\nExample: ssrnn bench train --cell gru")
FolderOption = Annotated[Path | None, typer.Option(help="The results' folder.")]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Trainings at once, a core each; default: the cores.")]
MostOption = Annotated[int | None, typer.Option(min=0, help="Trainings at most; 0 only draws what stands.")]
Result = dict[str, Any]
CONTEXTS = [1, 1000, 100_000]
SHAPES = ["16,256,256", "8,512,512", "4,1024,1024"]


@app.command()
def train(
    cell: Annotated[list[str], typer.Option(help="A cell that torch.nn has, too; may be repeated.")] = ["gru"],  # noqa: B006
    shape: Annotated[list[str], typer.Option(help="Batch,time,width; may be repeated.")] = SHAPES,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Write the results to this JSON file, too.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Time forward + backward of one layer by each rule against torch.nn's BPTT, in turn in one run.

    A rule whose gradient is wrong is not timed. Ratios above 1 are faster than torch.nn.

    Example: ssrnn bench train --cell gru --cell lstm --shape 16,256,256 --out benchmarks/results/layer.json
    """
    shapes = [parsed_shape(text) for text in shape]
    import torch

    from ssrnn_dist.bench.layer import as_row, cases, measure
    from ssrnn_dist.bench.machine import described_machine
    from ssrnn_dist.files import write_json_atomic
    from ssrnn_dist.model import RecurrentLayer

    known("--cell", cell, RecurrentLayer.TORCH_CLASSES)
    torch.set_num_threads(threads)
    rows: list[dict[str, object]] = []
    results = {"what": "ssrnn bench train", **described_machine(), "repeats": repeats, "rows": rows}
    for case in cases(cell, shapes):
        output.note(f"measuring {case.cell} at B {case.n_batch}, T {case.n_steps}, d {case.d}")
        timings = measure(case, repeats)
        rows += [as_row(case, timing) for timing in timings]
        if not output.as_json():
            _show(f"{case.cell}  B {case.n_batch}  T {case.n_steps}  d {case.d}", timings)
    if out is not None:
        write_json_atomic(out, results)
    if output.as_json():
        output.emit_json(results)


@app.command()
def quality(
    recipe: Annotated[Path, typer.Argument(help="The study's YAML file, such as benchmarks/quality/stdlib.yaml.")],
    out: FolderOption = None,
    network: Annotated[list[str], typer.Option(help="Only these: a cell, or transformer; may be repeated.")] = [],  # noqa: B006
    jobs: JobsOption = None,
    most: MostOption = None,
    set_values: SetOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train every cell by every rule, and a Transformer, and compare: a JSON a training, a table and pictures.

    What stands is not trained again: interrupt it and send it again as you like.

    Example: ssrnn bench quality benchmarks/quality/stdlib.yaml --network gru
    """
    from ssrnn_dist.bench.quality.page import write_page
    from ssrnn_dist.bench.quality.recipe import load_recipe, rows
    from ssrnn_dist.bench.quality.run import run_study
    from ssrnn_launch.corpus import ensure_corpus
    from ssrnn_launch.machine import available_cores

    study = load_recipe(recipe, overrides(set_values))
    known("--network", network, [row.network for row in rows(study)])
    ensure_corpus(study.data)
    folder = out or Path("benchmarks/results") / f"quality-{study.name}"
    wanted = [row for row in rows(study) if not network or row.network in network]
    with _trainings(folder, _quality_line) as told:
        results = run_study(study, folder, wanted, jobs=jobs or available_cores(), most=most, told=told)
    _written(folder, len(results), write_page(study, results, folder))


@app.command()
def memory(
    recipe: Annotated[Path, typer.Argument(help="The recipe's YAML file, such as benchmarks/memory/gru.yaml.")],
    out: FolderOption = None,
    task: Annotated[list[str], typer.Option(help="Only these tasks; may be repeated.")] = [],  # noqa: B006
    length: Annotated[list[int], typer.Option(min=1, help="Only these lengths; may be repeated.")] = [],  # noqa: B006
    jobs: JobsOption = None,
    most: MostOption = None,
    set_values: SetOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train tasks whose answer lies far back by every rule and a Transformer: a JSON a training, tables, a picture.

    What stands is not trained again: interrupt it and send it again as you like.

    Example: ssrnn bench memory benchmarks/memory/gru.yaml --length 64
    """
    from ssrnn_dist.bench.memory.page import write_page
    from ssrnn_dist.bench.memory.recipe import cells, load_recipe
    from ssrnn_dist.bench.memory.run import run_memory
    from ssrnn_launch.machine import available_cores

    asked = load_recipe(recipe, overrides(set_values))
    known("--task", task, asked.tasks)
    known("--length", length, asked.lengths)
    folder = out or Path("benchmarks/results") / f"memory-{asked.name}"
    wanted = [
        cell
        for cell in cells(asked)
        if (not task or cell.task in task) and (not length or cell.length in length)
    ]  # fmt: skip
    with _trainings(folder, _memory_line) as told:
        results = run_memory(asked, folder, wanted, jobs=jobs or available_cores(), most=most, told=told)
    _written(folder, len(results), write_page(asked, results, folder))


@app.command()
def generate(
    recipe: Annotated[Path, typer.Argument(help="The study's YAML file: it gives the shapes.")],
    context: Annotated[list[int], typer.Option(min=1, help="Tokens read before; may be repeated.")] = CONTEXTS,
    vocab_size: Annotated[int, typer.Option(min=2, help="Entries of the vocabulary.")] = 1024,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Tokens timed of each; the median counts.")] = 200,
    out: Annotated[Path | None, typer.Option(help="Write the results to this JSON file, too.")] = None,
    set_values: SetOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Time one token after a long context: recurrent state beside a Transformer's key-value cache, batch 1.

    Example: ssrnn bench generate benchmarks/quality/stdlib.yaml --context 1000
    """
    import torch

    from ssrnn_dist.bench.generation import measure
    from ssrnn_dist.bench.machine import described_machine
    from ssrnn_dist.bench.quality.recipe import load_recipe
    from ssrnn_dist.files import write_json_atomic

    study = load_recipe(recipe, overrides(set_values))
    torch.set_num_threads(threads)
    found = measure(study, vocab_size, context, repeats)
    results = {"what": "ssrnn bench generate", **described_machine(), "rows": [vars(each) for each in found]}
    if out is not None:
        write_json_atomic(out, results)
    if output.as_json():
        output.emit_json(results)
        return
    output.table(
        ["model", "context", "tokens/s", "state MB", "parameters"],
        [
            [
                each.model,
                f"{each.context_tokens:,}",
                f"{each.tokens_per_second:,.0f}",
                f"{each.state_megabytes:,.3f}",
                f"{each.parameters:,}",
            ]
            for each in found
        ],
    )


def known(option: str, given: Iterable[object], allowed: Iterable[object]) -> None:
    """UserError names the first that is not allowed."""
    from ssrnn_dist.problems import user_error

    allowed = list(dict.fromkeys(allowed))
    for each in given:
        if each not in allowed:
            raise user_error(option, repr(each), f"one of {', '.join(map(str, allowed))} is allowed")


def _written(folder: Path, trials: int, written: list[Path]) -> None:
    if output.as_json():
        output.emit_json({"folder": str(folder), "trials": trials, "written": [str(path) for path in written]})
    for path in written:
        output.note(str(path))


@contextmanager
def _trainings(folder: Path, line: Callable[[Result], str]) -> Iterator[Callable[[Any, Result, int], None]]:
    """told(trial, result, missing) for the trainings of a recipe: a line each, and on a terminal a bar."""
    from ssrnn_launch.progress import counted_progress

    finished = 0
    try:
        with counted_progress("training") as progress:

            def told(trial: Any, values: Result, missing: int) -> None:
                nonlocal finished
                finished += 1
                output.note(f"{trial.name}: {line(values)}; {missing} known to be missing")
                progress(finished, finished + missing)

            yield told
    except KeyboardInterrupt:
        output.note(f"stopped; the trainings that are finished are in {folder}, the same command makes the others")
        raise


def _memory_line(values: Result) -> str:
    right = ", ".join(f"{accuracy:.2f}" for accuracy in values["accuracy"].values())
    went = "solved" if values["solved"] else "not solved"
    return f"{went} in {values['steps']:,} steps, right answers {right}, {values['core_seconds']:,.0f} core seconds"


def _quality_line(values: Result) -> str:
    perplexity = values["perplexity"]
    went = "the gradient stopped being finite" if perplexity is None else f"perplexity {perplexity:.2f}"
    return f"{went}, {values['core_seconds']:,.0f} core seconds"


def parsed_shape(text: str) -> tuple[int, int, int]:
    """Batch, time and width; UserError where it is something else."""
    from ssrnn_dist.problems import user_error

    if not re.fullmatch(r"[1-9]\d*,[1-9]\d*,[1-9]\d*", text):
        raise user_error("--shape", repr(text), "batch,time,width is wanted, such as 16,256,256")
    n_batch, n_steps, d = map(int, text.split(","))
    return n_batch, n_steps, d


def _show(title: str, timings: "list[Timing]") -> None:
    output.say(title)
    output.table(
        ["rule", "seconds", "× torch.nn", "floor", "peak MB"],
        [
            [
                each.rule,
                f"{each.seconds:.4f}",
                f"{each.ratio:.2f}",
                "" if each.floor_ratio is None else f"{each.floor_ratio:.2f}",
                "" if each.peak_megabytes is None else f"{each.peak_megabytes:,.0f}",
            ]
            for each in timings
        ],
    )
