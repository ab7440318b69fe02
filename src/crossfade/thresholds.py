"""What a team may set for a model: when its gates hold, and when the guard walks it back. With defaults for both.

Flag files and flag services give the numbers that differ from the defaults, by the names of the fields here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from crossfade.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class _Numbers:
    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names that may be given."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def bounds(cls) -> Mapping[str, tuple[float, float]]:
        """The lowest and the highest number that each name may be given."""
        return {name: _BOUNDS[name][:2] for name in cls.names()}

    @classmethod
    def of(cls, given: Mapping[str, float]) -> Self:
        """Return the defaults with what is given in their place.

        Raises:
            ConfigurationError: a name is unknown or a number out of bounds; all problems are listed.
        """
        problems = [
            f"unknown threshold {name!r}; thresholds are {', '.join(cls.names())}"
            for name in given
            if name not in cls.names()
        ]
        problems += [
            f"{name} must be {text}, not {given[name]:g}"
            for name, (lowest, highest, text) in _BOUNDS.items()
            if name in given and name in cls.names() and not lowest <= given[name] <= highest
        ]
        if problems:
            raise ConfigurationError(*problems)
        return cls(**given)


_SHARE = (0.0, 1.0, "from 0 to 1")
_SECONDS = (0.0, 86_400.0, "from 0 to 86400 seconds")
_FACTOR = (1.0, 1_000.0, "from 1 to 1000, a factor")
_BOUNDS: Mapping[str, tuple[float, float, str]] = {
    "lag": _SECONDS,
    "comparisons": (1e-7, 1.0, "from 0.0000001 to 1"),
    "rare": _SHARE,
    "latency": _FACTOR,
    "errors": _SHARE,
    "mismatches": _SHARE,
    "least": (1.0, 1e6, "from 1 to 1000000 calls"),
    "window": (1.0, 3_600.0, "from 1 to 3600 seconds"),
}


@dataclass(frozen=True, slots=True)
class GateThresholds(_Numbers):
    """When a model may take a step forward."""

    lag: float = 5.0
    """How old, in seconds, the oldest captured key may be that is not verified yet."""
    comparisons: float = 0.001
    """What the share of mismatches must be shown to lie below, for each kind of operation, at 95 % confidence."""
    rare: float = 0.01
    """A kind of operation with a smaller share of the model's comparisons than this may stay unproven."""
    latency: float = 1.5
    """How many times the old side's p99 the new side's may be."""
    errors: float = 0.001
    """What share of calls may fail on the new side."""


@dataclass(frozen=True, slots=True)
class GuardThresholds(_Numbers):
    """When a model is walked back. A signal counts once `least` calls have been seen in the window."""

    mismatches: float = 0.01
    """The share of comparisons in the window that may come out as mismatched."""
    errors: float = 0.05
    """The share of calls to the new side that may fail in the window."""
    latency: float = 3.0
    """How many times the old side's p99 the new side's may be in the window."""
    lag: float = 60.0
    """How old, in seconds, the oldest captured key may be that is not verified yet."""
    least: float = 20.0
    """How many calls a share, or a percentile, is at least taken of; two mismatches are enough, however many calls."""
    window: float = 10.0
    """How many seconds back the guard looks."""
