"""What crossfade needs to know of a store's tables: which one holds which model, its columns and its key.

The catalog is the authority, not the schema: columns have the types that the store gave them, and the key is the
primary key of the table. An implicit many-to-many table has no model of its own; it is kept as a pseudo-model under
its table's name and belongs to the model that its first column refers to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import asyncpg

from crossfade.errors import InstallError
from crossfade.mapping import NO_MAPPINGS, Mappings
from crossfade.schema import Schema

Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """One column: its name and its type, as `format_type` writes it. `kind` is the catalog's `typcategory`."""

    name: str
    type: str
    kind: str
    is_nullable: bool
    is_generated: bool = False
    has_default: bool = False


@dataclass(frozen=True, slots=True)
class StoredReference:
    """A foreign key to another table, by columns; `on_delete` is the catalog's letter (a, r, c, n or d)."""

    name: str
    columns: tuple[str, ...]
    model: str
    to_columns: tuple[str, ...]
    on_delete: str


@dataclass(frozen=True, slots=True)
class StoredTable:
    """The table of one model in one store.

    `owner` is the model whose stage decides about this table: the model itself, except for an implicit many-to-many
    table. `partitions` are the schema and name of every partition, which take writes of their own. `uniques` are the
    columns of every unique index beside the key. `legacy_names` are those of the columns that a mapping has renamed.
    """

    model: str
    owner: str
    schema: str
    name: str
    columns: Mapping[str, StoredColumn]
    key: tuple[str, ...]
    uniques: tuple[tuple[str, ...], ...] = ()
    references: tuple[StoredReference, ...] = ()
    partitions: tuple[tuple[str, str], ...] = ()
    legacy_names: Mapping[str, str] = field(default_factory=dict)

    def legacy_name(self, column: str) -> str:
        """What a column is called in the legacy store."""
        return self.legacy_names.get(column, column)

    @property
    def quoted(self) -> str:
        """The table's name for SQL, with its schema."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class StoredTables:
    """Every migrated table of one store, parents before children."""

    tables: Mapping[str, StoredTable]

    def of(self, models: Sequence[str]) -> list[StoredTable]:
        """The tables that move with `models`: their own, and the many-to-many tables that they own."""
        wanted = frozenset(models)
        return [table for table in self.tables.values() if table.owner in wanted]

    def __getitem__(self, model: str) -> StoredTable:
        return self.tables[model]

    def __iter__(self) -> Iterator[StoredTable]:
        return iter(self.tables.values())


def quoted(identifier: str) -> str:
    """An identifier as SQL writes it."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text constant as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


_RELATION = "SELECT oid::int8 AS oid, relkind::text AS kind FROM pg_class WHERE oid = to_regclass($1)"
_NO_TABLES = {
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
    "c": "composite type",
    "S": "sequence",
}
_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, t.typcategory::text AS kind,
       NOT a.attnotnull AS is_nullable, a.attgenerated <> '' AS is_generated,
       a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL AS has_default
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
_INDEXES = """
SELECT i.indisprimary AS is_primary,
       array_agg(a.attname::text ORDER BY k.place) AS columns, bool_and(a.attnotnull) AS not_null
FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
      AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid, i.indisprimary
ORDER BY i.indisprimary DESC, i.indexrelid
"""
_REFERENCES = """
SELECT c.conname::text AS name, c.confrelid::int8 AS target, c.confdeltype::text AS on_delete,
       (SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(c.conkey) WITH ORDINALITY AS k(attnum, place)
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum) AS columns,
       (SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(c.confkey) WITH ORDINALITY AS k(attnum, place)
        JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.attnum) AS to_columns
FROM pg_constraint c WHERE c.conrelid = $1 AND c.contype = 'f' AND c.conparentid = 0
ORDER BY c.conname
"""
_PARTITIONS = """
SELECT n.nspname::text AS schema, c.relname::text AS name
FROM pg_partition_tree($1::oid) p JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.level > 0 ORDER BY 1, 2
"""


async def read_tables(
    connection: Connection, schema: Schema, database_schema: str, where: str, mappings: Mappings = NO_MAPPINGS
) -> StoredTables:
    """Read the tables of every model of `schema` from the catalog.

    Args:
        connection: the store.
        schema: the models.
        database_schema: the PostgreSQL schema that holds their tables.
        where: what to call the store in an error.
        mappings: which tables have another name or schema here.

    Raises:
        InstallError: a table is missing, is no ordinary or partitioned table, or has neither a primary key nor a
            unique index over columns that are never null; every such table is listed.
    """
    tables, problems = await inspect_tables(connection, schema, database_schema, mappings)
    if problems:
        raise InstallError(where, "; ".join(problems))
    return tables


async def inspect_tables(
    connection: Connection, schema: Schema, database_schema: str, mappings: Mappings = NO_MAPPINGS
) -> tuple[StoredTables, list[str]]:
    """Read the tables that can be worked with, and say of every other one why it cannot."""
    wanted = table_names(schema, database_schema, mappings)
    oids: dict[str, int] = {}
    problems: list[str] = []
    for model, (_, place, table) in wanted.items():
        name = f"{quoted(place)}.{quoted(table)}"
        row = await connection.fetchrow(_RELATION, name)
        if row is None:
            problems.append(f"{model} has no table {name}")
        elif row["kind"] in _NO_TABLES:
            problems.append(
                f"{name} of {model} is a {_NO_TABLES[row['kind']]}, and only tables can be captured"
            )
        else:
            oids[model] = row["oid"]
    models_by_oid = {oid: model for model, oid in oids.items()}
    found: dict[str, StoredTable] = {}
    for model, oid in oids.items():
        owner, place, table = wanted[model]
        indexes = await connection.fetch(_INDEXES, oid)
        key = _key(indexes)
        if not key:
            problems.append(f"{quoted(place)}.{quoted(table)} of {model} has no primary key; give it one")
            continue
        columns = [StoredColumn(**dict(row)) for row in await connection.fetch(_COLUMNS, oid)]
        found[model] = StoredTable(
            model=model,
            owner=owner,
            schema=place,
            name=table,
            columns={column.name: column for column in columns},
            key=key,
            uniques=tuple(tuple(row["columns"]) for row in indexes if tuple(row["columns"]) != key),
            references=tuple(
                StoredReference(
                    row["name"],
                    tuple(row["columns"]),
                    models_by_oid[row["target"]],
                    tuple(row["to_columns"]),
                    row["on_delete"],
                )
                for row in await connection.fetch(_REFERENCES, oid)
                if row["target"] in models_by_oid
            ),
            partitions=tuple(
                (row["schema"], row["name"]) for row in await connection.fetch(_PARTITIONS, oid)
            ),
            legacy_names=mappings.of(model).legacy_names,
        )
    return StoredTables(found), problems


def table_names(schema: Schema, database_schema: str, mappings: Mappings) -> dict[str, tuple[str, str, str]]:
    """Owner, PostgreSQL schema and table by model, parents first; many-to-many tables come last."""
    ordered = schema.in_foreign_key_order()
    wanted = {spec.name: (spec.name, spec.table) for spec in ordered}
    for spec in sorted(schema, key=lambda spec: spec.name):
        for relation in spec.relations.values():
            if relation.is_list and schema.opposite(spec.name, relation).is_list:
                table = f"_{relation.relation}"
                wanted.setdefault(table, (spec.name, table))
    return {
        model: (owner, mappings.of(model).schema or database_schema, mappings.of(model).table or table)
        for model, (owner, table) in wanted.items()
    }


def _key(indexes: Sequence[Any]) -> tuple[str, ...]:
    usable = [row for row in indexes if row["is_primary"] or row["not_null"]]
    return tuple(usable[0]["columns"]) if usable else ()
