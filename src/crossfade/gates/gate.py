"""What a gate is: one condition of one model, read with its figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from crossfade.stages import Stage


class GateName(StrEnum):
    """The gates there are."""

    CAPTURED = "captured"
    INDEXED = "indexed"
    BACKFILLED = "backfilled"
    VERIFIED = "verified"
    LAG = "lag"
    COMPARISONS = "comparisons"
    LATENCY = "latency"
    ERRORS = "errors"
    SEQUENCES = "sequences"
    SETTLED = "settled"


_SHUT: Mapping[GateName, str] = {
    GateName.CAPTURED: "it is not captured",
    GateName.INDEXED: "it is not indexed",
    GateName.BACKFILLED: "it is not backfilled",
    GateName.VERIFIED: "it is not verified",
    GateName.LAG: "its lag is too large",
    GateName.COMPARISONS: "its comparisons do not prove enough",
    GateName.LATENCY: "its latency is too high",
    GateName.ERRORS: "it has too many errors",
    GateName.SEQUENCES: "its sequences do not match",
    GateName.SETTLED: "it is not settled",
}
"""What is the matter where a gate does not hold."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of one model: the figure that says whether it holds, and what makes it hold where it does not.

    `number` is what the figure is about, where that is a number: for the metrics.
    """

    model: str
    name: GateName
    figure: str
    remedy: str
    """Empty where the gate holds."""
    number: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the step may be taken, as far as this gate is concerned."""
        return not self.remedy

    @property
    def why(self) -> str:
        """Why a step that needs it cannot be taken, and what to do."""
        return f"{_SHUT[self.name]}: {self.figure}; {self.remedy}"


class Gates(Protocol):
    """Whoever says what keeps models from a step."""

    async def unmet(self, models: Sequence[str], current: Stage, wanted: Stage) -> list[Gate]:
        """Return the gates that do not hold for a step of `models`; none if it may be taken.

        Raises:
            StoreUnavailableError: nobody can say, because a store does not answer.
        """

    async def read(
        self, models: Sequence[str], wanted: Mapping[str, Stage] | None = None
    ) -> dict[str, list[Gate]]:
        """Return every gate of each model's next step, whether it holds or not.

        Args:
            models: which.
            wanted: where each is to go; for a model that is left out, or is there, the next step forward counts.

        Raises:
            StoreUnavailableError: a store does not answer.
        """


class NoGates:
    """Lets every step pass."""

    async def unmet(self, models: Sequence[str], current: Stage, wanted: Stage) -> list[Gate]:
        """Return nothing."""
        del models, current, wanted
        return []

    async def read(
        self, models: Sequence[str], wanted: Mapping[str, Stage] | None = None
    ) -> dict[str, list[Gate]]:
        """Return nothing."""
        del wanted
        return {model: [] for model in models}
