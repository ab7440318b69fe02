"""Both sides of the marketplace, opened for tests: a database each, with the path that works on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache

import asyncpg

from crossfade.dsn import Dsn
from crossfade.engine.generate import generate_prisma_client
from crossfade.engine.launcher import ensure_engine
from crossfade.engine.parser import load_schema
from crossfade.paths import Path
from crossfade.paths.prisma import PrismaPath
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from crossfade.schema import Schema
from crossfade.stages import Side
from marketplace.models import MODELS
from marketplace.records import RECORDS
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target

TABLES = {name: model.__table__ for name, model in MODELS.items()}
JOIN_TABLES = ("_ConversationParticipants",)


@cache
def marketplace_schema() -> Schema:
    """The marketplace's schema, as Prisma's own parser reads it."""
    return load_schema(SCHEMA_FILE)


@dataclass(frozen=True)
class OpenSide:
    """One side: its path, and a connection of the test's own to look at and to clear the store behind it."""

    path: Path
    store: asyncpg.Connection

    @property
    def tables(self) -> Sequence[str]:
        """Every table, children before their parents."""
        parents_first = [spec.table for spec in marketplace_schema().in_foreign_key_order()]
        return [*JOIN_TABLES, *reversed(parents_first)]

    async def clear(self) -> None:
        """Remove every row, and let the sequences begin at 1 again. Cheaper than TRUNCATE for a handful of rows."""
        await self.store.execute(self.clearing)

    @property
    def clearing(self) -> str:
        """The statements of `clear`."""
        deletes = "".join(f'DELETE FROM "{table}";' for table in self.tables)
        restarts = "".join(
            f"SELECT setval(pg_get_serial_sequence('\"{spec.table}\"', '{field.column}'), 1, false);"
            for spec in marketplace_schema()
            for field in spec.minted_by_database
        )
        return deletes + restarts


@asynccontextmanager
async def open_side(side: Side, dsn: Dsn) -> AsyncIterator[OpenSide]:
    """Give the empty database at `dsn` the marketplace's tables, and open the path of `side` on it."""
    path: Path
    if side is Side.PRISMA:
        await apply_legacy_schema(dsn)
        await asyncio.to_thread(ensure_engine)
        await asyncio.to_thread(generate_prisma_client, SCHEMA_FILE, SCHEMA_FILE.parent / "prisma_client")
        path = PrismaPath.open(marketplace_schema(), RECORDS, "marketplace.prisma_client", dsn)
    else:
        await upgrade_target(dsn)
        path = SqlAlchemyPath(marketplace_schema(), TABLES, RECORDS, dsn)
    store = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        await path.connect()
        yield OpenSide(path, store)
    finally:
        await path.close()
        await store.close()
