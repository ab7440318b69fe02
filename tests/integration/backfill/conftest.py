"""Fixtures for the tests about backfilling: two stores for each test."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import asyncpg
import pytest

sys.path.append(str(Path(__file__).parents[1] / "reconcile"))  # for the twins

from copies import SHOP, SHOP_DDL, fill
from twins import MakeTwins, Twins, copied, make_market, maker, templates, twins

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.stages import Side
from databases import FreshDatabase
from sides import marketplace_schema


async def make_shelf(dsns: Mapping[Side, Dsn]) -> None:
    """Shops and wares, and crossfade's objects; the legacy store has rows."""
    for dsn in dsns.values():
        connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
        await connection.execute(SHOP_DDL)
        await connection.close()
    async with twins(SHOP, dsns) as opened:
        await fill(opened)


@pytest.fixture(scope="session")
def shelf_templates(postgres: EmbeddedPostgres) -> Iterator[dict[Side, str]]:
    """Two databases with shops and wares and crossfade's objects; the legacy one has rows."""
    yield from templates(postgres, "shelf", make_shelf)


@pytest.fixture
async def shop(shelf_templates: dict[Side, str], fresh_database: FreshDatabase) -> AsyncIterator[Twins]:
    """Shops and wares in the legacy store, none in the target; every model is at `off`."""
    async with copied(shelf_templates, fresh_database, SHOP) as opened:
        yield opened


@pytest.fixture(scope="session")
def market_templates(postgres: EmbeddedPostgres) -> Iterator[dict[Side, str]]:
    """Two databases with the marketplace's tables and crossfade's objects."""
    yield from templates(postgres, "backfill", make_market)


@pytest.fixture
async def market(market_templates: dict[Side, str], fresh_database: FreshDatabase) -> AsyncIterator[Twins]:
    """The marketplace in both stores, empty; every model is at `off`."""
    async with copied(market_templates, fresh_database, marketplace_schema()) as opened:
        yield opened


@pytest.fixture
async def make(fresh_database: FreshDatabase) -> AsyncIterator[MakeTwins]:
    """Two stores with tables of a test's own: of a schema and its DDL, or one DDL for each."""
    async with maker(fresh_database) as create:
        yield create
