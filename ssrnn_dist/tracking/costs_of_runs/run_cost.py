"""What one run has cost, and how its loss went with it, wherever that was read. Data only.

Imports the standard library only."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

METRICS = ("valid_loss", "train_loss")


@dataclass(frozen=True)
class Spent:
    """time: Unix seconds.  cost_usd: of the run until then, None where no price is known."""

    time: float
    worker_hours: float
    cost_usd: float | None


@dataclass(frozen=True)
class RunCost:
    """One run over all its lives. None: not known.

    began: Unix seconds.  train_loss, valid_loss: of the furthest logged step, as it was logged last.
    spent: how hours and dollars grew, by time.  train_losses, valid_losses: (step, loss).  cost_at_step: (step,
    dollars) when a step was first reached.  All of them are empty where no history was asked for."""

    name: str
    run_id: str | None
    project: str
    status: str
    began: float | None
    worker_hours: float
    cost_usd: float | None
    tokens: int
    train_loss: float | None
    valid_loss: float | None
    goodput: float | None
    lost_usd: float | None
    energy_kwh: float | None
    spent: Sequence[Spent] = ()
    train_losses: Sequence[tuple[int, float]] = ()
    valid_losses: Sequence[tuple[int, float]] = ()
    cost_at_step: Sequence[tuple[int, float]] = ()

    @property
    def age(self) -> tuple[bool, float]:
        """To sort by: the oldest first, and last what has not begun."""
        return self.began is None, self.began or 0.0

    @property
    def usd_per_million_tokens(self) -> float | None:
        return None if self.cost_usd is None or not self.tokens else self.cost_usd / self.tokens * 1e6

    def losses(self, metric: str) -> Sequence[tuple[int, float]]:
        return {"train_loss": self.train_losses, "valid_loss": self.valid_losses}[metric]


def first_by_step(pairs: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Of pairs in the order of time, the first of each step, by ascending step: what was spent when it was reached."""
    first: dict[int, float] = {}
    for step, value in pairs:
        first.setdefault(step, value)
    return sorted(first.items())


def last_by_step(pairs: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Of pairs in the order of time, the last of each step that is a number, by ascending step."""
    return sorted({step: value for step, value in pairs if math.isfinite(value)}.items())
