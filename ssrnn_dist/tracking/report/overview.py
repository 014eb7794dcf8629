"""Builds the page of a run's cost: runs/<name>/cost.html, one self-contained file, cost.png and pictures/cost_*.png.

Imports the report's own files; jinja2, matplotlib and numpy inside functions."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ssrnn_dist.files import write_bytes_atomic, write_text_atomic
from ssrnn_dist.tracking.lives import SECONDS_PER_HOUR, Life
from ssrnn_dist.tracking.phases import LOST, START_UP
from ssrnn_dist.tracking.report import contact_sheet, numbers
from ssrnn_dist.tracking.report.cost_pictures import COST_PICTURES
from ssrnn_dist.tracking.report.page import (
    ABSENT,
    Card,
    ReportPaths,
    counted,
    draw,
    facts_of,
    number,
    render,
    state_of,
    text_or_absent,
)
from ssrnn_dist.tracking.report.source import RunSource, read_run

if TYPE_CHECKING:
    from ssrnn_dist.tracking.lives import Rate

COST_HTML, COST_PNG = "cost.html", "cost.png"
MOST_LIVES = 60  # rows of the table; the newest


@dataclass(frozen=True)
class Table:
    title: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def build_overview(run_folder: Path) -> ReportPaths:
    """Read a run's ledger and history and write what it costs, also of a run that is under way.

    Returns cost.html and the pictures, cost.png first. Takes about two seconds. Raises OSError where the folder
    cannot be written; what stood there before then stays whole."""
    run = read_run(run_folder)
    drawn = draw(run, COST_PICTURES, run_folder / "pictures")
    cards = cards_of(run)
    png = run_folder / COST_PNG
    headline = [(card.name, card.value) for card in cards[:4]]
    write_bytes_atomic(png, contact_sheet.png_bytes(f"{run.name}: {state_of(run)}", headline, drawn.figures))
    html = run_folder / COST_HTML
    page = render(
        "cost.html.j2",
        name=run.name,
        state=state_of(run),
        facts=facts_of(run),
        cards=cards,
        pictures=drawn.for_page,
        tables=(lives_table(run), prices_table(run)),
        has_report=(run_folder / "report.html").is_file(),
    )
    write_text_atomic(html, page)
    return ReportPaths(html, (png, *drawn.pngs))


def cards_of(run: RunSource) -> list[Card]:
    """The headline numbers, in the order in which they matter."""
    books = run.books
    dollars, idle = books.usd_by_phase, sum(sum(life.unoccupied.values()) for life in books.lives)
    shares = {"useful": books.useful_fraction, "goodput": books.goodput}
    percent = {key: None if share is None else 100 * share for key, share in shares.items()}
    return [
        Card("Cost", numbers.dollars(books.cost_usd) or "no price given", _budget(run)),
        Card("A million tokens", text_or_absent(numbers.dollars(books.usd_per_million_tokens)), _tokens(run)),
        _whole_run(run),
        Card("Trained", number(percent["useful"], ".3g", "%"), "of all time that was paid for"),
        Card(
            "Lost to failures",
            text_or_absent(numbers.dollars(books.lost_usd)),
            f"{counted(books.restarts, 'restart')}, {counted(books.resizes, 'resize')}",
        ),
        Card("Goodput", number(percent["goodput"], ".4g", "%"), "steps not repeated"),
        Card(
            "Time",
            text_or_absent(numbers.hours(books.worker_hours)),
            f"of workers; {numbers.hours(idle / SECONDS_PER_HOUR)} more without one"
            + (f", {numbers.dollars(dollars['idle'])} idle" if dollars else ""),
        ),
        Card("Energy", number(books.energy_kwh, ".3g", " kWh"), _co2(run)),
    ]


def _whole_run(run: RunSource) -> Card:
    """What it costs to the last step: foreseen, or known."""
    row = run.last_row
    if not run.summary.get("stopped", True):
        return Card("Whole run", text_or_absent(numbers.dollars(run.books.cost_usd)), "as it ended")
    low, high = numbers.dollars(row.get("forecast_usd_low")), numbers.dollars(row.get("forecast_usd_high"))
    foreseen = numbers.dollars(row.get("forecast_usd"))
    return Card("Whole run", text_or_absent(foreseen), f"{low} to {high}" if foreseen else "nothing foreseen yet")


def _budget(run: RunSource) -> str:
    budget = (run.config.get("cost") or {}).get("budget_usd")
    if not isinstance(budget, int | float) or run.books.cost_usd is None:
        return "US dollars, over all lives"
    return f"{100 * run.books.cost_usd / budget:.3g}% of the budget of {numbers.dollars(budget)}"


def _tokens(run: RunSource) -> str:
    return f"{numbers.count(run.books.tokens)} trained on"


def _co2(run: RunSource) -> str:
    if run.books.energy_kwh is None:
        return "no meter was read"
    co2 = run.headline("co2_kg")
    return f"{co2:.3g} kg CO₂" if isinstance(co2, int | float) else "as metered"


def lives_table(run: RunSource) -> Table:
    """What each start, restart and resize was, and what it cost."""
    lives = run.books.lives
    left_out = f" The newest {MOST_LIVES} of {len(lives):,}." if len(lives) > MOST_LIVES else ""
    columns = ("life", "began (UTC)", "workers", "steps", "worker hours", "cost", "start-up", "repeated steps", "other")
    return Table(
        "Each start, restart and resize",
        f"Start-up and repeated steps are what a restart or a resize has cost.{left_out}",
        columns,
        tuple(_life_row(life) for life in lives[-MOST_LIVES:]),
    )


def _life_row(life: Life) -> tuple[str, ...]:
    dollars = life.usd_by_phase()
    hours = {phase: seconds / SECONDS_PER_HOUR for phase, seconds in life.seconds_by_phase().items()}
    amounts, written = (hours, numbers.hours) if dollars is None else (dollars, numbers.dollars)
    whole = sum(amounts.values())
    other = whole - amounts[START_UP] - amounts[LOST]
    start, end = life.steps
    return (
        f"{life.number} {life.why}",
        time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(life.time)),
        f"{life.workers:,}" if life.workers else ABSENT,
        f"{start:,} – {end:,}" if life.from_step is not None else "none",
        numbers.hours(life.worker_seconds / SECONDS_PER_HOUR),
        numbers.dollars(whole) if dollars is not None else ABSENT,
        *(written(each) for each in (amounts[START_UP], amounts[LOST], max(0.0, other))),
    )


def prices_table(run: RunSource) -> Table:
    """What was paid for, at which price."""
    with_workers: dict[Rate, float] = {}
    without: dict[Rate, float] = {}
    for life in run.books.lives:
        for rate, phases in life.booked.items():
            with_workers[rate] = with_workers.get(rate, 0.0) + sum(phases.values())
        for rate, seconds in life.unoccupied.items():
            without[rate] = without.get(rate, 0.0) + seconds
    rows = []
    for rate in dict.fromkeys([*with_workers, *without]):
        worked, idle = with_workers.get(rate, 0.0), without.get(rate, 0.0)
        rows.append(
            (
                rate.name,
                "not known" if rate.usd_per_hour is None else f"{numbers.dollars(rate.usd_per_hour)} an hour",
                numbers.hours(worked / SECONDS_PER_HOUR),
                numbers.hours(idle / SECONDS_PER_HOUR),
                text_or_absent(numbers.dollars(rate.usd(worked + idle))),
            )
        )
    return Table(
        "Prices",
        "As they were when the time was booked: a new price makes a new row.",
        ("what", "price", "with a worker", "without one", "cost"),
        tuple(rows),
    )
