"""The books of a run, in its host: ledger, history, MLflow, forecast, budget, and the summary that comes of them.

One process keeps them, whatever the loop's ranks do. Losses are nats per token, times seconds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssrnn_dist.checkpoint.names import steps_in
from ssrnn_dist.config import RunConfig
from ssrnn_dist.files import write_json_atomic
from ssrnn_dist.hooks import Finished, StepMetrics
from ssrnn_dist.problems import RunFailed
from ssrnn_dist.tracking.budget import CHECKPOINT_SECONDS, Budget, check_budget, seconds_to_stop
from ssrnn_dist.tracking.forecast import Forecaster
from ssrnn_dist.tracking.history import HISTORY, History, last_step
from ssrnn_dist.tracking.ledger import LEDGER, Ledger
from ssrnn_dist.tracking.process import process_age_seconds
from ssrnn_dist.tracking.register import MODEL_FOLDER, export_weights, version_tags
from ssrnn_dist.tracking.report import OverviewKeeper, build_report
from ssrnn_dist.tracking.totals import Totals
from ssrnn_dist.tracking.tracker import Tracker


def furthest_step(folder: Path, booked: Totals) -> int:
    """The furthest step that any life of a run has made; what a later one does before it, it repeats.

    The ledger of a command that was killed may be behind its history and its checkpoints."""
    return max([booked.reached_step, last_step(folder / HISTORY), *steps_in(folder / "checkpoints")])


class Books:
    """The books of a run, open for one command, over as many lives of its worker group as there are."""

    def __init__(self, config: RunConfig, tell: Callable[[str, dict[str, Any]], None]) -> None:
        """tell: hears of what a person should know, as an event's kind and fields; from any thread.

        UserError where tracking.uri is no address that MLflow takes; OSError where the folder can't be written."""
        self.config, self._say = config, tell
        self.ledger = Ledger(config.folder / LEDGER, command_age_seconds=process_age_seconds())
        self.reached_step = furthest_step(config.folder, self.ledger.totals())
        self.ledger.found_reached(self.reached_step)
        check_budget(config.cost.budget_usd, self.ledger.totals())
        self.tracker = Tracker(config, run_folder=config.folder, tell=tell)
        draws = config.tracking.report
        self._overview = OverviewKeeper(config.folder, self.tracker.artifact, self._warn) if draws else None
        self.budget = Budget(config.cost.budget_usd)
        self._forecaster = Forecaster(config.train.steps)
        self._history: History | None = None
        self._last: StepMetrics | None = None
        self._step_seconds, self._checkpoint_seconds, self._validation_seconds = 0.0, CHECKPOINT_SECONDS, 0.0
        self._saved = False
        if config.remote_folder is not None and config.tracking.uri is None:
            self._warn("MLflow's SQLite is this node's alone: tracking.uri keeps one run over all clusters")
        if not config.cost.is_priced:
            self._warn("no price is given, so the cost is not known: cost.usd_per_worker_hour")

    def event(self, kind: str, fields: dict[str, Any]) -> None:
        """Something that happened to the run, for its page in MLflow; what checkpoints take, for the budget."""
        if kind == "checkpoint":
            self._note_checkpoint(fields.get("seconds", 0.0))
        self.tracker.event(kind, fields)

    def _tell(self, kind: str, fields: dict[str, Any]) -> None:
        self._say(kind, fields)
        self.event(kind, fields)

    def _warn(self, message: str) -> None:
        self._tell("warning", {"message": message})

    def begin(self, step: int, tokens: int, workers: int) -> None:
        """A worker group begins to train."""
        if self._history is not None:
            self._history.close()
        self._history = History(self.config.folder / HISTORY, step)
        self.ledger.begin(step, tokens, workers)
        self._tell("resumed" if step else "started", {"step": step, "tokens": tokens, "workers": workers})

    def report(self, metrics: StepMetrics) -> StepMetrics:
        """Write a logged step down everywhere; the step with what it costs."""
        self.ledger.reach(metrics.step, metrics.tokens)
        self.ledger.beat()
        totals = self.ledger.totals()
        metrics = self._with_cost(metrics, totals)
        self._validation_seconds = max(self._validation_seconds, metrics.validation_seconds or 0.0)
        self._step_seconds = self.config.train.tokens_per_batch / max(metrics.tokens_per_second, 1e-9)
        self._last = metrics
        at = None if self._history is None else self._history.append(metrics)
        self.tracker.log(metrics, at)
        return metrics

    def _note_checkpoint(self, seconds: float) -> None:
        """How long it took to save; what a stop is foreseen to take."""
        self._checkpoint_seconds = max(seconds, self._checkpoint_seconds if self._saved else 0.0)
        self._saved = True

    def tick(self) -> bool:
        """Now and then: write the ledger's row, look at the budget, tell MLflow; True: the money is used up."""
        self.ledger.beat()
        totals = self.ledger.totals()
        self.tracker.log_cost(totals)
        needed = seconds_to_stop(self._step_seconds, self._checkpoint_seconds, self._validation_seconds)
        begun = bool(totals.lives) and totals.lives[-1].has_begun
        told = self.budget.look(totals.cost_usd, self.ledger.usd_per_second(), needed, begun)
        if told is not None:
            self._warn(told)
        if self._overview is not None:
            self._overview.tick()
        return self.budget.is_used_up

    def finish(self, finished: Finished, stopped_why: str | None = None) -> dict[str, Any]:
        """Close the ledger, write summary.json and the report, close the MLflow run; the summary."""
        self.ledger.reach(finished.step, finished.tokens)
        self.ledger.close()
        totals = self.ledger.totals()
        folder, stopped = self.config.folder, finished.step < self.config.train.steps
        summary = self._summary(finished, totals) | {"stopped_why": stopped_why if stopped else None}
        write_json_atomic(folder / "summary.json", summary)
        self.tracker.log_cost(totals, at_once=True)
        for name in ("config.yaml", "summary.json"):
            self.tracker.artifact(folder / name)
        if self._overview is not None and not stopped:  # who stops a run has seconds; the pages were drawn minutes ago
            self._overview.finish()
            self.tracker.artifact(build_report(folder).html)
        if self.config.tracking.register_model is not None and not stopped:
            self._register(self.config.tracking.register_model, summary)
        self._close("KILLED" if stopped else "FINISHED")
        return summary

    def fail(self, status: str = "FAILED", *, at_once: bool = False) -> None:
        """The run ends without a summary; status as MLflow has it: FAILED or KILLED.

        at_once: there is no time to draw or to send; the next command sends what waits.  Books that can't be closed are
        told of as a warning: why the run failed is for the caller to say."""
        try:
            self.ledger.close()
        except (OSError, RunFailed) as error:
            self._warn(f"what was spent last is not in the ledger: {error}")
        if at_once:
            return
        self.tracker.log_cost(self.ledger.totals(), at_once=True)
        if self._overview is not None and self.config.folder.is_dir():  # one that was removed is not made again
            self._overview.finish()
        self._close(status)

    def _register(self, name: str, summary: dict[str, Any]) -> None:
        run = self.config.remote_folder or self.config.folder
        weights = export_weights(run, self.config.folder / MODEL_FOLDER)
        self.tracker.register_model(weights, name, version_tags(summary))

    def _close(self, status: str) -> None:
        self.tracker.finish(status)
        if self._history is not None:
            self._history.close()

    def _with_cost(self, metrics: StepMetrics, totals: Totals) -> StepMetrics:
        forecast = self._forecaster.look(
            metrics.step,
            totals.cost_usd,
            self.ledger.usd_per_second(),
            life=totals.lives[-1].number,
            workers=metrics.workers,
        )
        return replace(
            metrics,
            worker_hours=totals.worker_hours,
            cost_usd=totals.cost_usd,
            usd_per_million_tokens=totals.usd_per_million_tokens,
            lost_usd=totals.lost_usd,
            energy_kwh=totals.energy_kwh,
            co2_kg=self._co2_kg(totals),
            goodput=totals.goodput,
            restarts=totals.restarts,
            resizes=totals.resizes,
            forecast_usd=forecast.usd if forecast else None,
            forecast_usd_low=forecast.low if forecast else None,
            forecast_usd_high=forecast.high if forecast else None,
        )

    def _co2_kg(self, totals: Totals) -> float | None:
        grams = self.config.cost.grid_gco2_per_kwh
        return None if grams is None or totals.energy_kwh is None else totals.energy_kwh * grams / 1000

    def _summary(self, finished: Finished, totals: Totals) -> dict[str, Any]:
        last = self._last
        return {
            "run": self.config.name,
            "mlflow_run_id": self.tracker.wait_for_run(),
            "steps": finished.step,
            "tokens": finished.tokens,
            "train_loss": last.train_loss if last else None,
            "valid_loss": finished.valid_loss,
            "valid_perplexity": finished.valid_perplexity,
            "valid_bits_per_byte": finished.valid_bits_per_byte,
            "sources": dict(finished.sources),
            "tokens_per_second": finished.tokens_per_second,
            "feedback_residual": last.feedback_residual if last else None,
            "restarts": totals.restarts,
            "resizes": totals.resizes,
            "worker_hours": totals.worker_hours,
            "idle_hours": totals.idle_hours,
            "cost_usd": totals.cost_usd,
            "usd_per_million_tokens": totals.usd_per_million_tokens,
            "usd_by_phase": totals.usd_by_phase,
            "seconds_by_phase": totals.seconds_by_phase,
            "lost_usd": totals.lost_usd,
            "energy_kwh": totals.energy_kwh,
            "co2_kg": self._co2_kg(totals),
            "goodput": totals.goodput,
            "workers": finished.workers,
            "stopped": finished.step < self.config.train.steps,
        }
