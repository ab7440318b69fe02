"""What a backup has to know of the server and the database behind a store."""

# ruff: noqa: S608 - names are the catalog's own and quoted
from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from crossfade.backup.manifest import DumpedTable, Identity
from crossfade.dsn import Dsn
from crossfade.embedded.postgres import CLUSTER_NAME
from crossfade.errors import StoreUnavailableError
from crossfade.store.tables import Connection, quoted
from crossfade.stores import check_reachable

_SPELLING = (
    "SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),"
    " set_config('IntervalStyle', 'iso_8601', true), set_config('bytea_output', 'hex', true),"
    " set_config('extra_float_digits', '1', true), set_config('search_path', 'pg_catalog', true),"
    " set_config('idle_in_transaction_session_timeout', '0', true), set_config('statement_timeout', '0', true)"
)
_TABLES = """
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       greatest(c.reltuples, 0)::int8 AS rows
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class StoreStanding:
    """Which database it is, on what server, and what the role may do there."""

    identity: Identity
    version: str
    major: int
    encoding: str
    is_superuser: bool
    is_embedded: bool
    extensions: tuple[str, ...]


@asynccontextmanager
async def session(dsn: Dsn, what: str) -> AsyncIterator[Connection]:
    """A connection of its own.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    await check_reachable(dsn, what)
    connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        yield connection
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
        raise StoreUnavailableError(dsn.where, str(error)) from error
    finally:
        connection.terminate()


async def read_standing(connection: Connection, where: str) -> StoreStanding:
    """Ask a store what it is; `where` is its place in messages."""
    row = await connection.fetchrow(
        "SELECT d.datname::text AS database, d.oid::int8 AS oid, pg_encoding_to_char(d.encoding) AS encoding,"
        " current_setting('is_superuser')::bool AS is_superuser, current_setting('server_version') AS version,"
        " current_setting('server_version_num')::int AS number, current_setting('cluster_name') AS cluster,"
        " has_function_privilege('pg_control_system()', 'EXECUTE') AS may_ask,"
        " ARRAY(SELECT extname::text FROM pg_extension ORDER BY 1) AS extensions"
        " FROM pg_database d WHERE d.datname = current_database()"
    )
    assert row is not None
    system = None
    if row["may_ask"]:
        system = str(await connection.fetchval("SELECT system_identifier FROM pg_control_system()"))
    return StoreStanding(
        identity=Identity(system, row["database"], row["oid"], where),
        version=row["version"].split()[0],
        major=row["number"] // 10_000,
        encoding=row["encoding"],
        is_superuser=row["is_superuser"],
        is_embedded=row["cluster"] == CLUSTER_NAME,
        extensions=tuple(row["extensions"]),
    )


@asynccontextmanager
async def one_snapshot(connection: Connection) -> AsyncIterator[str]:
    """A transaction that sees one moment for as long as it lasts; gives the name by which others may see the same."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(_SPELLING)
        yield str(await connection.fetchval("SELECT pg_export_snapshot()"))


async def read_tables(connection: Connection) -> tuple[tuple[DumpedTable, ...], frozenset[tuple[str, str]]]:
    """Every table that a dump must have, with estimated rows; and the partitioned ones, which hold none."""
    rows = await connection.fetch(_TABLES)
    tables = tuple(DumpedTable(row["schema"], row["name"], row["rows"]) for row in rows if row["kind"] == "r")
    return tables, frozenset((row["schema"], row["name"]) for row in rows if row["kind"] == "p")


async def read_images(
    connection: Connection, tables: tuple[DumpedTable, ...]
) -> Mapping[tuple[str, str], tuple[int, str]]:
    """Count and hash of the rows of each table, the same wherever the rows are; in a transaction of the caller's."""
    found = {}
    for table in tables:
        row = await connection.fetchrow(
            "SELECT count(*) AS rows,"
            ' coalesce(sum(hashtextextended(ROW(t.*)::text COLLATE "C", 0)), 0)::text AS image_hash'
            f" FROM ONLY {quoted(table.schema)}.{quoted(table.name)} t"
        )
        assert row is not None
        found[table.schema, table.name] = (row["rows"], row["image_hash"])
    return found


async def read_images_at(
    connection: Connection, tables: tuple[DumpedTable, ...]
) -> Mapping[tuple[str, str], tuple[int, str]]:
    """The same in a transaction of its own."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(_SPELLING)
        return await read_images(connection, tables)
