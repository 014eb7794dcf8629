"""What the loop and its host tell each other: progress, phases, when to stop, that it lives.

Imports phases only; alone.py hosts a loop by itself, ssrnn_launch hosts it under Ray."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ssrnn_dist.tracking.phases import PhaseClock


@dataclass(frozen=True)
class StepMetrics:
    """What one logged step tells, the same numbers for the terminal, MLflow and the report.

    Losses are nats per token, means since the last logged step; None: not measured or not known.
    The loop fills in all but the last part, which its host adds."""

    step: int
    steps: int
    tokens: int
    workers: int
    train_loss: float
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float
    data_wait_fraction: float
    seconds_left: float
    feedback_residual: float | None
    feedback_error_estimate: float | None
    layer_residuals: tuple[float | None, ...]
    layer_error_estimates: tuple[float | None, ...]
    layer_sweeps: tuple[int, ...]
    valid_loss: float | None = None
    valid_perplexity: float | None = None
    valid_bits_per_byte: float | None = None
    validation_seconds: float | None = None
    probe_cosine: float | None = None  # of the rule's gradient with BPTT's, on a few lanes
    probe_relative_error: float | None = None
    layer_probe_errors: tuple[float, ...] | None = None
    # By corpus: epochs, how often it was read; of a mixture's, when validated, valid_loss and valid_bits_per_byte.
    sources: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    # Of the whole run, over all its restarts, from the ledger:
    worker_hours: float = 0.0
    cost_usd: float | None = None
    usd_per_million_tokens: float | None = None
    lost_usd: float | None = None
    energy_kwh: float | None = None
    co2_kg: float | None = None
    goodput: float | None = None
    restarts: int = 0
    resizes: int = 0
    # The whole run's cost as it can be foreseen, and between what it will be nine times of ten.
    forecast_usd: float | None = None
    forecast_usd_low: float | None = None
    forecast_usd_high: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Finished:
    """How the loop ended, in one life: at its last step or because it was told to stop."""

    step: int
    tokens: int
    workers: int
    tokens_per_second: float
    valid_loss: float | None = None
    valid_perplexity: float | None = None
    valid_bits_per_byte: float | None = None
    sources: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class RunHooks:
    """The default host: nobody watches, nobody stops the run, no books are kept.

    clock: what this process's time goes into; the loop turns it.
    reached_step: as far as an earlier life came; steps until there are repeated."""

    def __init__(self, clock: PhaseClock | None = None, reached_step: int = 0) -> None:
        self.clock = clock or PhaseClock()
        self.reached_step = reached_step

    def begin(self, step: int, tokens: int, workers: int) -> None:
        """Called on rank 0 when the loop is about to make its first step of this life."""

    def report(self, metrics: StepMetrics) -> None:
        """Called on rank 0 with each logged step's numbers."""

    def event(self, kind: str, **fields: Any) -> None:
        """Called on rank 0 as the run goes from phase to phase: checkpoint, warning."""

    def should_stop(self) -> bool:
        """Asked on rank 0 before each step; true ends the loop on every rank, with a checkpoint."""
        return False

    def heartbeat(self, step: int) -> None:
        """Called on every rank after each step."""

    def finish(self, finished: Finished) -> dict[str, Any]:
        """Called on rank 0 at the end, the last checkpoint written; the run's summary, if it is written here."""
        return {}

    def close(self, failed: bool) -> None:
        """Called on every rank when the loop has ended, however it did."""
