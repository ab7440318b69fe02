"""What a defect did, and what the guard did about it: how long it took, and what callers got meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from crossfade.events import Event, GuardTripped
from crossfade.stages import Stage
from crossfade.store.record import Record
from marketplace.demo.breaks import BREAKS

GUARD: Final = "guard"
"""By whom the record says that a model was walked back."""


@dataclass(frozen=True, slots=True)
class Trip:
    """One model that the guard has walked back, `seconds` after its answers were spoilt first."""

    model: str
    before: Stage
    after: Stage
    seconds: float | None
    reason: str
    spoilt: int
    """How many bad answers there had been by then."""
    served: int
    """How many of them callers had got."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What the guard has noticed, `seconds` after the first spoilt answer and `signal_seconds` after the first sign."""

    model: str
    stage: Stage
    seconds: float | None
    signal_seconds: float
    reason: str


class Harm:
    """Hears of every spoilt answer, in whichever process, and of every record. `defect` is the one that is there."""

    def __init__(
        self, defect: str | None, *, late: bool = False, clock: Callable[[], float] = monotonic
    ) -> None:
        self.defect = defect
        self.is_late = defect is not None and (late or BREAKS[defect].is_late)
        """Whether the defect begins while models are live."""
        self.trips: list[Trip] = []
        self.detected: dict[str, Detection] = {}
        """The first of each model."""
        self.spoilt: Counter[str] = Counter()
        """By model: answers on the new side that were not what they should be, whoever got them."""
        self.served: Counter[str] = Counter()
        """Those among them that a caller got."""
        self._clock = clock
        self._first: dict[str, float] = {}
        self._stages: dict[str, Stage] = {}
        self._paused: set[str] = set()

    def note(self, model: str, *, served: bool, at: float | None = None) -> None:
        """Take note of one spoilt answer, at a time of the clock, and of whether a caller got it."""
        self._first.setdefault(model, self._clock() if at is None else at)
        self.spoilt[model] += 1
        self.served[model] += served

    def observe(self, event: Event) -> None:
        """Take note of what the guard has noticed."""
        if isinstance(event, GuardTripped) and event.model not in self.detected:
            self.detected[event.model] = Detection(
                event.model, event.stage, self._since_first(event.model), event.seconds, event.reason
            )

    def _since_first(self, model: str) -> float | None:
        first = self._first.get(model)
        return None if first is None else self._clock() - first

    def place(self, record: Record) -> None:
        """Take note of where the record places a model, and why."""
        before = self._stages.get(record.model, record.stage)
        self._stages[record.model] = record.stage
        if not record.paused:
            self._paused.discard(record.model)
            return
        if record.model in self._paused or record.by != GUARD:
            return
        self._paused.add(record.model)
        seconds = self._since_first(record.model)
        counts = self.spoilt[record.model], self.served[record.model]
        self.trips.append(Trip(record.model, before, record.stage, seconds, record.reason, *counts))

    def concerns(self, model: str) -> bool:
        """Whether the defect, if there is one, spoils anything of `model`."""
        return self.defect is not None and BREAKS[self.defect].concerns(model)

    def trip(self, model: str) -> Trip | None:
        """How `model` was walked back the last time, if it was."""
        return next((trip for trip in reversed(self.trips) if trip.model == model), None)

    def walked_back(self, model: str) -> bool:
        """Whether the guard has walked `model` back, so that it stays until a person says otherwise."""
        return model in self._paused
