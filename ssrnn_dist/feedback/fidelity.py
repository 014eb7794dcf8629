"""How near a layer's feedback came to BPTT: the residual of its last sweep, and an estimate of the error left.

Pure functions of sums that add up over micro-batches and ranks (docs/method.md, "The residual")."""

import math
from dataclasses import dataclass

from torch import Tensor

MOST_SWEEPS = 16  # of `refinements: auto`
BY_BPTT = MOST_SWEEPS + 1  # beyond, `auto` goes back step by step, as BPTT does: cheaper, and exact
SURELY = 0.5  # a sweep is dropped where the error without it is under this part of the tolerance


@dataclass(frozen=True)
class Fidelity:
    """What one layer's sweeps tell. None: nothing was refined, or the estimate is unknown."""

    residual: float | None
    error_estimate: float | None
    diverged: int = 0  # backwards whose sweeps grew


def fidelity(sums_4: Tensor) -> Fidelity:
    """From Δ_K², Δ_{K−1}² and ‖δ⁽ᴷ⁾‖², and the count of sweeps that diverged, summed over whatever was seen.

    residual = Δ_K / ‖δ⁽ᴷ⁾‖ measures the error of sweep K − 1; with ρ = Δ_K / Δ_{K−1} < 1 the error after
    sweep K is estimated by Δ_K ρ / ((1 − ρ) ‖δ⁽ᴷ⁾‖): on the safe side at initialisation, not a bound."""
    *squares, diverged = sums_4.tolist()
    last, before, total = (math.sqrt(square) for square in squares)
    if not total > 0:
        return Fidelity(None, None, round(diverged))
    residual, ratio = last / total, last / before if before else 0.0  # as many sweeps as steps: nothing is left
    return Fidelity(residual, residual * ratio / (1 - ratio) if ratio < 1 else None, round(diverged))


def next_sweeps(swept: int, told: Fidelity, tolerance: float) -> int:
    """How many sweeps `refinements: auto` makes next, where `swept` (1 or more) of them told this; or BY_BPTT.

    One more where the error left may be over the tolerance; one less where the residual, which is the error without
    the last sweep, is surely under it; in between nothing moves. Where sweeps grow none of them is worth its price."""
    if told.diverged:
        return BY_BPTT
    if told.residual is None:
        return swept
    if told.residual < SURELY * tolerance:
        return swept - 1
    if told.error_estimate is None or told.error_estimate > tolerance:
        return min(swept + 1, BY_BPTT)
    return swept


def worst(values: tuple[float | None, ...]) -> float | None:
    """The largest over the layers; None where a layer that refines has none."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None
