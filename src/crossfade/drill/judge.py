"""What the journals prove: which rows a store must hold, and which acknowledged writes it contradicts.

Rules:

* A writer's own row has the values of its last acknowledged write, or those of a write of unknown outcome after it. A
  writer leaves a row alone after an unknown outcome, so there is at most one of those.
* A shared counter has grown by all acknowledged increments, and at most by the unknown ones besides.
* A shared field holds a value that may have been the last: no other acknowledged write of it began after this one had
  ended.
* A row that no writer ever wrote must not be there.

Reading a journal costs a few microseconds a line; nothing is kept of a write but what the rules need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from crossfade.drill.journal import Effect, Outcome, What, read_lines

RowKey: TypeAlias = tuple[str, str]
"""A model and a key as the journal writes it."""
Values: TypeAlias = tuple[Any, ...]


class Loss(StrEnum):
    """How a store contradicts the journals."""

    MISSING_ROW = "missing row"
    RETURNED_ROW = "returned row"
    LOST_UPDATE = "lost update"
    LOST_INCREMENT = "lost increment"
    EXTRA_INCREMENT = "increment applied twice"
    STRANGE_ROW = "row that nobody wrote"


class Finding(NamedTuple):
    """One contradiction, with what was expected and found. The values are the drill's own."""

    model: str
    key: str
    loss: Loss
    writes: int
    expected: str
    found: str


class _Span(NamedTuple):
    began: int
    ended: int
    text: str


_NEVER = 1 << 62


@dataclass(slots=True)
class _Own:
    """A row of one writer: its last acknowledged values (None: it is gone), and what else it may be."""

    values: Values | None = None
    known: bool = False
    perhaps: list[Values | None] = field(default_factory=list)


@dataclass(slots=True)
class _Counted:
    acknowledged: int = 0
    writes: int = 0
    unknown: int = 0


@dataclass(slots=True)
class Stored:
    """What one store holds: the writers' own rows by model and key, and the shared counters and fields."""

    own: dict[RowKey, Values]
    counters: dict[RowKey, int]
    fields: dict[RowKey, str | None]


class Judge:
    """Reads journals and then judges stores."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.unknown = 0
        self.refused = 0
        self.problems: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()
        self.times: list[int] = []
        """How long each acknowledged write took, in microseconds."""
        self.began: list[int] = []
        """When each of these began."""
        self._own: dict[RowKey, _Own] = {}
        self._counters: dict[RowKey, _Counted] = {}
        self._fields: dict[RowKey, list[_Span]] = {}
        self._last_began: dict[RowKey, int] = {}

    def read(self, path: Path) -> None:
        """Take in one writer's journal, from its beginning to its end."""
        open_writes: dict[int, tuple[int, list[list[Any]]]] = {}
        for line in read_lines(path):
            match line:
                case ["b", number, began, effects]:
                    open_writes[number] = (began, effects)
                case ["e", number, ended, outcome, problem]:
                    began, effects = open_writes.pop(number)
                    if problem is not None:
                        self.problems[problem] += 1
                    self._settle(began, ended, Outcome(outcome), effects)
                case ["m", word, _, detail]:
                    self.marks[word if detail is None else f"{word}: {detail}"] += 1
        for began, effects in open_writes.values():
            self._settle(began, _NEVER, Outcome.UNKNOWN, effects)

    def _settle(self, began: int, ended: int, outcome: Outcome, effects: list[list[Any]]) -> None:
        match outcome:
            case Outcome.REFUSED:
                self.refused += 1
                return
            case Outcome.ACKNOWLEDGED:
                self.acknowledged += 1
                self.times.append(ended - began)
                self.began.append(began)
            case Outcome.UNKNOWN:
                self.unknown += 1
                ended = _NEVER
        is_acknowledged = outcome is Outcome.ACKNOWLEDGED
        for effect in effects:
            self._note(Effect(*effect), began, ended, is_acknowledged=is_acknowledged)

    def _note(self, effect: Effect, began: int, ended: int, *, is_acknowledged: bool) -> None:
        row = (effect.model, effect.key)
        match effect.what:
            case What.PUT | What.DELETE:
                values = tuple(effect.value) if effect.what == What.PUT else None
                own = self._own.setdefault(row, _Own())
                if is_acknowledged:
                    own.values, own.known = values, True
                    own.perhaps.clear()
                else:
                    own.perhaps.append(values)
            case What.ADD:
                counted = self._counters.setdefault(row, _Counted())
                if is_acknowledged:
                    counted.acknowledged += effect.value
                    counted.writes += 1
                else:
                    counted.unknown += effect.value
            case What.SET:
                self._fields.setdefault(row, []).append(_Span(began, ended, effect.value))
                if is_acknowledged:
                    self._last_began[row] = max(began, self._last_began.get(row, 0))

    # --- what a store must hold -----------------------------------------------------------------------------------

    def verify(self, stored: Stored, start: Stored) -> list[Finding]:
        """Return how a store contradicts the journals; `start` is what it held before. Nothing may be writing."""
        found = [self._check_own(row, own, stored.own) for row, own in self._own.items()]
        found += [
            Finding(*row, Loss.STRANGE_ROW, 1, "no row", str(values))
            for row, values in stored.own.items()
            if row not in self._own and row not in start.own
        ]
        found += [
            _check_counter(row, counted, start.counters.get(row, 0), stored.counters.get(row))
            for row, counted in self._counters.items()
        ]
        found += [
            self._check_field(row, spans, start.fields.get(row), stored.fields)
            for row, spans in self._fields.items()
        ]
        return [finding for finding in found if finding is not None]

    def _check_own(self, row: RowKey, own: _Own, rows: Mapping[RowKey, Values]) -> Finding | None:
        # A row that was never acknowledged need not be there.
        allowed = [*([own.values] if own.known else [None]), *own.perhaps]
        values = rows.get(row)
        if values in allowed:
            return None
        if values is None:
            loss = Loss.MISSING_ROW
        else:
            loss = Loss.RETURNED_ROW if allowed == [None] else Loss.LOST_UPDATE
        return Finding(*row, loss, 1, " or ".join(map(str, allowed)), str(values))

    def _check_field(
        self, row: RowKey, spans: Sequence[_Span], first: str | None, fields: Mapping[RowKey, str | None]
    ) -> Finding | None:
        last = self._last_began.get(row, 0)
        held = fields.get(row)
        if any(span.ended >= last and span.text == held for span in spans) or (last == 0 and held == first):
            return None
        return Finding(*row, Loss.LOST_UPDATE, 1, f"one of the last of {len(spans)} writes", str(held))


def _check_counter(row: RowKey, counted: _Counted, first: int, held: int | None) -> Finding | None:
    if held is None:
        return Finding(*row, Loss.MISSING_ROW, counted.writes, "a counter", "no row")
    grown = held - first
    expected = f"{counted.acknowledged} to {counted.acknowledged + counted.unknown} more"
    if grown < counted.acknowledged:
        return Finding(*row, Loss.LOST_INCREMENT, counted.acknowledged - grown, expected, f"{grown} more")
    if grown > counted.acknowledged + counted.unknown:
        return Finding(*row, Loss.EXTRA_INCREMENT, 1, expected, f"{grown} more")
    return None
