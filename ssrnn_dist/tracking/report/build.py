"""Builds a run's report: runs/<name>/report.html, one self-contained file, and runs/<name>/pictures/*.png.

Imports the report's own files; jinja2 and matplotlib inside functions."""

from pathlib import Path

from ssrnn_dist.files import write_text_atomic
from ssrnn_dist.tracking.report import numbers
from ssrnn_dist.tracking.report.overview import COST_HTML
from ssrnn_dist.tracking.report.page import (
    Card,
    ReportPaths,
    counted,
    draw,
    facts_of,
    finite,
    number,
    render,
    state_of,
    text_or_absent,
)
from ssrnn_dist.tracking.report.pictures import pictures_of
from ssrnn_dist.tracking.report.source import RunSource, read_run


def build_report(run_folder: Path) -> ReportPaths:
    """Read what stands in a run's folder and write its report, also of a run that is under way.

    Raises OSError where the folder cannot be written; what stood there before then stays whole."""
    run = read_run(run_folder)
    drawn = draw(run, pictures_of(run), run_folder / "pictures")
    html = run_folder / "report.html"
    page = render(
        "template.html.j2",
        name=run.name,
        state=state_of(run),
        facts=facts_of(run),
        cards=cards_of(run),
        pictures=drawn.for_page,
        sample=run.sample,
        config=run.config_text.strip("\n"),
        mlflow_run_id=run.summary.get("mlflow_run_id"),
        has_costs=(run_folder / COST_HTML).is_file(),
    )
    write_text_atomic(html, page)
    return ReportPaths(html, drawn.pngs)


def cards_of(run: RunSource) -> list[Card]:
    """The headline numbers, in the order in which they matter."""
    books = run.books
    cost, hours = run.headline("cost_usd"), run.headline("worker_hours")
    per_million = run.headline("usd_per_million_tokens")
    restarts = run.summary.get("restarts", books.restarts)
    goodput = run.summary.get("goodput", books.goodput)
    repeated = books.executed_steps - books.distinct_steps
    return [
        Card("Validation", number(run.headline("valid_bits_per_byte"), ".3f"), "bits per byte"),
        Card("Perplexity", number(run.headline("valid_perplexity"), ".4g"), "validation, per token"),
        Card("Tokens", text_or_absent(numbers.count(run.headline("tokens"))), "trained on"),
        Card("Speed", text_or_absent(numbers.count(finite(run.headline("tokens_per_second")))), "tokens per second"),
        Card("Worker hours", number(hours, ".3g"), "over all restarts"),
        Card(
            "Cost",
            numbers.dollars(cost) if cost is not None else "no price given",
            f"{numbers.dollars(per_million)} per million tokens" if per_million is not None else "US dollars",
        ),
        Card("Restarts", f"{restarts:,}", "none" if not restarts else f"{counted(repeated, 'step')} repeated"),
        Card("Goodput", number(goodput and 100 * goodput, ".4g", "%"), "steps not repeated"),
    ]
