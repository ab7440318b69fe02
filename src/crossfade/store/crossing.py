"""How the rows of one model cross from one store to the other: which columns belong together, and in what form.

A value takes one of three forms on its way, and each is an SQL expression over the column that holds it:

* *compared*: spelled alike in both stores when both say the same;
* *sent*: the text that the other store's column takes, for rows that are copied one by one;
* *wired*: a value of a type that both stores know, for binary COPY; the staging table has columns of these types, and
  *landed* takes such a value to the target's column.

Forms never cut or round: what does not fit is refused by the column in the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crossfade.errors import InstallError
from crossfade.stages import Side
from crossfade.store.columns import as_text, base_type, comparable
from crossfade.store.store import Store
from crossfade.store.tables import StoredColumn, StoredTable, quoted

_TRAVELS = frozenset(
    {
        "text", "character varying", "bpchar", "uuid", "smallint", "integer", "bigint", "numeric", "real",
        "double precision", "boolean", "bytea", "json", "jsonb", "date", "interval", "timestamp without time zone",
        "timestamp with time zone", "time without time zone", "time with time zone", "inet", "cidr", "macaddr",
        "macaddr8", "bit varying", "xml",
    }
)  # fmt: skip
"""Types whose binary form means the same in every PostgreSQL. Other types travel as text."""


@dataclass(frozen=True, slots=True)
class CrossedColumn:
    """One column in both stores."""

    legacy: StoredColumn
    target: StoredColumn

    def on(self, side: Side) -> StoredColumn:
        """The column of one side."""
        return self.legacy if side is Side.PRISMA else self.target

    def compared(self, side: Side, alias: str = "t") -> str:
        """The expression by which the value of one side is compared."""
        return comparable(self.on(side), self.on(side.other), f"{alias}.{quoted(self.on(side).name)}")

    def sent(self, side: Side, alias: str = "t") -> str:
        """The expression for the text that the column of the other side is to have."""
        return as_text(self.on(side), f"{alias}.{quoted(self.on(side).name)}")

    @property
    def wire(self) -> str:
        """The type in which values of the legacy column travel to the target store."""
        type_ = base_type(self.target.type)
        element = type_.removesuffix("[]")
        if element in _TRAVELS:
            return type_
        return "text[]" if type_ != element else "text"

    def wired(self, alias: str = "t") -> str:
        """The expression for a legacy value in that type."""
        value = f"{alias}.{quoted(self.legacy.name)}"
        if base_type(self.legacy.type) == self.wire:
            return value
        if base_type(self.legacy.type) == "money":
            return f"{value}::numeric::{self.wire}"
        return f"{value}::{self.wire}"

    def landed(self, value: str) -> str:
        """The expression that takes such a value to the target column."""
        type_ = base_type(self.target.type)
        if type_ == self.wire:
            return value
        return f"{value}::numeric::money" if type_ == "money" else f"{value}::{type_}"


@dataclass(frozen=True, slots=True)
class Crossing:
    """One model's rows in both stores. `columns` are those that cross; `keys` name the key in one order for both."""

    model: str
    owner: str
    tables: Mapping[Side, StoredTable]
    columns: tuple[CrossedColumn, ...]
    keys: Mapping[Side, tuple[str, ...]]

    def names(self, side: Side) -> tuple[str, ...]:
        """The names of the crossing columns in one store."""
        return tuple(column.on(side).name for column in self.columns)

    def key_columns(self, side: Side) -> tuple[StoredColumn, ...]:
        """The key's columns in one store."""
        return tuple(self.tables[side].columns[name] for name in self.keys[side])

    def key_texts(self, side: Side, alias: str = "t") -> str:
        """The expression for a row's key as texts."""
        return "ARRAY[" + ", ".join(f"{alias}.{quoted(name)}::text" for name in self.keys[side]) + "]"

    def image(self, side: Side, alias: str = "t") -> str:
        """The expression for the text of a whole row, the same in both stores if the rows say the same."""
        compared = ", ".join(column.compared(side, alias) for column in self.columns)
        return f"ROW({compared})::text"


def read_crossings(stores: Mapping[Side, Store]) -> dict[str, Crossing]:
    """Describe how every model crosses, parents before children.

    Raises:
        InstallError: the two stores have different keys for a model.
    """
    return {
        table.model: crossing_of(
            stores[Side.PRISMA].tables[table.model],
            stores[Side.SQLALCHEMY].tables[table.model],
            stores[Side.PRISMA].where,
            stores[Side.SQLALCHEMY].where,
        )
        for table in stores[Side.PRISMA].tables
    }


def crossing_of(legacy: StoredTable, target: StoredTable, here: str, there: str) -> Crossing:
    """Describe how one model crosses; `here` and `there` name the stores in an error.

    Raises:
        InstallError: the two tables have different keys.
    """
    if set(legacy.key) != set(target.key):
        raise InstallError(
            here,
            f"the key of {legacy.quoted} is ({', '.join(legacy.key)}) here and ({', '.join(target.key)}) at"
            f" {there}; give both the same primary key",
        )
    columns = tuple(
        CrossedColumn(legacy.columns[name], column)
        for name, column in target.columns.items()
        if name in legacy.columns and not column.is_generated and not legacy.columns[name].is_generated
    )
    return Crossing(
        model=legacy.model,
        owner=legacy.owner,
        tables={Side.PRISMA: legacy, Side.SQLALCHEMY: target},
        columns=columns,
        keys={Side.PRISMA: legacy.key, Side.SQLALCHEMY: legacy.key},
    )
