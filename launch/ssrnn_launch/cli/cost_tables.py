"""How `ssrnn cost` shows what it found: tables for people, one JSON object, CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ssrnn_dist.files import write_text_atomic
from ssrnn_dist.tracking.costs_of_runs.equal_loss import EqualLoss
from ssrnn_dist.tracking.costs_of_runs.run_cost import RunCost
from ssrnn_dist.tracking.costs_of_runs.tables import CostRow, summed
from ssrnn_dist.tracking.report import numbers
from ssrnn_launch.cli import output

NOT_KNOWN = "not known"
Column = tuple[str, Callable[[CostRow], str]]


def _or_not_known(text: str) -> str:
    return text or NOT_KNOWN


def _cost(row: CostRow) -> str:
    if row.cost_usd is None:
        return NOT_KNOWN
    return numbers.dollars(row.cost_usd) + (f" + {row.runs_without_cost} not known" if row.runs_without_cost else "")


def _loss(row: CostRow) -> str:
    if row.valid_loss is not None:
        return f"{row.valid_loss:.4f}"
    return "" if row.train_loss is None else f"{row.train_loss:.4f} train"


def _energy(row: CostRow) -> str:
    return "" if row.energy_kwh is None else f"{row.energy_kwh:.3g}"


def _began(row: CostRow) -> str:
    return "" if row.began is None else datetime.fromtimestamp(row.began, UTC).strftime("%Y-%m-%d %H:%M")


MONEY: tuple[Column, ...] = (
    ("hours", lambda row: numbers.hours(row.worker_hours).removesuffix(" h")),
    ("cost", _cost),
)
TRAINED: tuple[Column, ...] = (
    ("tokens", lambda row: numbers.count(row.tokens)),
    ("$/M tokens", lambda row: numbers.dollars(row.usd_per_million_tokens)),
)
FAILED: tuple[Column, ...] = (("lost", lambda row: numbers.dollars(row.lost_usd)), ("kWh", _energy))
COLUMNS: dict[str, tuple[Column, ...]] = {
    "run": (
        ("run", lambda row: row.label),
        ("status", lambda row: row.status or ""),
        ("began (UTC)", _began),
        *MONEY,
        *TRAINED,
        ("loss", _loss),
        ("goodput", lambda row: "" if row.goodput is None else f"{row.goodput:.1%}"),
        *FAILED,
    ),
    "project": (
        ("project", lambda row: row.label),
        ("runs", lambda row: f"{row.runs:,}"),
        *MONEY,
        *TRAINED,
        *FAILED,
    ),
    "day": (("day (UTC)", lambda row: row.label), ("runs", lambda row: f"{row.runs:,}"), *MONEY),
}


def show(costs: Sequence[RunCost], rows: Sequence[CostRow], by: str, equal: EqualLoss | None) -> None:
    """The table and its sum, and the comparison at equal loss, on stdout."""
    total = summed("all", costs) if by != "day" else _sum_of_days(rows)
    if output.as_json():
        output.emit_json(
            {
                "by": by,
                "rows": [asdict(row) for row in rows],
                "all": asdict(total),
                "equal_loss": None if equal is None else asdict(equal),
            }
        )
        return
    if not rows:
        output.say("no run of ours there")
        return
    columns = [column for column in COLUMNS[by] if any(column[1](row) for row in rows)]
    output.table([name for name, _ in columns], [[write(row) for _, write in columns] for row in rows])
    output.say(sum_line(total))
    if equal is not None:
        _show_equal(equal)


def sum_line(total: CostRow) -> str:
    """All of it in one line, with what is left out."""
    hours = _or_not_known(numbers.hours(total.worker_hours))
    left = total.runs_without_cost
    without = f"; {left:,} {'run' if left == 1 else 'runs'} left out, whose cost is not known" if left else ""
    return f"all: {hours} of workers, {numbers.dollars(total.cost_usd) or 'no cost known'}{without}"


def _sum_of_days(rows: Sequence[CostRow]) -> CostRow:
    known = [row.cost_usd for row in rows if row.cost_usd is not None]
    return CostRow(
        label="all",
        runs=max((row.runs for row in rows), default=0),
        worker_hours=sum(row.worker_hours for row in rows),
        cost_usd=sum(known) if known else None,
        runs_without_cost=max((row.runs_without_cost for row in rows), default=0),
    )


def _show_equal(equal: EqualLoss) -> None:
    what = "validation loss" if equal.metric == "valid_loss" else "training loss (mean of 10)"
    output.say(f"\nuntil {what} {equal.loss:.4f}:")
    known = sorted(
        equal.runs, key=lambda run: (run.step is None, run.cost_usd is None, run.cost_usd or 0.0, run.step or 0.0)
    )
    rows = []
    for run in known:
        step = "not reached" if run.step is None else f"{run.step:,.0f}"
        best = "" if run.best is None else f"{run.best:.4f}"
        rows.append([run.name, "" if run.step is None else _or_not_known(numbers.dollars(run.cost_usd)), step, best])
    output.table(["run", "cost", "step", "best"], rows)


def write_csv(path: Path, rows: Sequence[CostRow], equal: EqualLoss | None) -> None:
    """The rows with all their numbers; empty where something is not known."""
    text = io.StringIO()
    names = list(asdict(rows[0])) if rows else list(CostRow.__dataclass_fields__)
    reached = ["loss_to_reach", "usd_to_reach"] if equal is not None else []
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, *reached])
    for index, row in enumerate(rows):
        values: list[Any] = list(asdict(row).values())
        if equal is not None:
            values += [equal.loss, equal.runs[index].cost_usd]
        writer.writerow(["" if value is None else value for value in values])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, text.getvalue())
