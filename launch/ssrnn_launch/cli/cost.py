"""`ssrnn cost`: what runs have cost, by run, project or day, and how much they cost until the same loss."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.options import DebugOption, JsonOption

if TYPE_CHECKING:
    from ssrnn_dist.tracking.costs_of_runs.equal_loss import EqualLoss
    from ssrnn_dist.tracking.costs_of_runs.run_cost import RunCost
    from ssrnn_dist.tracking.costs_of_runs.tables import CostRow


def cost(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]…", help="Names or ids of runs, or their folders; default: all.")
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option("--uri", envvar="MLFLOW_TRACKING_URI", help="The MLflow to ask; default: the one in --run-root."),
    ] = None,
    run_root: Annotated[Path, typer.Option("--run-root", help="The folder of all runs.")] = Path("runs"),
    experiment: Annotated[str | None, typer.Option(help="Only runs of this experiment.")] = None,
    by: Annotated[Literal["run", "project", "day"], typer.Option(help="A row of the table.")] = "run",
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Runs that went on after this day (UTC); by day: from it on.")
    ] = None,
    loss: Annotated[float | None, typer.Option(help="Tell what each run cost until it reached this loss.")] = None,
    metric: Annotated[
        Literal["valid_loss", "train_loss"] | None,
        typer.Option(help="Which loss; default: valid_loss where all runs have it."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table as CSV, too.")] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw loss against dollars (.svg, .png or .pdf).")
    ] = None,
    send: Annotated[
        bool, typer.Option("--send", help="Send MLflow what it has not got yet of the ended runs in these folders.")
    ] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show hours, dollars, dollars a million tokens, loss, goodput, money lost to failures, and energy.

    With several runs named, or --loss, it also shows what each cost until it reached the same loss.

    Example: ssrnn cost --uri http://mlflow:5000 --by project
    """
    from ssrnn_dist.tracking.costs_of_runs.equal_loss import compare
    from ssrnn_dist.tracking.costs_of_runs.gather import gather
    from ssrnn_launch.cli.cost_tables import show, write_csv
    from ssrnn_launch.cli.pictures import check_picture
    from ssrnn_launch.progress import counted_progress

    check_picture(picture)
    _check_loss(loss)
    if send:
        _send(runs or [])
        return
    after = None if since is None else _day(since)
    left_out: list[str] = []
    compares = loss is not None or picture is not None or (by == "run" and len(runs or []) > 1)
    with counted_progress("reading MLflow") as progress:
        costs = gather(
            runs or [],
            uri=uri,
            run_root=run_root,
            experiment=experiment,
            since=after,
            with_history=compares or by == "day",
            progress=progress,
            leave_out=left_out.append,
        )
    equal = compare(costs, metric, loss) if compares and costs else None
    rows = _rows(costs, by, after)
    if csv is not None:
        write_csv(csv, rows, equal if by == "run" else None)
    show(costs, rows, by, equal)
    if picture is not None:
        _draw(picture, costs, equal)
    for problem in left_out:
        output.note(f"error: left out: {' '.join(problem.split())}")
    if left_out:
        raise typer.Exit(1)


def _check_loss(loss: float | None) -> None:
    from ssrnn_dist.problems import user_error

    if loss is not None and not (math.isfinite(loss) and loss >= 0):
        raise user_error("--loss", str(loss), "a loss in nats per token is wanted, such as 3.2")


def _rows(costs: "Sequence[RunCost]", by: str, after: float | None) -> "list[CostRow]":
    from ssrnn_dist.tracking.costs_of_runs import tables

    if by == "day":
        return tables.by_day(costs, after)
    return tables.by_project(costs) if by == "project" else tables.by_run(costs)


def _day(text: str) -> float:
    from ssrnn_dist.problems import user_error

    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise user_error("--since", repr(text), "a day such as 2026-01-31 is allowed") from None


def _draw(picture: Path, costs: "Sequence[RunCost]", equal: "EqualLoss | None") -> None:
    from ssrnn_dist.problems import user_error
    from ssrnn_dist.tracking.costs_of_runs.picture import loss_against_dollars
    from ssrnn_launch.cli.pictures import save_picture

    if equal is None:
        raise user_error("--picture", "no run has a loss", "runs that have trained are wanted")
    save_picture(loss_against_dollars(costs, equal), picture)


def _send(folders: Sequence[str]) -> None:
    from ssrnn_dist.config import load_config
    from ssrnn_dist.problems import user_error
    from ssrnn_dist.tracking.tracker import send_late
    from ssrnn_launch.problems import LaunchFailed

    left = {}
    for folder in folders:
        if not (Path(folder) / "config.yaml").is_file():
            raise user_error("--send", f"{folder}: no config.yaml in it", "folders of runs are wanted")
        config = load_config(Path(folder) / "config.yaml")
        if config.folder.resolve() != Path(folder).resolve():
            config = config.model_copy(
                update={"run_root": str(Path(folder).resolve().parent), "name": Path(folder).name}
            )
        left[folder] = send_late(config)
    if any(left.values()):
        waiting = ", ".join(f"{folder}: {count:,}" for folder, count in left.items() if count)
        raise LaunchFailed(f"MLflow did not take everything; still waiting: {waiting}")
    if output.as_json():
        output.emit_json({"sent": list(left)})
    else:
        output.say(f"MLflow has everything of {', '.join(left) or 'no run'}")
