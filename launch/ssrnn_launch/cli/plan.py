"""`ssrnn plan`: what a run will take in memory, time, dollars and energy, before it is submitted."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssrnn_dist.console import dollars
from ssrnn_launch.cli import output
from ssrnn_launch.cli.options import ConfigArgument, DebugOption, JsonOption, SetOption, WorkersOption, overrides

if TYPE_CHECKING:
    from ssrnn_launch.plan.build import Plan
    from ssrnn_launch.plan.check import Checked
    from ssrnn_launch.plan.forecast import Choice

CALIBRATE_HELP = "Time the run's own step on this machine; the default where it is like what the config asks for."
MOST_SPREAD = 0.1
ONE_WORD = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "activations": "activations",
    "saved_state": "state, gates",
    "logits": "logits",
    "gathered_weights": "gathered",
    "checkpoint": "checkpoint",
    "framework": "framework",
    "allocator": "allocator",
}


def plan(
    config: ConfigArgument,
    set_values: SetOption = None,
    workers: WorkersOption = None,
    calibrate: Annotated[bool | None, typer.Option("--calibrate/--no-calibrate", help=CALIBRATE_HELP)] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the calibration there, or use the one that stands there.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="GPU", help="Go by this GPU's data sheet, such as H100 or A100-80G.")
    ] = None,
    node_gigabits: Annotated[
        float | None, typer.Option(min=0.001, help="Network of a node, Gbit/s; default: the maker's own machine.")
    ] = None,
    vocab_size: Annotated[int | None, typer.Option(min=2, help="Where no corpus stands that says it.")] = None,
    most: Annotated[int | None, typer.Option(min=1, max=65536, help="Look at powers of two up to so many.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw time against dollars: a .svg, .png or .pdf.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Then train for seconds with the given workers, and compare. CPU only.")
    ] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Forecast a run: memory, step time, dollars and energy for the given number of workers and its neighbours.

    Times come from a calibration of seconds on this machine, or from a GPU's data sheet; the output says which.
    Exit code 1: all is shown, but none of the given numbers of workers is possible.

    Example: ssrnn plan launch/configs/laptop.yaml --workers 2 --picture plan.svg
    """
    from ssrnn_dist.config import load_config
    from ssrnn_launch.cli.pictures import check_picture, save_picture
    from ssrnn_launch.local import absolute_paths
    from ssrnn_launch.plan.build import Asked, make_plan
    from ssrnn_launch.plan.picture import draw_plan

    check_picture(picture)
    run = absolute_paths(load_config(config, overrides(set_values, workers)))
    asked = Asked(calibrate, calibration, device, node_gigabits, vocab_size, most)
    with _waiting("looking at the run, and timing its step where this machine is like it"):
        made = make_plan(run, asked)
    checks = _checked(made) if check else []
    if output.as_json():
        output.emit_json({**made.as_values(), "checks": [_check_values(each) for each in checks] if check else None})
    else:
        _show(made, checks)
    if picture is not None:
        save_picture(draw_plan(run.name, made.found, f"{made.ground}: {made.source}"), picture)
    if (hopeless := why_hopeless(made.found.choices)) is not None:
        output.note(f"error: {hopeless}")  # no exception: the one JSON object is out
        raise typer.Exit(1)


def why_hopeless(choices: "Sequence[Choice]") -> str | None:
    """Why the run as it is given cannot be, with what could; None where some given number of workers is possible."""
    given = [each for each in choices if each.is_given]
    if any(each.impossible is None for each in given):
        return None
    possible = ", ".join(str(each.workers) for each in choices if each.impossible is None)
    allowed = f"possible: {possible}" if possible else "nor are their neighbours"
    counts = ", ".join(str(each.workers) for each in given)
    return f"scale.workers: {counts}: impossible ({given[0].impossible}); {allowed}"


def _waiting(text: str) -> Any:
    """A spinner on a terminal, a line elsewhere."""
    console = output.console(stderr=True)
    if not console.is_terminal:
        output.note(text)
    return console.status(text)


def _checked(made: "Plan") -> "list[Checked]":
    from ssrnn_dist.problems import user_error
    from ssrnn_launch.machine import available_cores
    from ssrnn_launch.plan.check import check
    from ssrnn_launch.plan.vocabulary import corpus_stands

    scale, cores = made.config.scale, available_cores()
    counts = sorted({scale.fewest_workers, scale.most_workers})
    if made.calibration is None or scale.gpus_per_worker or max(counts) > cores:
        came = (
            "no calibration on CPUs" if made.calibration is None or scale.gpus_per_worker else f"{max(counts)} workers"
        )
        raise user_error("--check", came, f"a calibration of a CPU run of at most {cores} workers is wanted here")
    if not corpus_stands(made.config):
        raise user_error("--check", "no corpus stands", "`ssrnn data build` it, or train once")
    found = []
    for count in counts:
        with _waiting(f"training with {count} for some seconds"):
            found.append(check(made, count))
    return found


def _check_values(checked: "Checked") -> dict[str, Any]:
    return {**vars(checked), "step_error": checked.step_error, "memory_error": checked.memory_error}


def _show(made: "Plan", checks: "Sequence[Checked]") -> None:
    work, train = made.work, made.work.train
    output.say(
        f"{made.config.name}: {work.parameters:,} parameters, {train.steps:,} steps of {train.tokens_per_batch:,} "
        f"tokens, ZeRO {made.config.scale.zero_stage}"
    )
    output.say(f"{made.ground}: {made.source}")
    columns = ["workers", "memory", "step", "of it sending", "tokens/s", "MFU", "time", "dollars", "kWh at most", ""]
    output.table(columns, [_row(each, made) for each in made.found.choices])
    _show_memory(made)
    for each in made.found.choices:
        if each.impossible is not None:
            output.say(f"{each.workers} workers cannot be: {each.impossible}")
    _show_notes(made)
    if checks:
        _show_checks(checks)


def _row(choice: "Choice", made: "Plan") -> list[str]:
    from ssrnn_dist.console import duration
    from ssrnn_launch.plan.splits import gigabytes

    marks = [
        *(["given"] if choice.is_given else []),
        *(["cheapest"] if choice.workers == made.found.cheapest else []),
        *(["fastest"] if choice.workers == made.found.fastest else []),
        *(["front"] if choice.workers in made.found.front else []),
        *(["impossible"] if choice.impossible is not None else []),
        *(["extrapolated"] if made.ground == "calibration" and not choice.measured else []),
    ]
    share = choice.exposed_seconds and choice.step_seconds and choice.exposed_seconds / choice.step_seconds
    return [
        str(choice.workers),
        gigabytes(choice.memory.total),
        _or_dash(choice.step_seconds, seconds_text),
        _or_dash(share if share is not None else None, "{:.0%}".format),
        _or_dash(choice.tokens_per_second, "{:,.0f}".format),
        _or_dash(choice.mfu, "{:.1%}".format),
        _or_dash(choice.run_seconds, duration),
        _or_dash(choice.cost_usd, dollars),
        _or_dash(choice.energy_kwh, "{:,.1f}".format),
        ", ".join(marks),
    ]


def seconds_text(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _or_dash(value: float | None, text: Any) -> str:
    return "–" if value is None else str(text(value))


def _show_memory(made: "Plan") -> None:
    from ssrnn_launch.plan.splits import gigabytes

    scale = made.config.scale
    given = [each for each in made.found.choices if each.workers in (scale.fewest_workers, scale.most_workers)]
    parts = [name for name in ONE_WORD if any(each.memory.parts[name] for each in given)]
    output.say("memory of a worker by part, at its fullest moment")
    rows = [
        [str(each.workers), each.memory.moment, *(gigabytes(each.memory.parts[name]) for name in parts)]
        for each in given
    ]
    output.table(["workers", "moment", *(ONE_WORD[name] for name in parts)], rows)


def _show_notes(made: "Plan") -> None:
    if made.config.scale.gpus_per_worker and made.calibration is None:
        output.say("memory is without CUDA's and NCCL's own, which no data sheet says")
    spread = max((each.spread for each in made.calibration.timings), default=0.0) if made.calibration else 0.0
    if spread > MOST_SPREAD:
        output.say(
            f"the steps that were timed differ by ±{spread:.0%}: this machine does other things; --calibrate again"
        )
    if made.why_no_dollars is not None:
        output.say(f"no dollars: {made.why_no_dollars}")
    if made.text.valid_tokens is None and made.ground != "nothing":
        output.say("no corpus stands yet: the time is without validation and reading text")


def _show_checks(checks: "Sequence[Checked]") -> None:
    from ssrnn_launch.plan.splits import gigabytes

    output.say("forecast beside what happened, without Ray; memory of the fullest worker")
    output.table(
        ["workers", "step: forecast", "was", "error", "spread", "memory: forecast", "was", "error"],
        [
            [
                str(each.workers),
                seconds_text(each.forecast_step_seconds),
                seconds_text(each.step_seconds),
                f"{each.step_error:+.1%}",
                f"±{each.spread:.1%}",
                gigabytes(each.forecast_bytes),
                gigabytes(each.peak_bytes),
                f"{each.memory_error:+.1%}",
            ]
            for each in checks
        ],
    )
