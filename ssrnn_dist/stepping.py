"""What rank 0 tells of a step: its metrics, put together from what all ranks found out, and warnings, each once.

Knows the loop's own types; the books are kept elsewhere, by the host."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ssrnn_data import BadSample
from ssrnn_dist.config import RunConfig
from ssrnn_dist.feedback.fidelity import Fidelity, worst
from ssrnn_dist.hooks import Finished, RunHooks, StepMetrics
from ssrnn_dist.probe import Probe
from ssrnn_dist.tracking.jsonl import JsonLines
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
    workers: int
    train_loss: float
    learning_rate: float
    gradient_norm: float
    layers: tuple[Fidelity, ...]
    sweeps: tuple[int, ...]
    probe: Probe | None
    valid: Validation | None
    epochs: Mapping[str, float]
    validation_seconds: float | None = None
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


def step_metrics(logged: Logged, steps: int, tokens_per_batch: int, watch: Stopwatch) -> StepMetrics:
    """The numbers of a logged step but for what it cost."""
    valid = logged.valid.total if logged.valid else None
    return StepMetrics(
        step=logged.step,
        steps=steps,
        tokens=logged.tokens,
        workers=logged.workers,
        train_loss=logged.train_loss,
        learning_rate=logged.learning_rate,
        gradient_norm=logged.gradient_norm,
        tokens_per_second=watch.steps * tokens_per_batch / max(watch.seconds, 1e-9),
        data_wait_fraction=watch.waited / max(watch.seconds, 1e-9),
        seconds_left=(steps - logged.step) * watch.life_seconds / max(1, watch.life_steps),
        feedback_residual=worst(tuple(layer.residual for layer in logged.layers)),
        feedback_error_estimate=worst(tuple(layer.error_estimate for layer in logged.layers)),
        layer_residuals=tuple(layer.residual for layer in logged.layers),
        layer_error_estimates=tuple(layer.error_estimate for layer in logged.layers),
        layer_sweeps=logged.sweeps,
        probe_cosine=logged.probe.cosine if logged.probe else None,
        probe_relative_error=logged.probe.relative_error if logged.probe else None,
        layer_probe_errors=logged.probe.layer_relative_errors if logged.probe else None,
        valid_loss=valid.loss if valid else None,
        valid_perplexity=valid.perplexity if valid else None,
        valid_bits_per_byte=valid.bits_per_byte if valid else None,
        validation_seconds=logged.validation_seconds,
        sources=by_source(logged.epochs, logged.valid),
    )


class Teller:
    """Rank 0's voice: metrics and warnings to the host; silent on the other ranks, whose hooks nobody hears."""

    def __init__(self, config: RunConfig, hooks: RunHooks) -> None:
        self._config, self._hooks = config, hooks
        self._warned_of_divergence = False
        self._bad_samples = 0

    def log(self, logged: Logged, watch: Stopwatch) -> None:
        """A logged step: its warnings, then its numbers."""
        train = self._config.train
        self._warn_of_divergence(logged)
        self._warn_of_bad_samples(logged.bad_samples)
        self._hooks.report(step_metrics(logged, train.steps, train.tokens_per_batch, watch))

    def finished(
        self,
        step: int,
        tokens: int,
        workers: int,
        found: Validation | None,
        epochs: Mapping[str, float],
        watch: Stopwatch,
    ) -> Finished:
        """How the loop ended."""
        valid = found.total if found else None
        return Finished(
            step=step,
            tokens=tokens,
            workers=workers,
            tokens_per_second=watch.life_steps * self._config.train.tokens_per_batch / max(watch.life_seconds, 1e-9),
            valid_loss=valid.loss if valid else None,
            valid_perplexity=valid.perplexity if valid else None,
            valid_bits_per_byte=valid.bits_per_byte if valid else None,
            sources=by_source(epochs, found),
        )

    def note_new_weights(self, step: int) -> None:
        """The run goes on with a mixture that it did not begin with."""
        self._warn(f"the mixture's weights are new: from step {step:,} on its shares are counted by them")

    def _warn_of_divergence(self, logged: Logged) -> None:
        """Once in a life: which layers' sweeps grew, and what was done instead."""
        layers = ", ".join(str(index) for index, layer in enumerate(logged.layers) if layer.diverged)
        if layers and not self._warned_of_divergence:
            self._warned_of_divergence = True
            self._warn(_what_grew(layers, logged.step, self._config.feedback.refinements))

    def _warn_of_bad_samples(self, count: int) -> None:
        """Whenever there are more."""
        if count > self._bad_samples:
            self._bad_samples = count
            noun = "bad sample" if count == 1 else "bad samples"
            self._warn(f"{count:,} {noun} skipped so far: {self._config.folder / BAD_SAMPLES} says which")

    def _warn(self, message: str) -> None:
        self._hooks.event("warning", message=message)


def _what_grew(layers: str, step: int, refinements: int | str) -> str:
    grew = f"the feedback's sweeps grew in layer {layers} by step {step}"
    if refinements == "auto":
        return f"{grew}; BPTT takes their place there"
    return f"{grew} and were left out there: fewer feedback.refinements, or auto; kind: exact; or a lower learning rate"


def clock() -> float:
    """Seconds of a clock that never goes back."""
    return time.monotonic()
