"""Fill the legacy store with made-up rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import asyncpg
from sqlalchemy import ARRAY, Column, Enum, Table, inspect
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB

from crossfade.dsn import Dsn
from crossfade.errors import ConfigurationError
from crossfade.schema import Schema
from crossfade.types import UtcDate, UtcDateTime
from marketplace.db import connect
from marketplace.models import MODELS, Base, conversation_participants
from marketplace.sample import PARTICIPANTS, Row, generate_rows

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Progress = Callable[[str, int], None]
"""Is told the model (or relation) that is done and its number of rows."""

DEFAULT_ROWS: Final = 20_000
DEFAULT_SEED: Final = 7
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def no_progress(_name: str, _rows: int) -> None:
    """Tell nobody."""


async def seed_legacy(
    dsn: Dsn,
    total: int = DEFAULT_ROWS,
    seed: int = DEFAULT_SEED,
    progress: Progress = no_progress,
) -> dict[str, int]:
    """Load `total` made-up rows into an empty store, in one transaction.

    Returns:
        The number of rows of each model.

    Raises:
        ConfigurationError: the store holds rows already.
        StoreUnavailableError: the database does not answer.
    """
    rows = await asyncio.to_thread(generate_rows, total, seed)
    tables = {name: _table(model) for name, model in MODELS.items()}
    async with connect(dsn) as connection, connection.transaction():
        await _demand_empty(connection, dsn, [table.name for table in tables.values()])
        for name, model in MODELS.items():
            await _load(connection, tables[name], _columns_by_field(model), rows[name])
            progress(name, len(rows[name]))
        pairs = conversation_participants
        await _load(connection, pairs, dict(pairs.columns), rows[PARTICIPANTS])
        for table in tables.values():
            if (numbered := table.autoincrement_column) is not None:
                await _raise_sequence(connection, table.name, numbered.name)
        await _analyze(connection, [*(table.name for table in tables.values()), pairs.name])
    return {name: len(rows[name]) for name in MODELS}


def many_to_many(schema: Schema) -> list[str]:
    """The names of the implicit many-to-many relations; their tables have the same name after an underscore."""
    found = {
        relation.relation
        for model in schema
        for relation in model.relations.values()
        if relation.is_list and schema.opposite(model.name, relation).is_list
    }
    return sorted(found)


# --- loading ---------------------------------------------------------------------------------------------------


def _table(model: type[Base]) -> Table:
    table = model.__table__
    assert isinstance(table, Table)
    return table


def _columns_by_field(model: type[Base]) -> dict[str, Column[Any]]:
    # A name that SQLAlchemy keeps for itself has an underscore behind it.
    return {name.rstrip("_"): attribute for name, attribute in inspect(model).columns.items()}


async def _load(
    connection: Connection, table: Table, columns: Mapping[str, Column[Any]], rows: Sequence[Row]
) -> None:
    converters = [_converter(column) for column in columns.values()]
    await connection.copy_records_to_table(
        table.name,
        columns=[column.name for column in columns.values()],
        records=[
            tuple(
                value if convert is None or value is None else convert(value)
                for convert, value in zip(converters, (row[name] for name in columns), strict=True)
            )
            for row in rows
        ],
    )


def _converter(column: Column[Any]) -> Callable[[Any], Any] | None:
    """What turns a field's value into what asyncpg sends for this column; None when nothing is to be done."""
    kind = column.type
    match kind:
        case UtcDateTime() | UtcDate():
            return lambda moment: kind.process_bind_param(moment, _DIALECT)
        case JSONB():
            return lambda document: json.dumps(document, ensure_ascii=False)
        case Enum():
            return _labels(kind).__getitem__
        case ARRAY(item_type=Enum() as element):
            labels = _labels(element)
            return lambda members: [labels[member] for member in members]
        case _:
            return None


def _labels(kind: Enum) -> dict[str, str]:
    """The database's labels by the schema's names."""
    assert kind.enum_class is not None
    return dict(zip(kind.enum_class.__members__, kind.enums, strict=True))


async def _raise_sequence(connection: Connection, table: str, column: str) -> None:
    """Let the column's sequence go on after the highest number."""
    highest = f"SELECT max({_quoted(column)}) FROM {_quoted(table)}"  # noqa: S608  # names come from the models
    await connection.execute(
        f"SELECT setval(pg_get_serial_sequence($1, $2), ({highest}))",
        _quoted(table),
        column,
    )


async def _demand_empty(connection: Connection, dsn: Dsn, tables: Iterable[str]) -> None:
    filled = [
        table
        for table in tables
        if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {_quoted(table)})")  # noqa: S608
    ]
    if filled:
        raise ConfigurationError(
            f"the store at {dsn.where} already holds rows in {', '.join(filled)}; use an empty one"
        )


async def _analyze(connection: Connection, tables: Iterable[str]) -> None:
    """Let the planner know at once; autovacuum would take a minute."""
    await connection.execute(f"ANALYZE {', '.join(map(_quoted, tables))}")


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
