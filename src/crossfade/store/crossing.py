"""How the rows of every model cross from one store to the other: which columns belong together, and by what key.

The catalogs say what there is, the mappings what is meant. What they leave open is refused, all of it at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import asyncpg

from crossfade.errors import InstallError
from crossfade.mapping import Converted, filled
from crossfade.mapping import Mapping as ModelMapping
from crossfade.stages import Side
from crossfade.store.columns import as_travelling, base_type, travelling_type
from crossfade.store.crossed import CrossedColumn
from crossfade.store.pairing import pair
from crossfade.store.store import Store
from crossfade.store.tables import Connection, StoredColumn, StoredTable, quoted

__all__ = [
    "CrossedColumn",
    "Crossing",
    "check_crossings",
    "crossing_of",
    "inspect_crossing",
    "read_crossings",
]


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

    def reaching(self, side: Side) -> tuple[CrossedColumn, ...]:
        """The columns that the store of `side` takes from the other one."""
        return tuple(column for column in self.columns if column.reaches(side))

    def named(self, side: Side, names: tuple[str, ...]) -> tuple[CrossedColumn, ...] | None:
        """The columns that are called so in one store, or None if not all of them cross."""
        by_name = {column.on(side).name: column for column in self.columns}
        found = tuple(by_name[name] for name in names if name in by_name)
        return found if len(found) == len(names) else None

    def key_columns(self, side: Side) -> tuple[StoredColumn, ...]:
        """The key's columns in one store."""
        return tuple(self.tables[side].columns[name] for name in self.keys[side])

    def key_texts(self, side: Side, alias: str = "t") -> str:
        """The expression for a row's key as texts."""
        return "ARRAY[" + ", ".join(f"{alias}.{quoted(name)}::text" for name in self.keys[side]) + "]"

    def image(self, side: Side, alias: str = "t", *, towards: Side = Side.SQLALCHEMY) -> str:
        """The expression for the text of a whole row, the same in both stores if the rows say the same.

        `towards` is the follower: columns that it does not take cannot be made equal there, and are left out.
        """
        compared = ", ".join(column.compared(side, alias) for column in self.reaching(towards))
        return f"ROW({compared})::text"


def read_crossings(stores: Mapping[Side, Store]) -> dict[str, Crossing]:
    """Describe how every model crosses, parents before children.

    Raises:
        InstallError: the tables of the two stores do not match, or their mappings do not match the tables; everything
            is listed.
    """
    crossings, problems = _read(stores)
    _refuse(stores, problems)
    return crossings


async def check_crossings(stores: Mapping[Side, Store]) -> dict[str, Crossing]:
    """Do the same, and have PostgreSQL judge every expression of the mappings as well; nothing is run.

    Raises:
        InstallError: see `read_crossings`; or an expression cannot be used for its column.
        StoreUnavailableError: a database does not answer.
    """
    crossings, problems = _read(stores)
    converted = [
        (crossing.model, column, column.conversion)
        for crossing in crossings.values()
        for column in crossing.columns
        if column.conversion is not None
    ]
    if converted:
        for side, store in stores.items():
            async with store.transaction() as connection:
                for model, column, conversion in converted:
                    for name, expression in _expressions(column, conversion, side):
                        refused = await _judge(connection, expression)
                        if refused:
                            place = "legacy" if side is Side.PRISMA else "target"
                            problems.append(
                                f"{model}: `{name}` of column {column.legacy.name} cannot be used in the {place}"
                                f" store: {refused}"
                            )
    _refuse(stores, problems)
    return crossings


def inspect_crossing(
    legacy: StoredTable, target: StoredTable, mapping: ModelMapping
) -> tuple[Crossing, list[str]]:
    """Describe how one model crosses as far as its tables match, and say of everything else why it does not."""
    columns, key, problems = pair(legacy, target, mapping)
    crossing = Crossing(
        model=legacy.model,
        owner=legacy.owner,
        tables={Side.PRISMA: legacy, Side.SQLALCHEMY: target},
        columns=columns,
        keys={Side.PRISMA: legacy.key, Side.SQLALCHEMY: key},
    )
    return crossing, problems


def crossing_of(
    legacy: StoredTable, target: StoredTable, here: str, there: str, mapping: ModelMapping | None = None
) -> Crossing:
    """Describe how one model crosses; `here` and `there` name the stores in an error.

    Raises:
        InstallError: the two tables have different keys.
    """
    crossing, problems = inspect_crossing(legacy, target, mapping or ModelMapping(legacy.model))
    different = [problem for problem in problems if problem.startswith("the key of")]
    if different:
        raise InstallError(f"{there}, beside {here}", "; ".join(different))
    return crossing


def _refuse(stores: Mapping[Side, Store], problems: list[str]) -> None:
    if problems:
        where = f"{stores[Side.SQLALCHEMY].where}, beside {stores[Side.PRISMA].where}"
        raise InstallError(where, "; ".join(problems))


def _read(stores: Mapping[Side, Store]) -> tuple[dict[str, Crossing], list[str]]:
    legacy, target = stores[Side.PRISMA].tables, stores[Side.SQLALCHEMY].tables
    mappings = stores[Side.SQLALCHEMY].mappings
    problems = [
        f"there is a mapping of {mapping.model}, and no such model; the schema has {', '.join(sorted(legacy.tables))}"
        for mapping in mappings
        if mapping.model not in legacy.tables
    ]
    crossings: dict[str, Crossing] = {}
    for table in legacy:
        crossing, found = inspect_crossing(table, target[table.model], mappings.of(table.model))
        crossings[table.model] = crossing
        problems += (f"{table.model}: {problem}" for problem in found)
    return crossings, problems


# --- expressions -------------------------------------------------------------------------------------------------


def _expressions(column: CrossedColumn, conversion: Converted, side: Side) -> Iterator[tuple[str, str]]:
    """What is to be judged in one store: the name of an expression, and SQL that holds it.

    Both stores run `forward`, one over its column and the other over what a caller gives; only the target's runs
    `backward`.
    """
    own, other = column.legacy.type, column.target.type
    if side is Side.PRISMA:
        yield "forward", as_travelling(other, filled(conversion.forward, f"NULL::{base_type(own)}"))
        return
    there = as_travelling(other, filled(conversion.forward, f"NULL::{travelling_type(own)}"))
    yield "forward", f"({there})::{base_type(other)}"
    if conversion.backward is not None:
        yield "backward", as_travelling(own, filled(conversion.backward, f"NULL::{base_type(other)}"))


async def _judge(connection: Connection, expression: str) -> str | None:
    """What PostgreSQL has against an expression, if anything."""
    try:
        async with connection.transaction():
            await connection.prepare(f"SELECT {expression}")
    except asyncpg.PostgresError as error:
        return str(error)
    return None
