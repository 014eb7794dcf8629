"""`ssrnn bench launch`: what launching costs, and how soon a run starts and recovers; a command of bench.py."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.bench import app, known
from ssrnn_launch.cli.options import DebugOption, JsonOption
from ssrnn_launch.cli.pictures import check_picture, save_picture

NO_PARTS: list[str] = []
PACKAGES = ("ray", "deepspeed", "mlflow")


@app.command()
def launch(
    part: Annotated[
        list[str], typer.Option(help="overhead, start, scaling, control or recovery; may be repeated; default: all.")
    ] = NO_PARTS,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the loops in `overhead`; default: all cores.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few steps, one round, few workers: a first look.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw starts and recoveries to this file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the results to this JSON file, too.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure what Ray, DeepSpeed, MLflow and the ledger cost over a plain loop, and how soon runs start and recover.

    About ten minutes, on a machine that has nothing else to do. Nothing is told where loops don't learn the same, or
    where the control plane loses something.

    Example: ssrnn bench launch --out benchmarks/results/launch.json
    """
    from dataclasses import replace

    from ssrnn_dist.files import write_json_atomic
    from ssrnn_launch.bench.measure import PARTS, QUICK, Plan, chosen, measure
    from ssrnn_launch.problems import LaunchFailed

    known("--part", part, PARTS)
    check_picture(picture)
    plan = replace(QUICK if quick else Plan(), parts=chosen(part), threads=threads or 0)
    results = _described()
    with _work_folder() as folder, _shown(len(plan.parts)) as (told, finished):

        def keep(name: str, found: dict[str, Any]) -> None:
            results[name] = found
            if out is not None:  # after every part, so that a run that is ended loses one at most
                out.parent.mkdir(parents=True, exist_ok=True)
                write_json_atomic(out, results)
            finished()

        try:
            measure(plan, folder, told, keep)
        except LaunchFailed:
            if not output.as_json():
                _show(results)  # the parts before it
            raise
    if picture is not None:
        from ssrnn_launch.bench.picture import draw

        save_picture(draw(results), picture)
    if output.as_json():
        output.emit_json(results)
    else:
        _show(results)


def _described() -> dict[str, Any]:
    from importlib.metadata import version

    from ssrnn_dist.bench.machine import described_machine
    from ssrnn_launch.machine import available_cores

    versions = {package: version(package) for package in PACKAGES}
    return {"what": "ssrnn bench launch", **described_machine(), "cores": available_cores(), **versions}


@contextmanager
def _work_folder() -> Iterator[Path]:
    """Removed in the end; where something failed it is kept, for its logs."""
    import shutil
    import tempfile

    from ssrnn_launch.problems import LaunchFailed

    folder = Path(tempfile.mkdtemp(prefix="ssrnn-bench-launch-"))
    try:
        yield folder
    except LaunchFailed:
        output.note(f"what was written is kept: {folder}")
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _shown(parts: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """told(text) for what goes on, finished() after each part; on a terminal with a bar."""
    from ssrnn_launch.progress import counted_progress

    done = 0
    with counted_progress("measuring") as progress:
        progress(0, parts)

        def finished() -> None:
            nonlocal done
            done += 1
            progress(done, parts)

        yield output.note, finished


def _show(results: Mapping[str, Any]) -> None:
    show = {
        "overhead": _show_overhead,
        "start": _show_start,
        "scaling": _show_scaling,
        "control": _show_control,
        "recovery": _show_recovery,
    }
    for part, showing in show.items():
        if part in results:
            showing(results[part])


def _show_overhead(found: Mapping[str, Any]) -> None:
    output.say(f"overhead over a plain loop: the same model, batches, {found['threads']} threads; losses agree")
    _show_loops(found["rows"])
    _verdict(f"the whole costs {found['overhead']:+.1%}", f"{found['goal']:.0%} at most", found["met"])


def _show_scaling(found: Mapping[str, Any]) -> None:
    output.say("a second worker: a thread each, the same global batch; losses agree")
    _show_loops(found["rows"])
    speedup, possible = found["speedup"], found["possible_speedup"]["median"]
    told = f"two workers are {speedup['median']:.2f}× one ({speedup['least']:.2f} to {speedup['most']:.2f})"
    _verdict(f"{told}; the cores can do {possible:.2f}×", f"{found['goal']}× at least", found["met"])


def _show_loops(rows: Sequence[Mapping[str, Any]]) -> None:
    output.table(
        ["loop", "ms a step", "within the step", "core ms", "× plain", "least to most"],
        [
            [
                row["loop"],
                f"{row['step_seconds'] * 1000:.1f}",
                "" if row["inside_seconds"] is None else f"{row['inside_seconds'] * 1000:.1f}",
                f"{row['core_seconds'] * 1000:.1f}",
                f"{row['ratio']['median']:.3f}",
                f"{row['ratio']['least']:.3f} to {row['ratio']['most']:.3f}",
            ]
            for row in rows
        ],
    )


def _show_start(found: Mapping[str, Any]) -> None:
    for row in found["rows"]:
        output.say(f"{row['way']}: {row['seconds']:.1f} s to the end of the first step")
        output.table(["stage", "s"], [[stage["stage"], f"{stage['seconds']:.2f}"] for stage in row["stages"]])


def _show_control(found: Mapping[str, Any]) -> None:
    ray, without = found["on_ray"], found["without_ray"]
    output.say(f"control plane: {ray['workers']:,} simulated workers for {ray['seconds']} s; nothing was lost")
    output.pairs(
        {
            "pulses": f"{ray['pulses_per_second']:,.0f} a second, the last one "
            f"{ray['last_pulse_late_seconds'] * 1000:.0f} ms late",
            "a pulse and its answer": f"{ray['latency_p50_seconds'] * 1000:.1f} ms median, "
            f"{ray['latency_p99_seconds'] * 1000:.1f} ms 99 of 100",
            "cores": f"board {ray['cores']['board']:.2f}, driver {ray['cores']['driver']:.2f} "
            f"(booking {ray['booking_cores']:.2f}), Ray's own {ray['cores']['ray']:.2f}",
            f"{without['workers']:,} without Ray": f"board {without['cores']['board']:.2f} of a core, "
            f"driver {without['cores']['driver']:.2f}",
            "ledger": f"{found['ledger_bytes_of_an_hour'] / 1e3:,.0f} KB in a run's first hour",
        }
    )


def _show_recovery(found: Mapping[str, Any]) -> None:
    output.say(
        f"recovery: {found['workers']} workers on a cluster of {found['nodes']} nodes; seconds from the event on"
    )
    output.table(
        ["event", "noticed", "new group asked for", "ready", "first step", "workers", "steps repeated"],
        [
            [
                row["what"],
                *(
                    f"{row[key]:.1f}"
                    for key in (
                        "noticed_seconds",
                        "group_asked_for_seconds",
                        "group_ready_seconds",
                        "first_step_seconds",
                    )
                ),
                str(row["workers"]),
                str(row["steps_repeated"]),
            ]
            for row in found["rows"]
        ],
    )
    _verdict("a killed node", f"noticed and going again within {found['goal_seconds']:.0f} s", found["met"])


def _verdict(found: str, goal: str, met: bool | None) -> None:
    """met None: the rounds differ too much to say."""
    told = (
        "met"
        if met
        else "NOT met"
        if met is not None
        else "not judged: the rounds differ too much, something else runs"
    )
    output.say(f"  {found}; the goal, {goal}, is {told}\n")
