"""Tables of a test's own, and differences that nobody has captured."""

from __future__ import annotations

from typing import Any

from twins import Twins, schema_of

from crossfade.schema import Schema
from crossfade.stages import Side
from crossfade.verify import Differing, TableReport, Verify, VerifySettings
from small_schema import scalar

QUICK = VerifySettings(settle=0.02, patience=1.0)
SMALL_CHUNKS = VerifySettings(settle=0.02, patience=1.0, chunk_rows=100, largest_chunk=100, deep_rows=100)

COLUMNS = """
    name text NOT NULL, note text DEFAULT 'none', amount numeric, price numeric(12,2), count integer,
    at timestamp(3), moment timestamptz(3), document jsonb, raw json, is_new boolean, ratio double precision,
    tags text[], bytes bytea, written timestamp(3)
"""
FIELDS = [scalar("name"), scalar("written", "DateTime", isUpdatedAt=True)]
THING = schema_of(Thing=[scalar("id", isId=True), *FIELDS])


def thing_ddl(key: str = "id text PRIMARY KEY") -> str:
    """The DDL of a table of mixed columns."""
    return f'CREATE TABLE "Thing" ({key}, {COLUMNS})'


def filling(rows: int, key: str = "md5(n::text)") -> str:
    """The statement that fills that table."""
    return f"""
        INSERT INTO "Thing" SELECT {key}, 'name ' || n, 'note ' || n, n + 0.50, n / 4.0, n,
            timestamp '2024-01-01' + n * interval '1.001 seconds',
            timestamptz '2024-01-01Z' + n * interval '61 seconds',
            jsonb_build_object('a', n, 'b', ARRAY[1, n]), json_build_object('a', n), n % 2 = 0, n / 7.0,
            ARRAY['a', 'tag ' || n], decode(md5(n::text), 'hex'),
            timestamp '2024-03-01' + n * interval '1 minute'
        FROM generate_series(1, {rows}) n
    """


async def fill(twins: Twins, statement: str) -> None:
    """Put the same rows into both stores, uncaptured."""
    for side in Side:
        await unseen(twins, side, "Thing", statement)
        await twins.plain[side].execute("ANALYZE")


async def unseen(twins: Twins, side: Side, model: str, *statements: str) -> None:
    """Run statements with no trigger of a table's own to capture or refuse them."""
    connection, table = twins.plain[side], twins.stores[side].tables[model].quoted
    async with connection.transaction():
        triggers = await connection.fetch(
            "SELECT tgname, tgenabled::text AS state FROM pg_trigger WHERE tgrelid = $1::regclass AND NOT tgisinternal",
            table,
        )
        await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for statement in statements:
            await connection.execute(statement)
        for name, state in triggers:
            how = {"A": "ENABLE ALWAYS", "D": "DISABLE", "O": "ENABLE"}[state]
            await connection.execute(f'ALTER TABLE {table} {how} TRIGGER "{name}"')


async def verify_one(twins: Twins, settings: VerifySettings = QUICK, **question: Any) -> TableReport:
    """Verify, by a reconciler of its own, the one table that there is."""
    [report] = await Verify(twins.stores, twins.reconciler(), twins.observer, settings).run(**question)
    return report


async def noted(twins: Twins, model: str = "Thing") -> list[Differing]:
    """The differences that the target store has been told of, by key."""
    from crossfade.verify import Kind

    rows = await twins.plain[Side.SQLALCHEMY].fetch(
        "SELECT key, kind, columns FROM crossfade.difference WHERE model = $1 ORDER BY key", model
    )
    return [Differing(tuple(row["key"]), Kind(row["kind"]), tuple(row["columns"])) for row in rows]


def one_key(key: str = "Int") -> Schema:
    """The schema of that table with a key of another type."""
    return schema_of(Thing=[scalar("id", key, isId=True), *FIELDS])
