"""Fixtures for the tests about verifying: two stores for each test."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

sys.path.append(str(Path(__file__).parents[1] / "reconcile"))  # for the twins

from planting import MakeTwins
from twins import Twins, twins

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.mapping import NO_MAPPINGS, Mappings
from crossfade.schema import Schema
from crossfade.stages import Side
from databases import FreshDatabase
from marketplace.seed import seed_legacy
from marketplace.setup import apply_legacy_schema, upgrade_target
from sides import marketplace_schema


@pytest.fixture(scope="session")
def shop_templates(postgres: EmbeddedPostgres) -> Iterator[dict[Side, str]]:
    """The marketplace in two databases, with crossfade's objects; the same few rows in both."""
    names = {side: f"verify_{side}" for side in Side}

    async def make() -> None:
        dsns = {side: Dsn.parse(await postgres.create_database(name)) for side, name in names.items()}
        await apply_legacy_schema(dsns[Side.PRISMA])
        await upgrade_target(dsns[Side.SQLALCHEMY])
        for dsn in dsns.values():
            await seed_legacy(dsn, 400)
        async with twins(marketplace_schema(), dsns):
            pass

    asyncio.run(make())
    yield names
    for name in names.values():
        asyncio.run(postgres.drop_database(name))


@pytest.fixture
async def shop(shop_templates: dict[Side, str], fresh_database: FreshDatabase) -> AsyncIterator[Twins]:
    """The marketplace in both stores, level; the legacy store has every authority."""
    dsns = {side: await fresh_database(name) for side, name in shop_templates.items()}
    async with twins(marketplace_schema(), dsns, installed=True) as opened:
        yield opened


@pytest.fixture
async def make(fresh_database: FreshDatabase) -> AsyncIterator[MakeTwins]:
    """Two stores with tables of a test's own: of a schema and its DDL, or one DDL for each."""
    async with AsyncExitStack() as stack:

        async def create(
            schema: Schema, ddl: str, target_ddl: str | None = None, mappings: Mappings = NO_MAPPINGS
        ) -> Twins:
            dsns = {}
            for side in Side:
                dsns[side] = await fresh_database()
                connection = await asyncpg.connect(**dsns[side].asyncpg_kwargs())
                await connection.execute(ddl if side is Side.PRISMA else target_ddl or ddl)
                await connection.close()
            return await stack.enter_async_context(twins(schema, dsns, mappings=mappings))

        yield create
