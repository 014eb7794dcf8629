"""The pictures of what a run costs, from its ledger and its history; in hours where no price is known.

Imports matplotlib through drawing.py and bars.py; decides what is drawn, never how it looks."""

import math
from typing import TYPE_CHECKING

from ssrnn_dist.tracking.lives import SECONDS_PER_HOUR, Life
from ssrnn_dist.tracking.report import bars, drawing, numbers
from ssrnn_dist.tracking.report.bars import Bar
from ssrnn_dist.tracking.report.drawing import Across, Band, Line
from ssrnn_dist.tracking.report.pictures import Picture
from ssrnn_dist.tracking.report.source import RunSource, Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LIVES = 9  # bars that can still be read; the dearest, in their order


def phases(run: RunSource) -> "Figure":
    dollars = run.books.usd_by_phase
    if dollars is not None:
        return bars.one_bar(dollars, "US dollars", numbers.dollars)
    hours = {phase: seconds / SECONDS_PER_HOUR for phase, seconds in run.books.seconds_by_phase.items()}
    return bars.one_bar(hours, "hours of workers and places (no price given)", numbers.hours)


def lives(run: RunSource) -> "Figure":
    rows = [(life, life_parts(life, run.books.cost_usd is not None)) for life in run.books.lives]
    dearest = sorted(rows, key=lambda row: -sum(row[1].values()))[:MOST_LIVES]
    shown = [row for row in rows if row in dearest]
    written = numbers.hours if run.books.cost_usd is None else numbers.dollars
    drawn = [Bar(f"{life.number} {life.why}", written(sum(parts.values())), parts) for life, parts in shown]
    left_out = f"; the dearest {len(shown)} of {len(rows):,}" if len(rows) > len(shown) else ""
    return bars.bars(drawn, ("hours" if run.books.cost_usd is None else "US dollars") + f" of each life{left_out}")


def life_parts(life: Life, in_dollars: bool) -> dict[str, float]:
    """A life's dollars by phase, or its hours."""
    dollars = life.usd_by_phase() if in_dollars else None
    if dollars is not None:
        return dollars
    return {phase: seconds / SECONDS_PER_HOUR for phase, seconds in life.seconds_by_phase().items()}


def over_time(run: RunSource) -> "Figure":
    spent, unit, written = spent_by_step(run)
    known = [row for row in run.rows if row["step"] in spent and isinstance(row.get("time"), int | float)]
    began = min([life.time for life in run.books.lives] + [row["time"] for row in known], default=0.0)
    points = sorted((row["time"], spent[row["step"]]) for row in known)
    series = Series([0.0, *((at - began) / SECONDS_PER_HOUR for at, _ in points)], [0.0, *(each for _, each in points)])
    line = Line(series if points else Series([], []), "", drawing.GREEN, written(series.last))
    across = Across("hours since the start", numbers.tick, whole=False, restart="start")
    restarts = [(life.time - began) / SECONDS_PER_HOUR for life in run.books.lives[1:]]
    return drawing.figure([line], unit=f"{unit} so far", across=across, restarts=restarts, from_zero=True)


def loss_against_dollars(run: RunSource) -> "Figure":
    spent, unit, _ = spent_by_step(run)
    lines = []
    for key, label, colour, markers in (
        ("train_loss", "training", drawing.BLUE, False),
        ("valid_loss", "validation", drawing.ORANGE, True),
    ):
        series = run.series(key)
        pairs = [(spent[step], each) for step, each in zip(series.steps, series.values, strict=True) if step in spent]
        against = Series([at for at, _ in pairs], [each for _, each in pairs])
        lines.append(Line(against, label, colour, numbers.number(against.end), markers=markers))
    across = Across(f"{unit} so far", numbers.tick, whole=False)
    return drawing.figure(lines, unit="nats per token", across=across, hug_the_tail=True)


def price_of_tokens(run: RunSource) -> "Figure":
    series = run.series("usd_per_million_tokens")
    line = Line(series, "", drawing.GREEN, numbers.dollars(series.last))
    restarts, empty = run.books.restart_steps, "no price given"
    unit = "US dollars a million tokens"
    return drawing.figure([line], unit=unit, restarts=restarts, from_zero=True, hug_the_tail=True, empty=empty)


def forecast(run: RunSource) -> "Figure":
    spent, foreseen = run.series("cost_usd"), run.series("forecast_usd")
    low, high = run.series("forecast_usd_low"), run.series("forecast_usd_high")
    lines = [
        Line(foreseen, "forecast", drawing.BLUE, numbers.dollars(foreseen.last)),
        Line(spent, "spent", drawing.GREEN, numbers.dollars(spent.last)),
    ]
    bands = [Band(low, high, drawing.BLUE)] if low.steps and low.steps == high.steps else []
    empty = "no price given" if not spent else "nothing foreseen yet"
    return drawing.figure(
        lines if foreseen else [], unit="US dollars, whole run", bands=bands, from_zero=True, empty=empty
    )


def spent_by_step(run: RunSource) -> tuple[dict[float, float], str, "numbers.Written"]:
    """What was spent until each logged step: dollars, or worker hours where no price is known; with its unit."""
    cost = run.series("cost_usd")
    priced = bool(cost)
    series = cost if priced else run.series("worker_hours")
    known = {step: each for step, each in zip(series.steps, series.values, strict=True) if math.isfinite(each)}
    return known, "US dollars" if priced else "worker hours", numbers.dollars if priced else numbers.hours


COST_PICTURES = (
    Picture("cost_phases", "What it went into", "All that was paid for, by what the time went into.", phases),
    Picture(
        "cost_lives", "Each life", "From each start, restart or resize to the next; colours as beside this.", lives
    ),
    Picture("cost_over_time", "Over time", "Thin lines: a restart or a resize.", over_time),
    Picture("loss_against_cost", "Loss against cost", "What a lower loss has cost.", loss_against_dollars),
    Picture("cost_of_tokens", "A million tokens", "All that was spent, over the tokens trained on.", price_of_tokens),
    Picture(
        "cost_forecast", "Forecast", "What the whole run was going to cost, nine times of ten in the band.", forecast
    ),
)
