"""What one process sees, summed up. Pure: it is told facts, and asked what has changed.

Rules:

* Taking note of a fact costs less than a microsecond. What is kept is bounded by the schema, however many facts there
  are and however long nobody asks: sums and bitmaps, never single facts.
* Facts about a model belong to the stay at its stage (`Record.entered`) that this process knows of when it hears them.
* A failure is a side's own fault: no answer, or an error that is neither the caller's nor a part of every move.
* What the breaker turns away counts as a call that failed at once: else a side that is gone is one that nobody calls.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Final, NamedTuple

from crossfade import errors
from crossfade.breaker import OUTAGES
from crossfade.errors import (
    DataError,
    FollowError,
    MixedAuthorityError,
    QueryError,
    StoreFaultError,
    StoreUnavailableError,
    TableNotFoundError,
    UnsupportedQueryError,
    WrongAuthorityError,
)
from crossfade.events import (
    Event,
    FollowDropped,
    ModelsSpanned,
    OperationFinished,
    ReadCompared,
    Role,
    ShadowDropped,
    Verdict,
    WriteCompared,
)
from crossfade.schema import Schema
from crossfade.stages import Side
from crossfade.store.fleet import EVIDENCE_BITS, PAGE_BITS
from crossfade.store.publishing import ComparisonRow, EvidenceRow, SpannedRow, TimingRow
from crossfade.store.signals import BOUNDS, BUCKETS

_MOST_SPANNED = 1_000
"""How many sets of models are told apart between two writes."""
_TURNED_AWAY = "breaker_open"
_PAGE_BYTES = PAGE_BITS // 8
_EVIDENCE = frozenset({Verdict.MATCHED, Verdict.MISMATCHED})

_NO_FAULT = frozenset(
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type)
    and issubclass(kind, (DataError, QueryError, FollowError, MixedAuthorityError, WrongAuthorityError))
    # A caller cannot name a table that is missing, and would fail with what only Prisma can do.
    and not issubclass(kind, (*OUTAGES, StoreFaultError, TableNotFoundError, UnsupportedQueryError))
)


class _Calls:
    """How long calls of one kind took since `entered`."""

    __slots__ = ("buckets", "changed", "entered", "failures")

    def __init__(self, entered: int) -> None:
        self.entered: Final = entered
        self.failures = 0
        self.buckets = [0] * BUCKETS
        self.changed = False


class _Compared:
    """What comparisons of one kind came to since `entered`, and of which keys."""

    __slots__ = ("changed", "compared", "entered", "mismatched", "verdicts")

    def __init__(self, entered: int) -> None:
        self.entered: Final = entered
        self.verdicts: dict[Verdict, int] = {}
        self.compared = bytearray(EVIDENCE_BITS // 8)
        self.mismatched = bytearray(EVIDENCE_BITS // 8)
        self.changed = False


_CallsKey = tuple[str, str, str, str]
_ComparedKey = tuple[str, str, str]


class Batch(NamedTuple):
    """What is to be published at once."""

    timings: list[TimingRow]
    comparisons: list[ComparisonRow]
    evidence: list[EvidenceRow]
    spanned: list[SpannedRow]


class Tally:
    """The sums of one process.

    Args:
        schema: the models.
        entered: to which stay a model has come.
        asked: which side is asked in a role, as a model stands; for what was not asked after all.
    """

    def __init__(
        self,
        schema: Schema,
        entered: Callable[[str], int],
        asked: Callable[[str, Role], Side | None] = lambda _model, _role: None,
    ) -> None:
        self._models = frozenset(schema.models)
        self._entered = entered
        self._asked = asked
        self._ignored = _Calls(0)
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a process that has seen nothing."""
        self._calls: dict[_CallsKey, _Calls] = {}
        self._compared: dict[_ComparedKey, _Compared] = {}
        # In the order in which they changed; a mismatch does not wait for its turn.
        self._pages: dict[tuple[_ComparedKey, int], None] = {}
        self._urgent: dict[tuple[_ComparedKey, int], None] = {}
        self._spanned: dict[tuple[tuple[str, ...], bool], int] = {}

    def enter(self, model: str, entered: int) -> None:
        """Note that `model` has come to a stage: what is seen from now on counts for that."""
        for key in [k for k, calls in self._calls.items() if k[0] == model and calls.entered != entered]:
            del self._calls[key]
        for kind in [k for k, found in self._compared.items() if k[0] == model and found.entered != entered]:
            del self._compared[kind]

    def observe(self, event: Event) -> None:
        """Take note of a fact, if it is one that is summed up."""
        if type(event) is OperationFinished:
            calls = self._calls.get(event[:4])
            if calls is None:
                calls = self._new_calls(event)
            calls.buckets[bisect_left(BOUNDS, event.seconds)] += 1
            if event.error is not None and event.error not in _NO_FAULT:
                calls.failures += 1
            calls.changed = True
        elif type(event) is ReadCompared:
            self._compare(event, "read")
        elif type(event) is WriteCompared:
            self._compare(event, "write")
        elif type(event) is ModelsSpanned:
            times = self._spanned.get(event)
            if times is not None or len(self._spanned) < _MOST_SPANNED:
                self._spanned[event] = (times or 0) + 1
        elif type(event) is FollowDropped:
            self._turn_away(event, Role.FOLLOWER)
        elif type(event) is ShadowDropped:
            self._turn_away(event, Role.SHADOW)

    def _turn_away(self, event: FollowDropped | ShadowDropped, role: Role) -> None:
        if event.reason != _TURNED_AWAY or event.model not in self._models:
            return
        side = self._asked(event.model, role)
        if side is not None:
            error = StoreUnavailableError.__name__
            self.observe(OperationFinished(event.model, event.action, side, role, 0.0, error))

    def _new_calls(self, event: OperationFinished) -> _Calls:
        model = event.model
        if model not in self._models:
            return self._ignored
        calls = self._calls[event[:4]] = _Calls(self._entered(model))
        return calls

    def _compare(self, event: ReadCompared | WriteCompared, kind: str) -> None:
        key = (event.model, kind, event.action)
        found = self._compared.get(key)
        if found is None:
            if event.model not in self._models:
                return
            found = self._compared[key] = _Compared(self._entered(event.model))
        verdict = event.verdict
        found.verdicts[verdict] = found.verdicts.get(verdict, 0) + 1
        found.changed = True
        if verdict not in _EVIDENCE:
            return
        position = event.subject % EVIDENCE_BITS
        byte, bit = position >> 3, 0x80 >> (position & 7)
        if not found.compared[byte] & bit:
            found.compared[byte] |= bit
            self._pages[key, position // PAGE_BITS] = None
        if verdict is Verdict.MISMATCHED and not found.mismatched[byte] & bit:
            found.mismatched[byte] |= bit
            self._urgent[key, position // PAGE_BITS] = None

    def take(self, most_pages: int) -> Batch:
        """Return what has changed since the last time; what is beyond `most_pages` is left for the next."""
        timings = []
        for (model, action, side, role), calls in self._calls.items():
            if calls.changed:
                calls.changed = False
                buckets = calls.buckets.copy()
                timings.append(TimingRow(model, calls.entered, action, side, role, calls.failures, buckets))
        comparisons = []
        for (model, kind, action), found in self._compared.items():
            if found.changed:
                found.changed = False
                for verdict, times in found.verdicts.items():
                    comparisons.append(ComparisonRow(model, found.entered, kind, action, verdict, times))
        return Batch(timings, comparisons, self._take_pages(most_pages), self._take_spanned())

    def _take_pages(self, most: int) -> list[EvidenceRow]:
        rows = []
        chosen = [*self._urgent, *(page for page in self._pages if page not in self._urgent)][:most]
        for key, page in chosen:
            self._urgent.pop((key, page), None)
            self._pages.pop((key, page), None)
            found = self._compared.get(key)
            if found is not None:  # the model may have moved on
                part = slice(page * _PAGE_BYTES, (page + 1) * _PAGE_BYTES)
                bits = bytes(found.compared[part]), bytes(found.mismatched[part])
                rows.append(EvidenceRow(key[0], found.entered, key[1], key[2], page, *bits))
        return rows

    def _take_spanned(self) -> list[SpannedRow]:
        together: dict[tuple[tuple[str, ...], bool], int] = {}
        for (models, is_write), times in self._spanned.items():
            known = tuple(sorted(self._models.intersection(models)))
            if len(known) > 1:
                together[known, is_write] = together.get((known, is_write), 0) + times
        self._spanned = {}
        return [SpannedRow(*key, times) for key, times in together.items()]

    def put_back(self, batch: Batch) -> None:
        """Note that a batch was not published, as far as is known: it is to be said again."""
        for timing in batch.timings:
            calls = self._calls.get((timing.model, timing.action, timing.side, timing.role))
            if calls is not None:
                calls.changed = True
        for verdict in batch.comparisons:
            found = self._compared.get((verdict.model, verdict.kind, verdict.action))
            if found is not None:
                found.changed = True
        for page in batch.evidence:
            key = (page.model, page.kind, page.action)
            if key in self._compared:
                (self._urgent if any(page.mismatched) else self._pages)[key, page.page] = None
        for models, is_write, times in batch.spanned:
            self._spanned[models, is_write] = self._spanned.get((models, is_write), 0) + times
