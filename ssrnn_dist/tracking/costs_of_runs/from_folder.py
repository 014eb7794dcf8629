"""The cost of a run from its own folder, without MLflow: ledger.jsonl and metrics.jsonl.

Imports the tracking readers."""

from pathlib import Path
from typing import Any

from ssrnn_dist.problems import user_error
from ssrnn_dist.tracking.costs_of_runs.run_cost import RunCost, Spent, first_by_step, last_by_step
from ssrnn_dist.tracking.jsonl import read_json_lines
from ssrnn_dist.tracking.ledger import LEDGER
from ssrnn_dist.tracking.lives import Life, lives_of
from ssrnn_dist.tracking.report.source import RunSource, read_run
from ssrnn_dist.tracking.totals import totals_of

METRICS = "metrics.jsonl"
MOST_POINTS = 2000  # at which the growth of the cost is looked at


def is_run_folder(word: str) -> bool:
    """Does a word name a run's folder, rather than a run by its name?"""
    return (Path(word) / LEDGER).is_file()


def run_in_folder(folder: Path) -> RunCost:
    """What a run's folder says. UserError where it holds no ledger."""
    if not (folder / LEDGER).is_file():
        raise user_error(str(folder), f"no {LEDGER} in it", "a run's folder is wanted, such as runs/quickstart")
    rows = read_json_lines(folder / LEDGER)
    run, totals = read_run(folder), totals_of(lives_of(rows))
    logged = [line for line in read_json_lines(folder / METRICS) if isinstance(line.get("step"), int)]
    tracking: dict[str, Any] = run.config.get("tracking") or {}
    return RunCost(
        name=run.name,
        run_id=run.summary.get("mlflow_run_id"),
        project=tracking.get("project") or tracking.get("experiment") or "",
        status=_status(run),
        began=totals.lives[0].time if totals.lives else 0.0,
        worker_hours=totals.worker_hours,
        cost_usd=totals.cost_usd,
        tokens=totals.tokens,
        train_loss=run.series("train_loss").last,
        valid_loss=run.series("valid_loss").last,
        goodput=totals.goodput,
        lost_usd=totals.lost_usd,
        energy_kwh=totals.energy_kwh,
        spent=growth(rows),
        train_losses=last_by_step(_pairs(run.rows, "train_loss")),
        valid_losses=last_by_step(_pairs(run.rows, "valid_loss")),
        cost_at_step=first_by_step(_pairs(logged, "cost_usd")),
    )


def growth(rows: list[dict[str, Any]]) -> list[Spent]:
    """How hours and dollars grew, from the ledger's rows: at each life's last row, and at MOST_POINTS between."""
    beats = [index for index, row in enumerate(rows) if row.get("kind") == "beat"]
    ends = {rows[index].get("life"): index for index in beats}
    every = -(-len(beats) // MOST_POINTS) or 1
    rates = [row for row in rows if row.get("kind") == "rate"]
    lives: dict[int, Life] = {}
    points = []
    for index in sorted({*beats[::every], *ends.values()}):
        for life in lives_of([*rates, rows[index]]):  # a row tells all of its life until then
            lives[life.number] = life
            totals = totals_of(tuple(lives.values()))
            points.append(Spent(rows[index]["time"], totals.worker_hours, totals.cost_usd))
    return points


def _pairs(rows: list[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]


def _status(run: RunSource) -> str:
    """In MLflow's words."""
    return "running" if not run.summary else "killed" if run.summary.get("stopped") else "finished"
