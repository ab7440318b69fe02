"""Fixtures for the tests about backfilling: two stores for each test."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

sys.path.append(str(Path(__file__).parents[1] / "reconcile"))

from copies import SHOP, SHOP_DDL, MakeTwins, fill
from twins import Twins, twins

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.schema import Schema
from crossfade.stages import Side
from databases import FreshDatabase
from marketplace.setup import apply_legacy_schema, upgrade_target
from sides import marketplace_schema


@pytest.fixture(scope="session")
def shelf_templates(postgres: EmbeddedPostgres) -> Iterator[dict[Side, str]]:
    """Two databases with shops and wares and crossfade's objects; the legacy one has rows."""
    names = {side: f"shelf_{side}" for side in Side}

    async def make() -> None:
        dsns = {side: Dsn.parse(await postgres.create_database(name)) for side, name in names.items()}
        for dsn in dsns.values():
            connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
            await connection.execute(SHOP_DDL)
            await connection.close()
        async with twins(SHOP, dsns) as opened:
            await fill(opened)

    asyncio.run(make())
    yield names
    for name in names.values():
        asyncio.run(postgres.drop_database(name))


@pytest.fixture
async def shop(shelf_templates: dict[Side, str], fresh_database: FreshDatabase) -> AsyncIterator[Twins]:
    """Shops and wares in the legacy store, none in the target; every model is at `off`."""
    dsns = {side: await fresh_database(name) for side, name in shelf_templates.items()}
    async with twins(SHOP, dsns, installed=True) as opened:
        yield opened


@pytest.fixture(scope="session")
def market_templates(postgres: EmbeddedPostgres) -> Iterator[dict[Side, str]]:
    """Two databases with the marketplace's tables and crossfade's objects."""
    names = {side: f"backfill_{side}" for side in Side}

    async def make() -> None:
        dsns = {side: Dsn.parse(await postgres.create_database(name)) for side, name in names.items()}
        await apply_legacy_schema(dsns[Side.PRISMA])
        await upgrade_target(dsns[Side.SQLALCHEMY])
        async with twins(marketplace_schema(), dsns):
            pass

    asyncio.run(make())
    yield names
    for name in names.values():
        asyncio.run(postgres.drop_database(name))


@pytest.fixture
async def market(market_templates: dict[Side, str], fresh_database: FreshDatabase) -> AsyncIterator[Twins]:
    """The marketplace in both stores, empty; every model is at `off`."""
    dsns = {side: await fresh_database(name) for side, name in market_templates.items()}
    async with twins(marketplace_schema(), dsns, installed=True) as opened:
        yield opened


@pytest.fixture
async def make(fresh_database: FreshDatabase) -> AsyncIterator[MakeTwins]:
    """Two stores with tables of a test's own: of a schema and its DDL, or one DDL for each."""
    async with AsyncExitStack() as stack:

        async def create(schema: Schema, ddl: str, target_ddl: str | None = None) -> Twins:
            dsns = {}
            for side in Side:
                dsns[side] = await fresh_database()
                connection = await asyncpg.connect(**dsns[side].asyncpg_kwargs())
                await connection.execute(ddl if side is Side.PRISMA else target_ddl or ddl)
                await connection.close()
            return await stack.enter_async_context(twins(schema, dsns))

        yield create
