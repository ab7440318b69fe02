"""What one process observes, told to another: each fact as a line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Final, Protocol, get_type_hints

from crossfade.events import (
    AuthorityMissed,
    BreakerMoved,
    ConflictSettled,
    Difference,
    DifferenceKind,
    Event,
    FollowDropped,
    GuardTripped,
    ObserverFailed,
    OperationFinished,
    ReadCompared,
    RowReconciled,
    ShadowDropped,
    StageHeld,
    StageMoved,
    StaleRead,
    WriteCompared,
)

FACT: Final = "fact"

_TOLD: Final[Mapping[str, type[Event]]] = {
    kind.__name__: kind
    for kind in (
        OperationFinished,
        ReadCompared,
        WriteCompared,
        FollowDropped,
        ShadowDropped,
        RowReconciled,
        ConflictSettled,
        BreakerMoved,
        StageMoved,
        StageHeld,
        GuardTripped,
        AuthorityMissed,
        StaleRead,
        ObserverFailed,
    )
}
"""The facts that a spectator cannot see for himself."""


class Says(Protocol):
    """Where lines go."""

    def say(self, word: str, *what: Any) -> None:
        """Write one line."""


class FactTeller:
    """An observer that tells another process."""

    def __init__(self, file: Says) -> None:
        self._file = file

    def observe(self, event: Event) -> None:
        """Tell `event`."""
        name = type(event).__name__
        if name in _TOLD:
            self._file.say(FACT, name, event)


def fact_from_json(name: str, values: list[Any]) -> Event:
    """The fact that a line tells of."""
    kind: Any = _TOLD[name]
    made = [_value(hint, value) for hint, value in zip(_hints(kind), values, strict=True)]
    fact: Event = kind(*made)
    return fact


@cache
def _hints(kind: Any) -> tuple[Any, ...]:
    return tuple(get_type_hints(kind).values())


def _value(hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    if isinstance(value, list):  # the only lists that facts hold
        return tuple(Difference(field, DifferenceKind(how)) for field, how in value)
    return value
