"""A legacy store with the two small models' tables and crossfade's objects in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from crossfade.dsn import Dsn
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.install import install
from small_schema import SMALL

TABLES = """
CREATE TABLE "Author" (id text PRIMARY KEY, email text NOT NULL UNIQUE, name text, score integer NOT NULL DEFAULT 0,
    created_at timestamp(3) NOT NULL DEFAULT now(), updated_at timestamp(3) NOT NULL);
CREATE TABLE books (id serial PRIMARY KEY, title text NOT NULL, author_id text NOT NULL REFERENCES "Author" (id),
    UNIQUE (author_id, title));
"""


@asynccontextmanager
async def small_store(dsn: Dsn, *, core_only: bool = False) -> AsyncIterator[Store]:
    """Make the tables in an empty database, install, and open it; `core_only` for a store that both sides share."""
    connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
    await connection.execute(TABLES)
    await connection.close()
    async with Store(Side.PRISMA, dsn, SMALL) as store:
        await install(store, by="test", core_only=core_only)
        yield store
