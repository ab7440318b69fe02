"""What the benchmarks of backfill and verify share: two big tables, and a meter of the server's CPU time."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import asyncpg

sys.path.insert(0, str(Path(__file__).parents[1]))

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.schema import Schema
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.install import install
from small_schema import relation, scalar

OWNERS = 10_000

_OWNER = {
    "name": "Owner",
    "dbName": "owner",
    "fields": [
        scalar("id", "Int", isId=True),
        scalar("name"),
        relation("entries", "Entry", "Entries", isList=True),
    ],
    "primaryKey": None,
    "uniqueIndexes": [],
}
_ENTRY = {
    "name": "Entry",
    "dbName": "entry",
    "fields": [
        scalar("id", isId=True),
        scalar("email", isUnique=True),
        scalar("owner_id", "Int"),
        scalar("name"),
        scalar("amount", "Decimal"),
        scalar("score", "Float"),
        scalar("is_active", "Boolean"),
        scalar("created_at", "DateTime"),
        scalar("updated_at", "DateTime", isUpdatedAt=True),
        scalar("settings", "Json"),
        scalar("tags", isList=True),
        scalar("note", isRequired=False),
        relation(
            "owner",
            "Owner",
            "Entries",
            relationFromFields=["owner_id"],
            relationToFields=["id"],
            isRequired=True,
            relationOnDelete="Restrict",
        ),
    ],
    "primaryKey": None,
    "uniqueIndexes": [],
}
_NARROW = {
    "name": "Narrow",
    "dbName": "narrow",
    "fields": [scalar("id", "BigInt", isId=True), scalar("value", "Int"), scalar("at", "DateTime")],
    "primaryKey": None,
    "uniqueIndexes": [],
}


def schema_of(*models: dict[str, object]) -> Schema:
    """A schema of some of the models above."""
    return Schema.from_dmmf({"datamodel": {"enums": [], "models": list(models)}})


WIDE = schema_of(_OWNER, _ENTRY)
NARROW = schema_of(_NARROW)

WIDE_DDL = """
CREATE TABLE {owner} (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE {entry} (
    id text PRIMARY KEY, email text NOT NULL, owner_id integer NOT NULL REFERENCES {owner} ON DELETE RESTRICT,
    name text NOT NULL, amount numeric(12,2) NOT NULL, score double precision NOT NULL, is_active boolean NOT NULL,
    created_at timestamp(3) NOT NULL, updated_at timestamp(3) NOT NULL, settings jsonb NOT NULL, tags text[],
    note text);
CREATE UNIQUE INDEX ON {entry} (email);
CREATE INDEX ON {entry} (owner_id);
CREATE INDEX ON {entry} (created_at);
"""
NARROW_DDL = "CREATE TABLE narrow (id bigint PRIMARY KEY, value integer NOT NULL, at timestamp(3) NOT NULL);"

FILL_OWNERS = f"INSERT INTO owner SELECT n, 'Owner ' || n FROM generate_series(1, {OWNERS}) n"
FILL_ENTRIES = f"""
INSERT INTO entry SELECT
    'c' || lpad(to_hex(n::bigint * 7919), 12, '0') || substr(md5(n::text), 1, 12), 'user' || n || '@example.org',
    1 + n * 31 % {OWNERS}, 'Some Name ' || n, (n % 100000) / 100.0, sqrt(n), n % 3 = 0,
    timestamp '2020-01-01' + n * interval '1.234 seconds', timestamp '2024-01-01' + n * interval '0.987 seconds',
    jsonb_build_object('theme', 'dark', 'size', n % 50, 'ratio', n / 7.0), ARRAY['a', 'b' || n % 10],
    CASE WHEN n % 4 = 0 THEN NULL ELSE 'a note about ' || n END
FROM generate_series($1::integer, $2::integer) n
"""
FILL_NARROW = """
INSERT INTO narrow SELECT n, n % 1000, timestamp '2024-01-01' + n * interval '1 millisecond'
FROM generate_series($1::integer, $2::integer) n
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """One durable server with both stores in it."""

    server: EmbeddedPostgres
    stores: dict[Side, Store]
    legacy: asyncpg.Connection[asyncpg.Record]
    target: asyncpg.Connection[asyncpg.Record]

    def dsn(self, side: Side) -> Dsn:
        """Where a store is."""
        return self.stores[side].dsn


@asynccontextmanager
async def scene(schema: Schema, ddl: str) -> AsyncIterator[Scene]:
    """Two databases with the same tables, crossfade installed, on a server with every commit on disk."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(_folder())
        server = await stack.enter_async_context(EmbeddedPostgres(folder / "data"))
        dsns = {side: Dsn.parse(await server.create_database(f"bench_{side}")) for side in Side}
        plain = {}
        for side, dsn in dsns.items():
            connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
            stack.push_async_callback(connection.close)
            plain[side] = connection
            for statement in ddl.format(owner="owner", entry="entry").split(";"):
                if statement.strip():
                    await connection.execute(statement)
        stores = {side: Store(side, dsn, schema) for side, dsn in dsns.items()}
        for store in stores.values():
            await install(store, by="bench")
            stack.push_async_callback(store.close)
        yield Scene(server, stores, plain[Side.PRISMA], plain[Side.SQLALCHEMY])


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can enter."""
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


class Meter:
    """The CPU time of a server, all its processes together, and the clock."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._tick = os.sysconf("SC_CLK_TCK")
        self._cpu = self._read()
        self._clock = perf_counter()

    def read(self) -> tuple[float, float]:
        """Seconds of CPU and of the clock since this was made."""
        return self._read() - self._cpu, perf_counter() - self._clock

    def _read(self) -> float:
        # A process that has ended is counted with its parent; it ends between two looks at most once.
        own = _times(self._pid)
        return (sum(own) + sum(sum(_times(child)[:2]) for child in _children(self._pid))) / self._tick


def _times(pid: int) -> tuple[int, ...]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0, 0, 0
    return tuple(int(field) for field in fields[11:15])


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
