"""How near a layer's feedback came to BPTT: the residual of its last sweep, and an estimate of the error left.

Pure functions of three sums of squares that add up over micro-batches and ranks (docs/method.md, "The residual")."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Fidelity:
    """What one layer's sweeps tell. None: nothing was refined, or the estimate is unknown."""

    residual: float | None
    error_estimate: float | None


UNKNOWN = Fidelity(None, None)


def fidelity(sums_3: Tensor) -> Fidelity:
    """From Δ_K², Δ_{K−1}² and ‖δ⁽ᴷ⁾‖², summed over whatever was seen.

    residual = Δ_K / ‖δ⁽ᴷ⁾‖ measures the error of sweep K − 1; with ρ = Δ_K / Δ_{K−1} < 1 the error after
    sweep K is estimated by Δ_K ρ / ((1 − ρ) ‖δ⁽ᴷ⁾‖): on the safe side at initialisation, not a bound."""
    last, before, total = (math.sqrt(value) for value in sums_3.tolist())
    if not (total > 0 and before > 0):
        return UNKNOWN
    residual, ratio = last / total, last / before
    return Fidelity(residual, residual * ratio / (1 - ratio) if ratio < 1 else None)


def worst(values: tuple[float | None, ...]) -> float | None:
    """The largest over the layers; None where a layer that refines has none."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None
