"""A run's summary as people read it, and as --json gives it. Decisions are pure."""

from collections.abc import Mapping
from typing import Any

from ssrnn_dist.config import RunConfig
from ssrnn_dist.console import dollars, duration
from ssrnn_launch.cli import output
from ssrnn_launch.local import TrainResult, way_on

HEADINGS = {
    "trained": "trained to its last step",
    "complete": "stands complete; nothing was trained (--fresh starts over beside it)",
    "stopped": "stopped with a checkpoint",
}


def show_summary(result: TrainResult) -> None:
    """The summary on stdout."""
    if output.as_json():
        output.emit_json(summary_object(result))
        return
    why = result.summary.get("stopped_why")
    title = f"{result.config.name}: {HEADINGS[result.state]}" + (
        f" ({why})" if why and result.state == "stopped" else ""
    )
    output.pairs(summary_rows(result.summary), title=title)
    for line in pointers(result.config):
        output.say(line)
    if result.state == "stopped":
        output.say(f"\ngo on with\n  {way_on(result.config)}")


def summary_object(result: TrainResult) -> dict[str, Any]:
    """summary.json's keys, and what this command found and did."""
    return {**result.summary, "state": result.state, "folder": str(result.config.folder)}


def summary_rows(summary: Mapping[str, Any]) -> dict[str, str]:
    """Names and numbers for a person; what is not known says so."""

    def number(key: str, form: str, unit: str = "") -> str:
        value = summary.get(key)
        return "not known" if value is None else f"{value:{form}}{unit}"

    price = summary.get("usd_per_million_tokens")
    return {
        "steps": number("steps", ","),
        "tokens": number("tokens", ","),
        "training loss": number("train_loss", ".4f", " nats/token"),
        "validation loss": number("valid_loss", ".4f", " nats/token"),
        "validation": number("valid_bits_per_byte", ".4f", " bits/byte"),
        "perplexity": number("valid_perplexity", ".2f"),
        "speed": number("tokens_per_second", ",.0f", " tokens/s"),
        "feedback residual": number("feedback_residual", ".4f"),
        "restarts": number("restarts", ","),
        "worker time": _hours(summary.get("worker_hours")),
        "cost": dollars(summary.get("cost_usd")) + ("" if price is None else f" ({dollars(price)} a million tokens)"),
        "energy": number("energy_kwh", ".4f", " kWh"),
        "goodput": number("goodput", ".1%"),
    }


def _hours(hours: float | None) -> str:
    return "not known" if hours is None else f"{hours:.4f} hours ({duration(hours * 3600)})"


def pointers(config: RunConfig) -> list[str]:
    """Where the report and its pictures are, as far as they stand."""
    folder = config.folder
    found = [folder / "report.html", *sorted(folder.glob("**/*.png"))]
    return [str(path) for path in found if path.is_file()]
