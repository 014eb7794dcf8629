"""How seconds that a clock counted are divided as a worker tells, and sums by key. Pure.

Imports the standard library only."""

import math
from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")


def divided(elapsed: float, told: Mapping[str, float], phase: str) -> dict[str, float]:
    """Elapsed seconds by phase: what was told, made smaller where it is too much; the rest goes into `phase`."""
    whole = sum(told.values())
    share = min(1.0, elapsed / whole) if whole else 0.0
    parts = {each: seconds * share for each, seconds in told.items() if seconds * share}
    rest = max(0.0, elapsed - math.fsum(parts.values()))
    return summed(parts, {phase: rest})


def more(told: float | None, before: float) -> float:
    """By how much a number that only grows has grown; nonsense has not."""
    return max(0.0, told - before) if told is not None and math.isfinite(told) else 0.0


def summed(one: Mapping[Key, float], other: Mapping[Key, float]) -> dict[Key, float]:
    return {**one, **{key: one.get(key, 0.0) + each for key, each in other.items()}}
