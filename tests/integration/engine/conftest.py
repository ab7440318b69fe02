"""Fixtures for the tests of Prisma's engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio
from engine_kit import connected, database_of_schema, generated_client

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres


@pytest.fixture(scope="session")
def prisma_package(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Prisma Client Python, generated from the schema beside this file."""
    return generated_client(tmp_path_factory.mktemp("engine"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(postgres: EmbeddedPostgres) -> AsyncIterator[Dsn]:
    """A database with the schema's tables, shared by the tests of a module."""
    async with database_of_schema(postgres) as dsn:
        yield dsn


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def db(database: Dsn, prisma_package: ModuleType) -> AsyncIterator[Any]:
    """A connected client, shared by the tests of a module: each works on rows of its own."""
    async with connected(prisma_package, database, connection_limit=4) as client:
        yield client
