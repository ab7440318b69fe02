"""Fixtures for the tests about the backfill command."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
from own_target import DDL, Target

from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.install import install
from databases import FreshDatabase
from small_schema import SMALL


@pytest.fixture
async def target(fresh_database: FreshDatabase) -> AsyncIterator[Target]:
    """A target store at `off`, with its indexes and foreign keys."""
    dsn = await fresh_database()
    plain = await asyncpg.connect(**dsn.asyncpg_kwargs())
    await plain.execute(DDL)
    await plain.execute("SET crossfade.role = 'follower'")
    try:
        async with Store(Side.SQLALCHEMY, dsn, SMALL) as store:
            await install(store, by="a test")
            yield Target(store, plain)
    finally:
        plain.terminate()
