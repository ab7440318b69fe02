"""Fixtures for the tests about verifying: two stores for each test."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "reconcile"))  # for the twins

from twins import MakeTwins, Twins, copied, make_market, maker, templates

from crossfade.embedded import EmbeddedPostgres
from crossfade.stages import Side
from databases import FreshDatabase
from sides import marketplace_schema


@pytest.fixture(scope="session")
def shop_templates(postgres: EmbeddedPostgres) -> Iterator[dict[Side, str]]:
    """The marketplace in two databases, with crossfade's objects; the same few rows in both."""
    yield from templates(postgres, "verify", partial(make_market, rows=400))


@pytest.fixture
async def shop(shop_templates: dict[Side, str], fresh_database: FreshDatabase) -> AsyncIterator[Twins]:
    """The marketplace in both stores, level; the legacy store has every authority."""
    async with copied(shop_templates, fresh_database, marketplace_schema()) as opened:
        yield opened


@pytest.fixture
async def make(fresh_database: FreshDatabase) -> AsyncIterator[MakeTwins]:
    """Two stores with tables of a test's own: of a schema and its DDL, or one DDL for each."""
    async with maker(fresh_database) as create:
        yield create
