"""Fill the legacy store with made-up rows, and copy one store to the other.

Both use COPY. `copy_store` uses its text format: the binary one names the element type of an array by its number, and
an enum has another number in every database.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import asyncpg
from sqlalchemy import ARRAY, Column, Enum, Table, inspect
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB

from crossfade.dsn import Dsn
from crossfade.errors import ConfigurationError
from crossfade.paths import ROLE_SETTING, SessionRole
from crossfade.schema import Mint, Schema
from crossfade.types import UtcDate, UtcDateTime
from marketplace.db import connect
from marketplace.models import MODELS, Base, conversation_participants
from marketplace.sample import PARTICIPANTS, Row, generate_rows

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Progress = Callable[[str, int], None]
"""Is told the model (or relation) that is done and its number of rows."""

DEFAULT_ROWS: Final = 20_000
DEFAULT_SEED: Final = 7
_CHUNKS_AHEAD = 16
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


async def copy_store(
    source: Dsn, target: Dsn, schema: Schema, progress: Progress = no_progress
) -> dict[str, int]:
    """Copy every row of `source` to an empty `target` with the same tables, sequences included.

    The source is read in one snapshot, and written as a follower; the target has everything or nothing. What is written
    to the source meanwhile is not copied. Where its capture was installed before, that knows of it.

    Returns:
        The number of rows of each model.

    Raises:
        ConfigurationError: the target holds rows already.
        StoreUnavailableError: a database does not answer.
    """
    counts: dict[str, int] = {}
    async with connect(source) as reader, connect(target) as writer:
        snapshot = reader.transaction(isolation="repeatable_read", readonly=True)
        async with snapshot, writer.transaction():
            await writer.execute("SELECT set_config($1, $2, true)", ROLE_SETTING, SessionRole.FOLLOWER)
            models = schema.in_foreign_key_order()
            await _demand_empty(writer, target, [model.table for model in models])
            for model in models:
                columns = [field.column for field in model.fields.values()]
                counts[model.name] = await _copy_table(reader, writer, model.table, columns)
                for field in model.fields.values():
                    if field.default is not None and field.default.mint is Mint.AUTOINCREMENT:
                        await _copy_sequence(reader, writer, model.table, field.column)
                progress(model.name, counts[model.name])
            pairs = [f"_{relation}" for relation in many_to_many(schema)]
            for table in pairs:
                await _copy_table(reader, writer, table, ["A", "B"])
            await _analyze(writer, [*(model.table for model in models), *pairs])
    return counts


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


# --- copying ---------------------------------------------------------------------------------------------------


async def _copy_table(reader: Connection, writer: Connection, table: str, columns: Sequence[str]) -> int:
    """Stream one table from store to store; the reader waits when the writer falls behind."""
    chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_CHUNKS_AHEAD)

    async def read() -> None:
        await reader.copy_from_table(table, columns=columns, output=chunks.put)
        await chunks.put(None)

    async def arriving() -> AsyncIterator[bytes]:
        while (chunk := await chunks.get()) is not None:
            yield chunk

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            written = group.create_task(writer.copy_to_table(table, columns=columns, source=arriving()))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return int(written.result().removeprefix("COPY "))


async def _copy_sequence(reader: Connection, writer: Connection, table: str, column: str) -> None:
    find = "SELECT pg_get_serial_sequence($1, $2)"
    sequence = await reader.fetchval(find, _quoted(table), column)
    state = await reader.fetchrow(f"SELECT last_value, is_called FROM {sequence}")  # noqa: S608  # quoted by PostgreSQL
    assert state is not None
    await writer.execute(
        "SELECT setval(pg_get_serial_sequence($1, $2), $3, $4)", _quoted(table), column, *state.values()
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
