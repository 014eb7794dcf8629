"""Costs by run, by project and by day, with their sums; what is not known is counted, never guessed. Pure.

Imports the standard library only."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ssrnn_dist.tracking.costs_of_runs.run_cost import RunCost, Spent

GROUPS = ("run", "project", "day")


@dataclass(frozen=True)
class CostRow:
    """A run, or several together. cost_usd: of those whose cost is known; runs_without_cost: the others.

    usd_per_million_tokens, energy_kwh, lost_usd: of those that know them.  None: none knows, or it can't be summed."""

    label: str
    runs: int
    worker_hours: float
    cost_usd: float | None
    runs_without_cost: int
    tokens: int | None = None
    usd_per_million_tokens: float | None = None
    train_loss: float | None = None
    valid_loss: float | None = None
    goodput: float | None = None
    lost_usd: float | None = None
    energy_kwh: float | None = None
    project: str | None = None
    status: str | None = None
    began: float | None = None
    run_id: str | None = None


def by_run(costs: Iterable[RunCost]) -> list[CostRow]:
    return [
        CostRow(
            label=cost.name,
            runs=1,
            worker_hours=cost.worker_hours,
            cost_usd=cost.cost_usd,
            runs_without_cost=int(cost.cost_usd is None),
            tokens=cost.tokens,
            usd_per_million_tokens=cost.usd_per_million_tokens,
            train_loss=cost.train_loss,
            valid_loss=cost.valid_loss,
            goodput=cost.goodput,
            lost_usd=cost.lost_usd,
            energy_kwh=cost.energy_kwh,
            project=cost.project,
            status=cost.status,
            began=cost.began,
            run_id=cost.run_id,
        )
        for cost in costs
    ]


def summed(label: str, costs: Sequence[RunCost]) -> CostRow:
    """Several runs as one row."""
    priced = [cost for cost in costs if cost.cost_usd is not None]
    cost_usd = _sum(cost.cost_usd for cost in priced)
    tokens = sum(cost.tokens for cost in priced)
    return CostRow(
        label=label,
        runs=len(costs),
        worker_hours=sum(cost.worker_hours for cost in costs),
        cost_usd=cost_usd,
        runs_without_cost=len(costs) - len(priced),
        tokens=sum(cost.tokens for cost in costs),
        usd_per_million_tokens=cost_usd / tokens * 1e6 if cost_usd is not None and tokens else None,
        lost_usd=_sum(cost.lost_usd for cost in costs),
        energy_kwh=_sum(cost.energy_kwh for cost in costs),
    )


def by_project(costs: Sequence[RunCost]) -> list[CostRow]:
    """Projects by name."""
    return _grouped(costs, lambda cost: cost.project or "no project")


def _grouped(costs: Sequence[RunCost], label_of: Callable[[RunCost], str]) -> list[CostRow]:
    groups: dict[str, list[RunCost]] = {}
    for cost in costs:
        groups.setdefault(label_of(cost), []).append(cost)
    return [summed(label, groups[label]) for label in sorted(groups)]


def by_day(costs: Sequence[RunCost], since: float | None = None) -> list[CostRow]:
    """What was spent on each day (UTC), by when it was: a run that lives for two days is in both rows."""
    hours: dict[str, float] = {}
    dollars: dict[str, float] = {}
    runs: dict[str, set[int]] = {}
    without: dict[str, set[int]] = {}
    for number, cost in enumerate(costs):
        for day, more_hours, more_usd in daily(cost.spent):
            hours[day] = hours.get(day, 0.0) + more_hours
            runs.setdefault(day, set()).add(number)
            if more_usd is None:
                without.setdefault(day, set()).add(number)
            else:
                dollars[day] = dollars.get(day, 0.0) + more_usd
    first = "" if since is None else day_of(since)
    return [
        CostRow(day, len(runs[day]), hours[day], dollars.get(day), len(without.get(day, ())))
        for day in sorted(hours)
        if day >= first
    ]


def daily(spent: Sequence[Spent]) -> list[tuple[str, float, float | None]]:
    """(day, hours, dollars) of one run: each piece is of the day at whose moment it was booked."""
    found: dict[str, tuple[float, float | None]] = {}
    hours, dollars = 0.0, 0.0
    for point in spent:
        day = day_of(point.time)
        before_hours, before_usd = found.get(day, (0.0, 0.0))
        more_usd = None if point.cost_usd is None or before_usd is None else point.cost_usd - dollars
        found[day] = (
            before_hours + point.worker_hours - hours,
            None if more_usd is None or before_usd is None else before_usd + more_usd,
        )
        hours, dollars = point.worker_hours, dollars if point.cost_usd is None else point.cost_usd
    return [(day, more_hours, more_usd) for day, (more_hours, more_usd) in found.items()]


def day_of(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
