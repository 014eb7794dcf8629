"""Which checkpoints stay and which go: a pure function of their steps.

Imports nothing of ours."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Retention:
    """The newest `keep` stay, and those at multiples of keep_every_steps; None: no others."""

    keep: int
    keep_every_steps: int | None = None


def steps_to_forget(steps: Iterable[int], saved: int, retention: Retention) -> list[int]:
    """The steps, ascending, whose checkpoints go once that of step `saved` stands.

    Later ones are of a future that was torn and is run anew: they count for nothing and are written over."""
    until_now = sorted({step for step in steps if step <= saved} | {saved})
    every = retention.keep_every_steps
    return [step for step in until_now[: -retention.keep] if every is None or step % every]
