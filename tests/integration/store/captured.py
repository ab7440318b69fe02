"""Tables of a test's own under capture and fence, with what they have captured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import asyncpg

from crossfade.dsn import Dsn
from crossfade.schema import ModelSpec, Schema
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.install import install

Captured = tuple[object, ...]
"""Model, operation and key of one captured change, and the key that its row had before if it is noted for that."""


def renamed(model: str, old: tuple[str, ...], new: tuple[str, ...]) -> list[Captured]:
    """What is captured of a row that has got another key."""
    return [(model, "U", old), (model, "U", new), (model, "U", new, old)]


def schema_of(tables: Mapping[str, str]) -> Schema:
    """A schema that knows of its models only their names and tables: the rest is the catalog's."""
    nothing: Mapping[str, Any] = MappingProxyType({})
    return Schema(
        {model: ModelSpec(model, table, nothing, nothing, (), nothing) for model, table in tables.items()}, {}
    )


@dataclass
class Captive:
    """A store with tables under capture, and a session of an author's."""

    store: Store
    author: asyncpg.Connection

    async def run(self, *statements: str) -> None:
        for statement in statements:
            await self.author.execute(statement)

    async def captured(self) -> list[Captured]:
        """What has been captured since the last call, in no order."""
        rows = await self.author.fetch("DELETE FROM crossfade.change RETURNING model, op, key, was")
        found = [
            (row["model"], row["op"].decode(), *(key and tuple(key) for key in (row["key"], row["was"])))
            for row in rows
        ]
        found = [entry if entry[3] else entry[:3] for entry in found]
        return sorted(found, key=repr)

    async def captured_by(self, *statements: str) -> list[Captured]:
        """What `statements` have added to it."""
        await self.captured()
        await self.run(*statements)
        return await self.captured()


@asynccontextmanager
async def captive(
    dsn: Dsn, ddl: str, tables: Mapping[str, str], side: Side = Side.PRISMA
) -> AsyncIterator[Captive]:
    """Create the tables of `ddl` in an empty database and install crossfade on those that are models."""
    author = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        await author.execute(ddl)
        async with Store(side, dsn, schema_of(tables)) as store:
            await install(store, by="a test")
            yield Captive(store, author)
    finally:
        await author.close()


_CATALOG = {
    "schemas": "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'",
    "relations": """
        SELECT n.nspname, c.relname, c.relkind, c.relhastriggers, c.relacl::text, c.reloptions
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_|^information_schema$'
    """,
    "columns": """
        SELECT a.attrelid::regclass, a.attname, a.attnum, a.atttypid::regtype, a.attnotnull,
               pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE n.nspname !~ '^pg_|^information_schema$' AND a.attnum > 0
    """,
    "constraints": """
        SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0
    """,
    "indexes": "SELECT schemaname, indexname, indexdef FROM pg_indexes WHERE schemaname !~ '^pg_'",
    "types": """
        SELECT n.nspname, t.typname, ARRAY(SELECT e.enumlabel FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY 1)
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname !~ '^pg_|^information_schema$'
    """,
    "functions": """
        SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname !~ '^pg_|^information_schema$'
    """,
    "triggers": "SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal",
    "comments": "SELECT description FROM pg_description WHERE objoid >= 16384",
    "settings": "SELECT setdatabase, setrole, setconfig FROM pg_db_role_setting",
}


async def read_whole_catalog(connection: asyncpg.Connection) -> dict[str, list[str]]:
    """Everything that a database has beside its rows, kind by kind."""
    return {
        kind: sorted(str(tuple(row.values())) for row in await connection.fetch(query))
        for kind, query in _CATALOG.items()
    }
