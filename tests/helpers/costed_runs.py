"""Folders of runs whose ledger and history tell of any lives, by a clock that is only counted: nothing is trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssrnn_dist.config import check_config, to_yaml
from ssrnn_dist.files import write_json_atomic, write_text_atomic
from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.tracking.forecast import Forecaster
from ssrnn_dist.tracking.history import RESUMED_FROM
from ssrnn_dist.tracking.jsonl import JsonLines
from ssrnn_dist.tracking.ledger import Ledger
from ssrnn_dist.tracking.lives import Rate
from ssrnn_dist.tracking.phases import LOST, PHASES, START_UP, TRAINING

BEGAN = 1_700_000_000.0
TOKENS_A_STEP = 100


@dataclass(frozen=True)
class PlannedLife:
    """start_up_seconds, then steps of step_seconds each, on so many workers. why: of Ledger.open_life."""

    from_step: int
    to_step: int
    why: str = "failure"
    workers: int = 2
    start_up_seconds: float = 20.0
    step_seconds: float = 10.0
    phases: dict[str, float] = field(default_factory=dict)  # seconds more of each, spread over the steps
    idle_places: int = 0


def falling(step: int) -> float:
    return 8 / step + 2


def make_run(
    root: Path,
    lives: Sequence[PlannedLife] = (PlannedLife(0, 20),),
    *,
    name: str = "a-run",
    usd_per_worker_hour: float | None = 0.5,
    layers: int = 2,
    steps: int = 100,
    loss: Callable[[int], float] = falling,
    change: Callable[[int, dict[str, Any]], None] = lambda step, row: None,
    summary: dict[str, Any] | None = None,
    began: float = BEGAN,
    **sections: Any,
) -> Path:
    """runs/<name> as such a run would have left it; its folder."""
    config = check_config({"name": name, "run_root": str(root), "data": {"index": "corpus"}, **sections})
    folder = config.folder
    folder.mkdir(parents=True)
    write_text_atomic(folder / "config.yaml", to_yaml(config))
    now = [0.0]
    rate = Rate("worker", usd_per_worker_hour)
    ledger: Ledger | None = None
    for life in lives:
        if ledger is None or life.why == "resumed":  # by another command, a minute later
            if ledger is not None:
                ledger.close()
            now[0] += 60.0
            ledger = Ledger(folder / "ledger.jsonl", clock=lambda: now[0], wall=lambda: began + now[0])
        _live(life, ledger, rate, now, folder, steps, layers, loss, change, began)
        for worker in range(life.workers):
            ledger.release(str(worker))
    if ledger is not None:
        ledger.close()
    if summary is not None:
        write_json_atomic(folder / "summary.json", {"steps": lives[-1].to_step, "stopped": False, **summary})
    return folder


def _live(
    life: PlannedLife,
    ledger: Ledger,
    rate: Rate,
    now: list[float],
    folder: Path,
    steps: int,
    layers: int,
    loss: Callable[[int], float],
    change: Callable[[int, dict[str, Any]], None],
    began: float,
) -> None:
    reached = ledger.totals().reached_step
    ledger.open_life(life.why)
    workers = [str(rank) for rank in range(life.workers)]
    for worker in workers:
        ledger.hire(worker, rate)
    ledger.rent({rate: life.idle_places})
    told = dict.fromkeys(PHASES, 0.0)
    now[0] += life.start_up_seconds
    told[START_UP] += life.start_up_seconds
    ledger.begin(life.from_step, life.from_step * TOKENS_A_STEP, life.workers)
    lines = JsonLines(folder / "metrics.jsonl")
    lines.append({RESUMED_FROM: life.from_step})
    forecaster, count = Forecaster(steps), max(1, life.to_step - life.from_step)
    for step in range(life.from_step + 1, life.to_step + 1):
        told[LOST if step <= reached else TRAINING] += life.step_seconds
        for phase, seconds in life.phases.items():
            told[phase] += seconds / count
        now[0] += life.step_seconds + sum(life.phases.values()) / count
        for worker in workers:
            ledger.pulse(worker, TRAINING, told)
        ledger.reach(step, step * TOKENS_A_STEP)
        row = row_at(step, steps, ledger, layers, life.workers, loss(step), forecaster)
        change(step, row)
        lines.append({**StepMetrics(**row).as_dict(), "time": round(began + now[0], 3)})
    lines.close()


def row_at(
    step: int, steps: int, ledger: Ledger, layers: int, workers: int, loss: float, forecaster: Forecaster
) -> dict[str, Any]:
    totals = ledger.totals()
    foreseen = forecaster.look(step, totals.cost_usd)
    valid = step % 5 == 0
    return {
        "step": step,
        "steps": steps,
        "tokens": step * TOKENS_A_STEP,
        "train_loss": loss,
        "learning_rate": 1e-3,
        "gradient_norm": 1.0,
        "tokens_per_second": 10.0,
        "data_wait_fraction": 0.0,
        "seconds_left": 1.0,
        "feedback_residual": 0.1 if layers else None,
        "feedback_error_estimate": None,
        "layer_residuals": tuple(0.1 * (each + 1) for each in range(layers)),
        "layer_error_estimates": tuple(None if step % 2 else 0.0 for _ in range(layers)),
        "layer_sweeps": (1,) * layers,
        "worker_hours": totals.worker_hours,
        "cost_usd": totals.cost_usd,
        "usd_per_million_tokens": totals.usd_per_million_tokens,
        "lost_usd": totals.lost_usd,
        "goodput": totals.goodput,
        "restarts": totals.restarts,
        "resizes": totals.resizes,
        "workers": workers,
        "valid_loss": loss + 0.1 if valid else None,
        "valid_perplexity": 20.0 if valid else None,
        "valid_bits_per_byte": 1.5 if valid else None,
        "forecast_usd": foreseen.usd if foreseen else None,
        "forecast_usd_low": foreseen.low if foreseen else None,
        "forecast_usd_high": foreseen.high if foreseen else None,
    }
