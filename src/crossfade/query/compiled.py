"""What compiling yields: plans, made once per shape of the arguments and executed with each call's values.

A plan says everything about an operation but its values: the statements, which value goes to which parameter, how
rows become records, and what is left to do in memory. It knows no driver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy.engine import Dialect
from sqlalchemy.sql.expression import ClauseElement

from crossfade.query.storage import slot_of
from crossfade.records import Record

Values: TypeAlias = list[Any]
Build: TypeAlias = Callable[[Any], Record]


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text with `$n` parameters; `slots` say which value each one gets, None that they are the values as given."""

    sql: str
    slots: tuple[int, ...] | None

    def arguments(self, values: Sequence[Any], keys: Sequence[Any] = ()) -> Sequence[Any]:
        """Return the parameters. Negative slots take the keys of the rows that an include or a write is about."""
        if self.slots is None:
            return values
        return [values[slot] if slot >= 0 else keys[~slot] for slot in self.slots]


def compiled(expression: ClauseElement, dialect: Dialect, values: int) -> Statement:
    """Compile an expression whose parameters are named by slots; `values` is how many slots the shape has."""
    result: Any = expression.compile(dialect=dialect)
    slots = tuple(slot_of(name) for name in result.positiontup or ())
    return Statement(str(result), None if slots == tuple(range(values)) else slots)


@dataclass(frozen=True, slots=True)
class Window:
    """What is done with rows in memory, in this order: cut at the cursor, distinct, skip, take, reverse.

    Numbers are slots of the values; columns are positions in a row.
    """

    cursor: tuple[tuple[int, int], ...] = ()
    """Pairs of a column and the slot of the value it has in the cursor's row."""
    distinct: tuple[int, ...] = ()
    skip: int | None = None
    take: int | None = None
    is_reversed: bool = False

    def rows(self, rows: Sequence[Any], values: Values) -> Sequence[Any]:
        """Return the rows that remain."""
        if self.cursor:
            start = next((i for i, row in enumerate(rows) if self._is_cursor(row, values)), len(rows))
            rows = rows[start:]
        if self.distinct:
            seen: dict[Any, Any] = {}
            for row in rows:
                seen.setdefault(tuple(_hashable(row[column]) for column in self.distinct), row)
            rows = list(seen.values())
        if self.skip is not None:
            rows = rows[values[self.skip] :]
        if self.take is not None:
            rows = rows[: values[self.take]]
        return rows[::-1] if self.is_reversed else rows

    def _is_cursor(self, row: Any, values: Values) -> bool:
        return all(row[column] == values[slot] for column, slot in self.cursor)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Include:
    """A relation to load for rows that are there: one statement for all of them."""

    name: str
    statement: Statement
    build: Build
    is_list: bool
    parent_key: tuple[int, ...]
    """Positions, in the parent's row, of the columns that the relation starts from."""
    child_key: tuple[int, ...]
    """Positions, in the related row, of the columns that hold the parent's key."""
    window: Window | None
    """Applied to the related rows of each parent."""
    includes: tuple[Include, ...]


@dataclass(frozen=True, slots=True)
class FindPlan:
    """Rows: a list of records, or one, or none."""

    statement: Statement
    build: Build
    window: Window | None
    includes: tuple[Include, ...]
    single: bool
    required: str | None
    """The model's name when a missing row is an error."""


@dataclass(frozen=True, slots=True)
class CountPlan:
    """A number, or several by name."""

    statement: Statement
    names: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class LookupStep:
    """A row of another model that must exist; its columns are keys for the statement that follows."""

    statement: Statement
    model: str


@dataclass(frozen=True, slots=True)
class LinkStep:
    """A change of a many-to-many table; `must_find` if the other row must exist."""

    statement: Statement
    model: str
    must_find: bool


@dataclass(frozen=True, slots=True)
class WriteRowPlan:
    """One row written and returned; None when there is none to write.

    Around it in one transaction: lookups before, links after, then what is included. `key` is the position of the
    primary key in the row.
    """

    statement: Statement
    build: Build
    includes: tuple[Include, ...]
    lookups: tuple[LookupStep, ...] = ()
    links: tuple[LinkStep, ...] = ()
    key: int = 0
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class DeleteRowPlan:
    """One row deleted and returned. With includes, row and relations are read first, under the row's lock."""

    statement: Statement
    build: Build
    locked: Statement | None
    includes: tuple[Include, ...]


@dataclass(frozen=True, slots=True)
class UpsertPlan:
    """Where the database cannot decide by itself: look under a lock, then insert or update.

    `update` finds the row by its primary key, which `key` locates in the row of `locked`.
    """

    locked: Statement
    key: tuple[int, ...]
    insert: Statement
    update: Statement
    build: Build
    includes: tuple[Include, ...]


@dataclass(frozen=True, slots=True)
class ManyPlan:
    """Any number of rows written, and counted."""

    statement: Statement


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Rows inserted by several statements, because they do not all give the same fields."""

    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class ConstantPlan:
    """The answer is known without asking."""

    result: int


Plan: TypeAlias = (
    FindPlan | CountPlan | WriteRowPlan | DeleteRowPlan | UpsertPlan | ManyPlan | BatchPlan | ConstantPlan
)
