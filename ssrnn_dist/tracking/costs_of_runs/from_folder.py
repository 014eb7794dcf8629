"""The cost of a run from its own folder, without MLflow: ledger.jsonl and metrics.jsonl.

Imports the tracking readers and yaml."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ssrnn_dist.problems import user_error
from ssrnn_dist.run_lock import LOCK, is_locked
from ssrnn_dist.tracking.costs_of_runs.few_rows import few_ledger_rows, read_curves
from ssrnn_dist.tracking.costs_of_runs.run_cost import RunCost, Spent
from ssrnn_dist.tracking.dividing import summed
from ssrnn_dist.tracking.history import HISTORY
from ssrnn_dist.tracking.ledger import LEDGER
from ssrnn_dist.tracking.lives import Life, lives_of
from ssrnn_dist.tracking.totals import totals_of

SILENT_SECONDS = 120.0  # a beat comes every 30 s, to a URL some seconds later


def is_run_folder(word: str) -> bool:
    """Does a word name a run's folder, rather than a run by its name?"""
    return (Path(word) / LEDGER).is_file()


def run_in_folder(folder: Path) -> RunCost:
    """What a run's folder says. UserError where it holds no ledger."""
    if not (folder / LEDGER).is_file():
        raise user_error(str(folder), f"no {LEDGER} in it", "a run's folder is wanted, such as runs/quickstart")
    rows = few_ledger_rows(folder / LEDGER)
    totals, curves = totals_of(lives_of(rows)), read_curves(folder / HISTORY)
    train_losses, valid_losses = sorted(curves.train_losses.items()), sorted(curves.valid_losses.items())
    config, summary = _mapping(folder / "config.yaml", yaml.safe_load), _mapping(folder / "summary.json", json.loads)
    tracking: dict[str, Any] = config.get("tracking") or {}
    return RunCost(
        name=str(config.get("name") or folder.resolve().name),
        run_id=summary.get("mlflow_run_id"),
        project=tracking.get("project") or tracking.get("experiment") or "",
        status=_status(summary, _is_trained_now(folder, totals.lives)),
        began=totals.lives[0].time if totals.lives else None,
        worker_hours=totals.worker_hours,
        cost_usd=totals.cost_usd,
        tokens=totals.tokens,
        train_loss=curves.latest_train_loss[1] if curves.latest_train_loss else None,
        valid_loss=curves.latest_valid_loss[1] if curves.latest_valid_loss else None,
        goodput=totals.goodput,
        lost_usd=totals.lost_usd,
        energy_kwh=totals.energy_kwh,
        spent=growth(rows),
        train_losses=train_losses,
        valid_losses=valid_losses,
        cost_at_step=sorted(curves.cost_usd.items()),
    )


def growth(rows: Sequence[dict[str, Any]]) -> list[Spent]:
    """How hours and dollars grew, from the ledger's rows, oldest first: a beat tells all of its life until then."""
    rates = [row for row in rows if row.get("kind") == "rate"]
    ended: Life | None = None
    current: Life | None = None
    spent = []
    for row in rows:
        if row.get("kind") != "beat":
            continue
        for life in lives_of([*rates, row]):
            if current is not None and current.number != life.number:
                ended = current if ended is None else together(ended, current)
            current = life
            totals = totals_of((life,) if ended is None else (ended, life))
            spent.append(Spent(life.ended or life.time, totals.worker_hours, totals.cost_usd))
    return spent


def together(one: Life, other: Life) -> Life:
    """A life with the time of two."""
    booked = dict(one.booked)
    for rate, phases in other.booked.items():
        booked[rate] = summed(booked.get(rate, {}), phases)
    return replace(one, booked=booked, unoccupied=summed(one.unoccupied, other.unoccupied))


def _mapping(path: Path, read: Callable[[str], Any]) -> dict[str, Any]:
    """What stands in a file; nothing where it can't be read."""
    try:
        values = read(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


def _is_trained_now(folder: Path, lives: Sequence[Life]) -> bool:
    """By the run's lock; by the age of its books where there is none here, as in a copy of what stands at a URL."""
    if (folder / LOCK).exists() or not lives:
        return is_locked(folder)
    return time.time() - (lives[-1].ended or lives[-1].time) < SILENT_SECONDS


def _status(summary: dict[str, Any], is_trained_now: bool) -> str:
    """In MLflow's words."""
    if is_trained_now:
        return "running"
    return "killed" if not summary or summary.get("stopped") else "finished"
