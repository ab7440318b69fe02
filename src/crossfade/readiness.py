"""Whether a process may be sent requests: it knows the record, as it is now, and acts by it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crossfade.stages import Stage


@dataclass(frozen=True, slots=True)
class Readiness:
    """Why a process is not to be sent requests; it is `ready` when nothing speaks against it."""

    reasons: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether it may be sent requests."""
        return not self.reasons


NOT_OPEN = Readiness(("the migration is not open",))


def judge(
    *, age: float, lease: float, recorded: Mapping[str, Stage], placed: Mapping[str, Stage]
) -> Readiness:
    """Judge by what a process knows.

    Args:
        age: how many seconds ago the record was read last.
        lease: how many seconds a process may act by what it has read.
        recorded: the stages that are in force, as it has read them.
        placed: the stages that it acts by.
    """
    if not recorded:
        return Readiness(("no record has been read; is crossfade installed in the stores?",))
    reasons = [
        f"{model} is at {recorded.get(model, Stage.OFF)} by the record, and this process acts as if it were at {stage}"
        for model, stage in placed.items()
        if recorded.get(model, Stage.OFF) is not stage
    ]
    if age > lease:
        reasons.insert(
            0, f"the record was read last {age:.1f} s ago, and the lease is {lease:g} s: no store answers"
        )
    return Readiness(tuple(reasons))
