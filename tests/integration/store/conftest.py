"""Fixtures for the objects in the stores."""

from __future__ import annotations

import pytest

from crossfade.dsn import Dsn
from databases import FreshDatabase
from marketplace.setup import apply_legacy_schema


@pytest.fixture
async def marketplace_legacy(fresh_database: FreshDatabase) -> Dsn:
    """An empty marketplace, made by Prisma's migrations."""
    dsn = await fresh_database()
    await apply_legacy_schema(dsn)
    return dsn
