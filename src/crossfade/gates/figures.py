"""How figures are written for people."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

_NAMED = 3
"""How many are named before the rest are only counted."""


def rounded(number: float) -> int:
    """Two leading digits, rounded up: more would pretend that it is known."""
    unit: int = 10 ** max(0, floor(log10(max(number, 1.0))) - 1)
    return ceil(number / unit - 1e-9) * unit


def told_share(share: float) -> str:
    """A share with three digits that count, rounded up."""
    if share <= 0:
        return "0"
    digits = max(0, 2 - floor(log10(share)))
    text = f"{ceil(share * 10**digits - 1e-9) / 10**digits:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def told_seconds(seconds: float) -> str:
    """A time, in the unit that suits it."""
    if seconds >= 0.9995:
        return f"{seconds:,.1f} s"
    return f"{seconds * 1000:.3g} ms" if seconds >= 0.0009995 else f"{seconds * 1e6:.3g} µs"


def listed(names: Sequence[str]) -> str:
    """The first few of many."""
    more = len(names) - _NAMED
    return ", ".join([*names[:_NAMED], *([f"and {more} more"] if more > 0 else [])])
