"""A run's numbers as MLflow's metrics: their names, and those that only ever grow. Pure.

Imports the hooks and the totals only."""

import re
from collections.abc import Mapping
from typing import Any

from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.tracking.totals import Totals

PER_LAYER = {
    "layer_residuals": "feedback_residual",
    "layer_error_estimates": "feedback_error_estimate",
    "layer_sweeps": "feedback_sweeps",
    "layer_probe_errors": "probe_relative_error",
}
NOT_METRICS = ("step", "steps", "time")
GROWING = ("cost_usd", "worker_hours", "energy_kwh", "co2_kg", "restarts", "resizes")
BY_PHASE = ("usd/", "hours/")  # time may move from one phase to another as workers tell of it
# Of the whole run until now, whatever step is done again: they are logged at the furthest step.
OF_THE_BOOKS = (
    *GROWING,
    "lost_usd",
    "usd_per_million_tokens",
    "goodput",
    "useful_fraction",
    "workers",
    "forecast_usd",
    "forecast_usd_low",
    "forecast_usd_high",
)


def metric_values(metrics: StepMetrics | Mapping[str, Any]) -> dict[str, float]:
    """MLflow's metrics of a step: None left out, one key a layer (feedback_residual/layer_0), a corpus (epochs/web).

    metrics: a logged step, or its row of metrics.jsonl."""
    values: dict[str, float] = {}
    row = metrics.as_dict() if isinstance(metrics, StepMetrics) else metrics
    for key, value in row.items():
        if value is None or key in NOT_METRICS:
            continue
        if key in PER_LAYER:
            layers = {f"{PER_LAYER[key]}/layer_{index}": each for index, each in enumerate(value)}
            values.update({name: float(each) for name, each in layers.items() if each is not None})
        elif key == "sources":
            for name, numbers in value.items():
                values.update({f"{number}/{as_key(name)}": float(each) for number, each in numbers.items()})
        else:
            values[key] = float(value)
    return values


def cost_values(totals: Totals) -> dict[str, float]:
    """MLflow's metrics of what was spent; what is not known is left out."""
    values = {
        "cost_usd": totals.cost_usd,
        "worker_hours": totals.worker_hours,
        "usd_per_million_tokens": totals.usd_per_million_tokens,
        "lost_usd": totals.lost_usd,
        "energy_kwh": totals.energy_kwh,
        "goodput": totals.goodput,
        "useful_fraction": totals.useful_fraction,
        "restarts": totals.restarts,
        "resizes": totals.resizes,
    }
    by_phase = {f"usd/{phase}": usd for phase, usd in (totals.usd_by_phase or {}).items()}
    hours = {f"hours/{phase}": seconds / 3600 for phase, seconds in totals.seconds_by_phase.items()}
    return {key: float(value) for key, value in {**values, **by_phase, **hours}.items() if value is not None}


def system_values(node: str, values: Mapping[str, float]) -> dict[str, float]:
    """A node's numbers under the names that MLflow's page of system metrics looks for."""
    return {f"system/{as_key(node)}/{key}": float(value) for key, value in values.items()}


def only_grows(key: str) -> bool:
    return key in GROWING


def is_of_the_books(key: str) -> bool:
    return key in OF_THE_BOOKS or key.startswith(BY_PHASE)


def as_key(name: str) -> str:
    """A name, of a corpus or a node, as a part of a metric's that MLflow takes."""
    return re.sub(r"[^\w.\- ]|^\.*$", "_", name)[:200]
