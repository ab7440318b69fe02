"""What the tests of Prisma's engine share: a schema of one of everything, and a client generated from it."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import asyncpg

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.engine.ddl import schema_to_ddl
from crossfade.engine.generate import generate_prisma_client
from crossfade.engine.launcher import ensure_engine

SCHEMA_FILE = Path(__file__).parent / "schema.prisma"


@cache
def ddl() -> str:
    """The SQL of the schema."""
    return schema_to_ddl(SCHEMA_FILE.read_text(encoding="utf-8"))


def generated_client(directory: Path) -> ModuleType:
    """Generate the client into `directory` and import it; every call gets a package of its own."""
    name = f"engine_client_{uuid4().hex[:8]}"
    ensure_engine()
    generate_prisma_client(SCHEMA_FILE, directory / name)
    sys.path.insert(0, str(directory))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(directory))


@asynccontextmanager
async def database_of_schema(postgres: EmbeddedPostgres) -> AsyncIterator[Dsn]:
    """A database with the tables of the schema."""
    name = f"engine_{uuid4().hex[:12]}"
    dsn = Dsn.parse(await postgres.create_database(name))
    connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        await connection.execute(await asyncio.to_thread(ddl))
    finally:
        await connection.close()
    yield dsn
    await postgres.drop_database(name)


@asynccontextmanager
async def connected(package: ModuleType, dsn: Dsn, **parameters: Any) -> AsyncIterator[Any]:
    """A client that is connected, with parameters for its URL."""
    url = dsn.prisma_url()
    extra = "&".join(f"{name}={value}" for name, value in parameters.items())
    url += f"{'&' if '?' in url else '?'}{extra}" if extra else ""
    client = package.Prisma(datasource={"url": url}, use_dotenv=False)
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()
