"""What rank 0 writes down as a run goes on: ledger, history, MLflow, the host's progress and the summary.

Other ranks hold none of it; nothing here touches the model. Losses are nats per token, times seconds."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ssrnn_data import BadSample
from ssrnn_dist.config import RunConfig
from ssrnn_dist.feedback.fidelity import Fidelity, worst
from ssrnn_dist.files import write_json_atomic
from ssrnn_dist.hooks import RunHooks, StepMetrics
from ssrnn_dist.probe import Probe
from ssrnn_dist.tracking.history import History
from ssrnn_dist.tracking.jsonl import JsonLines
from ssrnn_dist.tracking.ledger import Ledger
from ssrnn_dist.tracking.report import build_report
from ssrnn_dist.tracking.tracker import Tracker
from ssrnn_dist.validation import Validation

BAD_SAMPLES = "bad_samples.jsonl"


@dataclass
class Stopwatch:
    """Seconds of training and of waiting for data since the last logged step, and over this life of the run."""

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    life_steps: int = 0
    life_seconds: float = 0.0

    def add(self, waited: float, trained: float) -> None:
        """One step: how long its batch took to come, and how long it took to learn from it."""
        self.steps += 1
        self.life_steps += 1
        self.seconds += waited + trained
        self.life_seconds += waited + trained
        self.waited += waited

    def restart(self) -> None:
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0


@dataclass(frozen=True)
class Logged:
    """What all ranks found out together since the last logged step."""

    step: int
    tokens: int
    train_loss: float
    learning_rate: float
    gradient_norm: float
    layers: tuple[Fidelity, ...]
    sweeps: tuple[int, ...]
    probe: Probe | None
    valid: Validation | None
    epochs: Mapping[str, float]
    bad_samples: int = 0  # skipped in this life


def by_source(epochs: Mapping[str, float], valid: Validation | None) -> dict[str, dict[str, float]]:
    """What is known of each corpus, by its name: epochs, and of a mixture's the loss of the held-out split."""
    known = {name: {"epochs": count} for name, count in epochs.items()}
    if valid is not None and len(epochs) > 1:
        for name, found in valid.by_source.items():
            known[name] |= {"valid_loss": found.loss, "valid_bits_per_byte": found.bits_per_byte}
    return known


def note_bad_samples(folder: Path, step: int, rank: int, bad: Sequence[BadSample]) -> None:
    """Append to runs/<name>/bad_samples.jsonl what a rank had to skip; every rank calls this."""
    if bad:
        lines = JsonLines(folder / BAD_SAMPLES)
        for each in bad:
            lines.append({"step": step, "rank": rank, **asdict(each)})
        lines.close()


class Books:
    """The books of one life of a run, on rank 0."""

    def __init__(self, config: RunConfig, hooks: RunHooks, from_step: int, tokens: int, workers: int) -> None:
        self.config, self.hooks, self.workers = config, hooks, workers
        folder = config.folder
        price = config.cost.usd_per_worker_hour
        self.ledger = Ledger(folder / "ledger.jsonl", workers=workers, usd_per_worker_hour=price, from_step=from_step)
        self.history = History(folder / "metrics.jsonl", from_step)
        self.tracker = Tracker(config, run_folder=folder, warn=lambda message: hooks.event("warning", message=message))
        self.last: StepMetrics | None = None
        self._warned_of_divergence = False
        self._bad_samples = 0
        hooks.event("resumed" if from_step else "started", step=from_step, tokens=tokens, workers=workers)
        if price is None:
            hooks.event("warning", message="no price is given, so the cost is not known: cost.usd_per_worker_hour")

    def log(self, logged: Logged, watch: Stopwatch) -> None:
        """Write a logged step down everywhere."""
        self.ledger.beat(logged.step, logged.tokens)
        cost = self.ledger.cost(logged.tokens)
        train = self.config.train
        valid = logged.valid.total if logged.valid else None
        metrics = StepMetrics(
            step=logged.step,
            steps=train.steps,
            tokens=logged.tokens,
            train_loss=logged.train_loss,
            learning_rate=logged.learning_rate,
            gradient_norm=logged.gradient_norm,
            tokens_per_second=watch.steps * train.tokens_per_batch / max(watch.seconds, 1e-9),
            data_wait_fraction=watch.waited / max(watch.seconds, 1e-9),
            seconds_left=(train.steps - logged.step) * watch.life_seconds / max(1, watch.life_steps),
            feedback_residual=worst(tuple(layer.residual for layer in logged.layers)),
            feedback_error_estimate=worst(tuple(layer.error_estimate for layer in logged.layers)),
            layer_residuals=tuple(layer.residual for layer in logged.layers),
            layer_error_estimates=tuple(layer.error_estimate for layer in logged.layers),
            layer_sweeps=logged.sweeps,
            probe_cosine=logged.probe.cosine if logged.probe else None,
            probe_relative_error=logged.probe.relative_error if logged.probe else None,
            layer_probe_errors=logged.probe.layer_relative_errors if logged.probe else None,
            worker_hours=cost.worker_hours,
            cost_usd=cost.cost_usd,
            usd_per_million_tokens=cost.usd_per_million_tokens,
            restarts=self.ledger.restarts,
            workers=self.workers,
            valid_loss=valid.loss if valid else None,
            valid_perplexity=valid.perplexity if valid else None,
            valid_bits_per_byte=valid.bits_per_byte if valid else None,
            sources=by_source(logged.epochs, logged.valid),
        )
        self._warn_of_divergence(logged)
        self._warn_of_bad_samples(logged.bad_samples)
        self.last = metrics
        self.history.append(metrics)
        self.tracker.log(metrics)
        self.hooks.report(metrics)

    def note_new_weights(self, step: int) -> None:
        """The run goes on with a mixture that it did not begin with."""
        message = f"the mixture's weights are new: from step {step:,} on its shares are counted by them"
        self.hooks.event("warning", message=message)

    def _warn_of_divergence(self, logged: Logged) -> None:
        """Once in a life: which layers' sweeps grew, and what was done instead."""
        layers = ", ".join(str(index) for index, layer in enumerate(logged.layers) if layer.diverged)
        if layers and not self._warned_of_divergence:
            self._warned_of_divergence = True
            self.hooks.event("warning", message=_what_grew(layers, logged.step, self.config.feedback.refinements))

    def _warn_of_bad_samples(self, count: int) -> None:
        """Whenever there are more."""
        if count > self._bad_samples:
            self._bad_samples = count
            which = f"{self.config.folder / BAD_SAMPLES} says which"
            noun = "bad sample" if count == 1 else "bad samples"
            self.hooks.event("warning", message=f"{count:,} {noun} skipped so far: {which}")

    def finish(
        self, step: int, tokens: int, found: Validation | None, epochs: Mapping[str, float], watch: Stopwatch
    ) -> dict[str, Any]:
        """Write summary.json and the report, close the MLflow run, and return the summary."""
        valid = found.total if found else None
        self.ledger.beat(step, tokens)
        cost = self.ledger.cost(tokens)
        stopped = step < self.config.train.steps
        summary = {
            "run": self.config.name,
            "mlflow_run_id": self.tracker.run_id,
            "steps": step,
            "tokens": tokens,
            "train_loss": self.last.train_loss if self.last else None,
            "valid_loss": valid.loss if valid else None,
            "valid_perplexity": valid.perplexity if valid else None,
            "valid_bits_per_byte": valid.bits_per_byte if valid else None,
            "sources": by_source(epochs, found),
            "tokens_per_second": watch.life_steps * self.config.train.tokens_per_batch / max(watch.life_seconds, 1e-9),
            "feedback_residual": self.last.feedback_residual if self.last else None,
            "restarts": self.ledger.restarts,
            "worker_hours": cost.worker_hours,
            "cost_usd": cost.cost_usd,
            "usd_per_million_tokens": cost.usd_per_million_tokens,
            "energy_kwh": None,  # nothing here reads a meter yet, and none is invented
            "goodput": self.ledger.totals().goodput,
            "workers": self.workers,
            "stopped": stopped,
        }
        write_json_atomic(self.config.folder / "summary.json", summary)
        self.tracker.artifact(self.config.folder / "config.yaml")
        self.tracker.artifact(self.config.folder / "summary.json")
        if self.config.tracking.report and not stopped:
            self.tracker.artifact(build_report(self.config.folder).html)
        self.close("KILLED" if stopped else "FINISHED")
        return summary

    def close(self, status: str) -> None:
        """End the MLflow run with FINISHED, KILLED or FAILED, and close the files."""
        self.tracker.finish(status)
        self.ledger.close()
        self.history.close()


def _what_grew(layers: str, step: int, refinements: int | str) -> str:
    grew = f"the feedback's sweeps grew in layer {layers} by step {step}"
    if refinements == "auto":
        return f"{grew}; BPTT takes their place there"
    return f"{grew} and were left out there: fewer feedback.refinements, or auto; kind: exact; or a lower learning rate"


def clock() -> float:
    """Seconds of a clock that never goes back."""
    return time.monotonic()
