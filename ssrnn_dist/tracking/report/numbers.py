"""Numbers as a report writes them: short, with the digits that matter; nothing for None.

Imports the standard library only."""

import math
from collections.abc import Callable

Written = Callable[[float | None], str]


def tick(value: float) -> str:
    """An axis label: short, with k and M for large numbers."""
    if value and abs(value) < 1e-4:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return count(value) if abs(value) >= 10_000 else f"{value:,.10g}"


def number(value: float | None) -> str:
    """Three digits; NaN stays NaN, as a run that diverged must not look well."""
    if value is None:
        return ""
    if math.isnan(value):
        return "NaN"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def scientific(value: float | None) -> str:
    return "" if value is None else tick(float(f"{value:.2g}"))


def count(value: float | None) -> str:
    """1,234 or 12.3k or 4.56M."""
    if value is None:
        return ""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}" if abs(value) < 1e15 else f"{value:.2e}"
    return f"{value:,.0f}"


def dollars(value: float | None) -> str:
    """$0.0042, $1.23 or $12,345: cents where they matter, more digits where a cent is too coarse."""
    if value is None:
        return ""
    if value and abs(value) < 0.1:
        return f"${float(f'{value:.2g}'):.12f}".rstrip("0")
    return f"${value:,.2f}" if abs(value) < 1000 else f"${value:,.0f}"


def hours(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} h" if value < 1000 else f"{value:,.0f} h"
