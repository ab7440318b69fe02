"""What the application was told: every acknowledged write, so that a store can be asked for it in the end.

The journal knows nothing of sides, stages or the repository. A call notes what it is about to do, and the end of its
block settles what came of it: acknowledged, refused, or unknown (the connection broke, or the caller gave up: the
write may have taken place or not). `verify` then looks at the rows of one store and says what cannot be:

* a row whose creation was acknowledged and that nobody has begun to delete is missing;
* a row whose deletion was acknowledged, its own or that of a row it belongs to, is still there;
* a counter is below its start and all acknowledged increments, or above those and the unknown ones;
* a field holds a value that no write left there which may have been the last. A write may have been the last unless
  another write of that field was acknowledged and had begun only after this one had ended.

Times are those of `time.monotonic_ns`, taken when a write begins and ends: only their order matters, and all processes
of a machine share it, so that journals can be merged (`marketplace.journal_file`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from time import monotonic_ns
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, TypeAlias

from crossfade.breaker import OUTAGES
from crossfade.errors import CrossfadeError
from crossfade.fields import Json
from crossfade.operation import to_milliseconds

Row: TypeAlias = Mapping[str, Any]
Rows: TypeAlias = Mapping[str, Mapping[Any, Row]]
"""Rows by model and primary key; a row holds at least the fields that the journal was told of."""


class RowKey(NamedTuple):
    """One row of one model."""

    model: str
    key: Any


class Created(NamedTuple):
    """A row is made. `parents` are the rows whose deletion takes it along."""

    row: RowKey
    values: Row
    parents: tuple[RowKey, ...] = ()


class Deleted(NamedTuple):
    """A row is taken away, and with it every row that belongs to it."""

    row: RowKey


class Increased(NamedTuple):
    """A counter grows by `by`, which is positive."""

    row: RowKey
    field: str
    by: int


class Assigned(NamedTuple):
    """A field gets a value."""

    row: RowKey
    field: str
    value: Any


Effect: TypeAlias = Created | Deleted | Increased | Assigned


class Outcome(StrEnum):
    """What came of a write, as far as its caller knows."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Loss(StrEnum):
    """How a store contradicts what was acknowledged."""

    MISSING_ROW = "missing row"
    RETURNED_ROW = "returned row"
    LOST_INCREMENT = "lost increment"
    EXTRA_INCREMENT = "increment applied twice"
    LOST_UPDATE = "lost update"


class Finding(NamedTuple):
    """A contradiction: where, of what kind, and how many acknowledged writes it concerns. Never a value."""

    model: str
    field: str
    loss: Loss
    writes: int


_NEVER = 1 << 62


class Write:
    """One write under way: a context manager whose end settles the outcome."""

    __slots__ = ("_journal", "_number", "began", "effects", "ended", "outcome")

    def __init__(self, journal: Journal, number: int, effects: Iterable[Effect]) -> None:
        self._journal = journal
        self._number = number
        self.effects: list[Effect] = []
        self.began = 0
        self.ended = _NEVER
        self.outcome = Outcome.UNKNOWN
        self.add(*effects)

    def add(self, *effects: Effect) -> None:
        """Note effects; within the block, those that are only known from the answer, such as a new row's key."""
        self.effects += effects
        self._journal.note(effects)
        if self.began and self._journal.file is not None:
            self._journal.file.add(self._number, effects)

    def missed(self) -> None:
        """The store has answered that there was no row to write."""
        self.outcome = Outcome.REFUSED

    def __enter__(self) -> Self:
        self.began = self._journal.clock()
        if self._journal.file is not None:
            self._journal.file.begin(self._number, self.began, self.effects)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            if self.outcome is not Outcome.REFUSED:
                self.outcome = Outcome.ACKNOWLEDGED
        elif isinstance(error, CrossfadeError) and not isinstance(error, OUTAGES):
            self.outcome = Outcome.REFUSED
        if self.outcome is not Outcome.UNKNOWN:
            self.ended = self._journal.clock()
        if self._journal.file is not None:
            self._journal.file.end(self._number, self.ended, self.outcome)


class _Span(NamedTuple):
    """When a value may have been written: not before `began`, not after `ended`."""

    began: int
    ended: int
    is_acknowledged: bool
    value: Any


@dataclass(slots=True)
class _Counter:
    acknowledged: list[int] = field(default_factory=list)
    unknown: int = 0


class WritesFile(Protocol):
    """Where a journal is written down as it grows, for another process."""

    def begin(self, number: int, time: int, effects: Sequence[Effect]) -> None:
        """Note a write that is about to be made."""

    def add(self, number: int, effects: Sequence[Effect]) -> None:
        """Note effects that the answer has told."""

    def end(self, number: int, time: int, outcome: Outcome) -> None:
        """Note what came of a write."""


class Journal:
    """Every write of one run.

    Args:
        start: the rows as they were before it, with the fields that will be noted.
        file: where it is written down as well.
        clock: gives the times; they never go back.
    """

    def __init__(
        self, start: Rows, file: WritesFile | None = None, clock: Callable[[], int] = monotonic_ns
    ) -> None:
        self.start = start
        self.file = file
        self.clock = clock
        self._writes: list[Write] = []
        self._parents: dict[RowKey, tuple[RowKey, ...]] = {}
        self._deleting: set[RowKey] = set()

    def __len__(self) -> int:
        return len(self._writes)

    @property
    def unknown(self) -> int:
        """How many writes nobody knows the outcome of."""
        return sum(write.outcome is Outcome.UNKNOWN for write in self._writes)

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged."""
        return sum(write.outcome is Outcome.ACKNOWLEDGED for write in self._writes)

    def write(self, *effects: Effect) -> Write:
        """Note a write that is about to begin; use it with `with`."""
        write = Write(self, len(self._writes), effects)
        self._writes.append(write)
        return write

    def note(self, effects: Iterable[Effect]) -> None:
        """Remember what belongs to what, and what is being deleted. For `Write`."""
        for effect in effects:
            if isinstance(effect, Created) and effect.parents:
                self._parents[effect.row] = effect.parents
            elif isinstance(effect, Deleted):
                self._deleting.add(effect.row)

    def is_doomed(self, row: RowKey) -> bool:
        """Whether somebody has begun to delete the row, or one that it belongs to."""
        return self._goes_with(row, self._deleting)

    def goes_with_parents(self, row: RowKey) -> bool:
        """Whether somebody has begun to delete a row that this one belongs to."""
        return any(map(self.is_doomed, self._parents.get(row, ())))

    # --- what a store must hold -----------------------------------------------------------------------------------

    def verify(self, rows: Rows) -> list[Finding]:
        """Return how the rows of one store contradict the journal. Nothing may be writing any more."""
        found: Counter[tuple[str, str, Loss]] = Counter()
        writes = [write for write in self._writes if write.outcome is not Outcome.REFUSED]
        births = {
            effect.row: (write, effect.values)
            for write in writes
            for effect in write.effects
            if isinstance(effect, Created)
        }
        self._check_rows(found, rows, writes)
        for (row, name), counter in _counters(writes).items():
            first = self._first_value(row, name, births)
            values = rows[row.model].get(row.key)
            if first is not None and values is not None:  # a missing row is reported as such
                _check_counter(found, row, name, counter, values[name] - first.value)
        for (row, name), spans in _spans(writes).items():
            first = self._first_value(row, name, births)
            values = rows[row.model].get(row.key)
            if values is not None and not _may_hold([first, *spans] if first else spans, values[name]):
                found[row.model, name, Loss.LOST_UPDATE] += 1
        return [Finding(*place, count) for place, count in sorted(found.items())]

    def _check_rows(self, found: Counter[tuple[str, str, Loss]], rows: Rows, writes: Sequence[Write]) -> None:
        gone: set[RowKey] = set()
        perhaps_gone: set[RowKey] = set()
        expected = [RowKey(model, key) for model, known in self.start.items() for key in known]
        for write in writes:
            for effect in write.effects:
                if isinstance(effect, Deleted):
                    perhaps_gone.add(effect.row)
                    if write.outcome is Outcome.ACKNOWLEDGED:
                        gone.add(effect.row)
                elif isinstance(effect, Created) and write.outcome is Outcome.ACKNOWLEDGED:
                    expected.append(effect.row)
        for row in expected:
            if row.key in rows[row.model]:
                if self._goes_with(row, gone):
                    found[row.model, "", Loss.RETURNED_ROW] += 1
            elif not self._goes_with(row, perhaps_gone):
                found[row.model, "", Loss.MISSING_ROW] += 1

    def _goes_with(self, row: RowKey, deleted: AbstractSet[RowKey]) -> bool:
        return row in deleted or any(self._goes_with(p, deleted) for p in self._parents.get(row, ()))

    def _first_value(
        self, row: RowKey, name: str, births: Mapping[RowKey, tuple[Write, Row]]
    ) -> _Span | None:
        """The value that a field had when the row came to be known; None for a row that nobody vouches for."""
        if (known := self.start[row.model].get(row.key)) is not None:
            return _Span(0, 0, is_acknowledged=True, value=known[name])
        if row not in births:
            return None
        write, values = births[row]
        acknowledged = write.outcome is Outcome.ACKNOWLEDGED
        return _Span(write.began, write.ended, acknowledged, plain(values[name]))


def _counters(writes: Iterable[Write]) -> Mapping[tuple[RowKey, str], _Counter]:
    counters: dict[tuple[RowKey, str], _Counter] = defaultdict(_Counter)
    for write in writes:
        for effect in write.effects:
            if isinstance(effect, Increased):
                counter = counters[effect.row, effect.field]
                if write.outcome is Outcome.ACKNOWLEDGED:
                    counter.acknowledged.append(effect.by)
                else:
                    counter.unknown += effect.by
    return counters


def _spans(writes: Iterable[Write]) -> Mapping[tuple[RowKey, str], list[_Span]]:
    spans: dict[tuple[RowKey, str], list[_Span]] = defaultdict(list)
    for write in writes:
        acknowledged = write.outcome is Outcome.ACKNOWLEDGED
        for effect in write.effects:
            if isinstance(effect, Assigned):
                span = _Span(write.began, write.ended, acknowledged, plain(effect.value))
                spans[effect.row, effect.field].append(span)
    return spans


def _check_counter(
    found: Counter[tuple[str, str, Loss]], row: RowKey, name: str, counter: _Counter, grown: int
) -> None:
    missing = sum(counter.acknowledged) - grown
    if missing > 0:
        found[row.model, name, Loss.LOST_INCREMENT] += _fewest(counter.acknowledged, missing)
    elif -missing > counter.unknown:
        found[row.model, name, Loss.EXTRA_INCREMENT] += 1


def _may_hold(spans: Sequence[_Span], value: Any) -> bool:
    last_began = max((span.began for span in spans if span.is_acknowledged), default=0)
    return any(span.ended >= last_began and span.value == value for span in spans)


def _fewest(increments: Iterable[int], missing: int) -> int:
    """The least number of increments whose loss explains that `missing` is missing."""
    count = 0
    for by in sorted(increments, reverse=True):
        if missing <= 0:
            break
        missing -= by
        count += 1
    return max(count, 1)


def plain(value: Any) -> Any:
    """What a store gives back for a value that was passed to a call."""
    if isinstance(value, Json):
        return value.data
    return to_milliseconds(value) if isinstance(value, datetime) else value
