"""What the loop's host may give it: where progress goes, when to stop, that it lives. A no-op alone.

Imports nothing; implemented by ssrnn_launch under Ray and by ssrnn_dist.console at a plain terminal."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class StepMetrics:
    """What one logged step tells, the same numbers for the terminal, MLflow and the report.

    Losses are nats per token, means since the last logged step; None: not measured or not known."""

    step: int
    steps: int
    tokens: int
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
    worker_hours: float
    cost_usd: float | None
    usd_per_million_tokens: float | None
    restarts: int
    workers: int
    valid_loss: float | None = None
    valid_perplexity: float | None = None
    valid_bits_per_byte: float | None = None
    probe_cosine: float | None = None  # of the rule's gradient with BPTT's, on a few lanes
    probe_relative_error: float | None = None
    layer_probe_errors: tuple[float, ...] | None = None
    # By corpus: epochs, how often it was read; of a mixture's, when validated, valid_loss and valid_bits_per_byte.
    sources: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class RunHooks:
    """The default host: nobody watches, nobody stops the run. Rank 0 calls report, event and should_stop."""

    def report(self, metrics: StepMetrics) -> None:
        """Called on rank 0 with each logged step's numbers."""

    def event(self, kind: str, **fields: Any) -> None:
        """Called on rank 0 as the run goes from phase to phase: started, resumed, checkpoint, warning."""

    def should_stop(self) -> bool:
        """Asked on rank 0 before each step; true ends the run on every rank, with a checkpoint."""
        return False

    def heartbeat(self, step: int) -> None:
        """Called on every rank after each step."""
