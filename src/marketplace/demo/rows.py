"""The rows themselves, read straight from the databases: no path, no client, no engine in between.

Both stores are read in the order of the primary key, side by side, a thousand rows at a time. Text keys are put in the
order of their bytes, whatever the databases' own collations are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final, NamedTuple

import asyncpg

from crossfade.compare import value_difference
from crossfade.dsn import Dsn
from crossfade.schema import Scalar, Schema
from marketplace.db import connect
from marketplace.journal import Rows
from marketplace.seed import Connection, many_to_many
from marketplace.subjects import SUBJECTS

MISSING: Final = "row missing"
EXTRA: Final = "row too many"

_BATCH = 1000


class _Table(NamedTuple):
    """A table to compare: columns by field, the key first. `texts` are the key's text columns."""

    name: str
    columns: Mapping[str, str]
    key: Sequence[str]
    texts: frozenset[str]

    @property
    def query(self) -> str:
        columns = ", ".join(map(_quoted, self.columns.values()))
        order = ", ".join(
            _quoted(column) + (' COLLATE "C"' if column in self.texts else "")
            for column in (self.columns[name] for name in self.key)
        )
        return f"SELECT {columns} FROM {_quoted(self.name)} ORDER BY {order}"  # noqa: S608 - names from the schema


@dataclass(slots=True)
class TableComparison:
    """How one table differs between the stores. `fields` counts rows by the field they differ in."""

    rows: int = 0
    different: int = 0
    fields: Counter[str] = field(default_factory=Counter)


async def compare_stores(schema: Schema, legacy: Dsn, target: Dsn) -> dict[str, TableComparison]:
    """Compare every row of both stores, by model; a many-to-many relation stands under its own name."""
    found: dict[str, TableComparison] = {}
    async with _reading(legacy) as one, _reading(target) as two:
        for name, table in _tables(schema).items():
            found[name] = await _compare(table, one, two)
    return found


def _tables(schema: Schema) -> dict[str, _Table]:
    tables = {}
    for spec in schema:
        columns = {name: column.column for name, column in spec.fields.items()}
        texts = frozenset(
            columns[name] for name in spec.primary_key if spec.fields[name].scalar is Scalar.STRING
        )
        tables[spec.name] = _Table(spec.table, columns, spec.primary_key, texts)
    for relation in many_to_many(schema):
        pair = {"A": "A", "B": "B"}
        tables[relation] = _Table(f"_{relation}", pair, ("A", "B"), frozenset(pair))
    return tables


async def _compare(table: _Table, one: Connection, two: Connection) -> TableComparison:
    result = TableComparison()
    mine, theirs = _rows(one, table.query), _rows(two, table.query)
    a, b = await anext(mine, None), await anext(theirs, None)
    places = {name: place for place, name in enumerate(table.columns)}
    key = [places[name] for name in table.key]
    while a is not None or b is not None:
        order = _order(a, b, key)
        result.rows += order <= 0
        if order == 0:
            assert a is not None
            assert b is not None
            differing = [name for name, n in places.items() if value_difference(a[n], b[n]) is not None]
            result.fields.update(differing)
            result.different += bool(differing)
        else:
            result.fields[MISSING if order < 0 else EXTRA] += 1
            result.different += 1
        if order <= 0:
            a = await anext(mine, None)
        if order >= 0:
            b = await anext(theirs, None)
    return result


def _order(a: asyncpg.Record | None, b: asyncpg.Record | None, key: Sequence[int]) -> int:
    """Below 0 when `a` comes first, above 0 when `b` does, 0 when they are the same row."""
    if a is None or b is None:
        return 1 if a is None else -1
    one, two = (tuple(_sortable(row[n]) for n in key) for row in (a, b))
    return (one > two) - (one < two)


def _sortable(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


async def read_noted(dsn: Dsn, schema: Schema) -> Rows:
    """Return, for every row of a store, the fields that the journal follows and those of its unique key."""
    found: dict[str, dict[Any, dict[str, Any]]] = {}
    async with _reading(dsn) as connection:
        for model, subject in SUBJECTS.items():
            spec = schema.models[model]
            names = list(dict.fromkeys((*subject.noted, *subject.unique)))
            columns = ", ".join(_quoted(spec.fields[name].column) for name in ("id", *names))
            query = f"SELECT {columns} FROM {_quoted(spec.table)}"  # noqa: S608 - names from the schema
            found[model] = {
                row[0]: dict(zip(names, map(_aware, tuple(row)[1:]), strict=True))
                async for row in _rows(connection, query)
            }
    return found


def _aware(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return datetime(value.year, value.month, value.day, tzinfo=UTC) if isinstance(value, date) else value


@asynccontextmanager
async def _reading(dsn: Dsn) -> AsyncIterator[Connection]:
    async with connect(dsn) as connection:
        for kind in ("json", "jsonb"):
            await connection.set_type_codec(
                kind, schema="pg_catalog", encoder=json.dumps, decoder=json.loads, format="text"
            )
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection


async def _rows(connection: Connection, query: str) -> AsyncIterator[asyncpg.Record]:
    cursor = await connection.cursor(query)
    while batch := await cursor.fetch(_BATCH):
        for row in batch:
            yield row


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
