"""Fixtures for the tests about moving: two installed stores for each test, copied from templates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from places import Places, install_places, opened

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.stages import Side
from databases import FreshDatabase


@pytest.fixture(scope="session")
def templates(postgres: EmbeddedPostgres) -> Iterator[dict[Side, str]]:
    """Two databases with tables and crossfade's objects."""
    names = {side: f"moving_{side}" for side in Side}

    async def make() -> None:
        dsns = {side: Dsn.parse(await postgres.create_database(name)) for side, name in names.items()}
        await install_places(dsns)

    asyncio.run(make())
    yield names
    for name in names.values():
        asyncio.run(postgres.drop_database(name))


@pytest.fixture
async def dsns(templates: dict[Side, str], fresh_database: FreshDatabase) -> dict[Side, Dsn]:
    """A fresh copy of both stores."""
    return {side: await fresh_database(name) for side, name in templates.items()}


@pytest.fixture
async def places(dsns: dict[Side, Dsn]) -> AsyncIterator[Places]:
    """Both stores, opened."""
    async with opened(dsns) as both:
        yield both
