"""The engine's process: it starts once its database answers, ends with whoever started it, and can be replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from engine_kit import SCHEMA_FILE, connected

from crossfade.embedded import EmbeddedPostgres
from crossfade.engine import Check, EngineKind, check, ensure_engine, which
from crossfade.engine.launcher import ENGINE_COMMIT

FreshDatabase = Callable[..., Any]

_APPLICATION = """
import asyncio, importlib, sys
sys.path.insert(0, sys.argv[1])
package = importlib.import_module(sys.argv[2])

async def main():
    client = package.Prisma(datasource={"url": sys.argv[3]}, use_dotenv=False)
    await client.connect()
    print(client._engine.process.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

# Dies so soon after it has started the engine that the engine may not have looked round yet.
_HASTY = """
import os, subprocess, sys
print(subprocess.Popen([sys.argv[1], "-p", "1"]).pid, flush=True)
os.kill(os.getpid(), 9)
"""


async def test_the_engine_dies_with_a_killed_parent(
    fresh_database: FreshDatabase, prisma_package: ModuleType, ended: Callable[..., bool]
) -> None:
    """After kill -9 of the application, its engine ends by itself."""
    dsn = await fresh_database()
    place = Path(str(prisma_package.__file__)).parent
    command = [sys.executable, "-c", _APPLICATION, str(place.parent), place.name, dsn.prisma_url()]
    application = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert application.stdout is not None
    engine = int(await application.stdout.readline())
    application.kill()
    await application.wait()

    assert await asyncio.to_thread(ended, engine, 3.0)


def test_the_engine_dies_with_a_parent_it_never_saw(ended: Callable[..., bool]) -> None:
    """A parent that is killed while the engine is still starting leaves none behind either."""
    choice = ensure_engine()
    environment = {
        **os.environ,
        "PRISMA_DML_PATH": str(SCHEMA_FILE),
        "DATABASE_URL": "postgresql://127.0.0.1:1/none",
    }
    command = [sys.executable, "-c", _HASTY, str(choice.path)]

    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False).stdout

    assert ended(int(output), 3.0)


async def test_a_dead_engine_is_replaced_by_connecting_again(
    fresh_database: FreshDatabase, prisma_package: ModuleType
) -> None:
    """When the engine is killed, calls fail with a connection error, and work again after a reconnect."""
    dsn = await fresh_database()
    async with connected(prisma_package, dsn) as client:
        client._engine.process.kill()
        client._engine.process.wait()

        with pytest.raises(httpx.ConnectError):
            await client.query_raw("SELECT 1 AS one")
        await client.disconnect()
        await client.connect()

        assert [{"one": 1}] == await client.query_raw("SELECT 1 AS one")


async def test_disconnecting_ends_the_engine_at_once(
    fresh_database: FreshDatabase, prisma_package: ModuleType, ended: Callable[..., bool]
) -> None:
    """The signal that the client sends is enough, also while a statement runs."""
    dsn = await fresh_database()
    async with connected(prisma_package, dsn) as client:
        engine = client._engine.process.pid
        running = asyncio.create_task(client.query_raw("SELECT 1 FROM pg_sleep(60)"))
        await client.query_raw("SELECT 1 AS one")
        await client.disconnect(timeout=timedelta(seconds=5))

        assert ended(engine, 1.0)
        with pytest.raises(httpx.HTTPError):
            await running


async def test_the_engine_survives_a_restart_of_postgres(prisma_package: ModuleType) -> None:
    """Broken pool connections neither end the engine nor keep it from working with the new server."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # noqa: PTH101, S103 - the server may run as another user
        home = Path(name) / "data"
        async with EmbeddedPostgres(home) as first:
            url, port = first.dsn("postgres"), first.port
            client = prisma_package.Prisma(datasource={"url": f"{url}?pool_timeout=5"}, use_dotenv=False)
            await client.connect()
            await asyncio.gather(*(client.query_raw("SELECT 1 AS one") for _ in range(3)))
        with pytest.raises(prisma_package.errors.DataError) as lost:
            await client.query_raw("SELECT 1 AS one")
        async with EmbeddedPostgres(home, port=port) as second:
            connection = await asyncpg.connect(second.dsn("postgres"))
            await connection.execute(f"ALTER ROLE postgres PASSWORD '{urlsplit(url).password}'")
            await connection.close()
            found = await client.query_raw("SELECT 1 AS one")
            alive = client._engine.process.poll() is None
            await client.disconnect()

    assert ("P1001", [{"one": 1}], True) == (lost.value.code, found, alive)


async def test_connecting_waits_for_the_database_and_then_gives_up(prisma_package: ModuleType) -> None:
    """Without a database the client's connect fails, as it does with the native engine."""
    client = prisma_package.Prisma(
        datasource={"url": "postgresql://u:secret@127.0.0.1:1/none"}, use_dotenv=False
    )

    with pytest.raises(prisma_package.engine.errors.EngineConnectionError):
        await client.connect(timeout=timedelta(seconds=1))
    await client.disconnect()


async def test_the_url_chooses_the_schema(fresh_database: FreshDatabase, prisma_package: ModuleType) -> None:
    """`?schema=` is where raw SQL and models look."""
    dsn = (await fresh_database()).replace(schema="od d")
    async with connected(prisma_package, dsn) as client:
        with pytest.raises(prisma_package.errors.TableNotFoundError):
            await client.tag.count()
        path = await client.query_raw("SHOW search_path")

    assert [{"search_path": '"od d"'}] == path


def test_the_version_is_answered_without_node() -> None:
    """Prisma Client Python asks for the version before every start; the commit is the one it expects."""
    choice = ensure_engine()

    answer = subprocess.run(
        [choice.path, "--version"], env={}, capture_output=True, text=True, check=True
    ).stdout

    assert (f"query-engine {ENGINE_COMMIT}\n", EngineKind.WASM) == (answer, choice.kind)


async def test_check_names_what_works(fresh_database: FreshDatabase) -> None:
    """A check passes on a database that answers, and names the first thing that fails without the password."""
    dsn = await fresh_database()

    good = await asyncio.to_thread(check, dsn.prisma_url())
    bad = await asyncio.to_thread(check, "postgresql://user:secret@127.0.0.1:1/none")

    assert [("installed", True), ("database", True), ("query", True), ("transaction", True)] == [
        (c.name, c.ok) for c in good
    ]
    assert Check("database", ok=False, detail="not ready: connect ECONNREFUSED 127.0.0.1:1") == bad[-1]


def test_which_names_the_parts() -> None:
    """Node, npm and the engine are listed with their places."""
    assert ["node", "npm", "engine"] == [part.what for part in which() if part.path is not None]


async def test_an_interrupted_call_leaves_the_engine_able(
    fresh_database: FreshDatabase, prisma_package: ModuleType
) -> None:
    """A caller that is cancelled, and so drops its connection, does not disturb the next one."""
    dsn = await fresh_database()
    async with connected(prisma_package, dsn, connection_limit=2) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.query_raw("SELECT 1 FROM pg_sleep(1)"), 0.05)

        assert [{"one": 1}] == await client.query_raw("SELECT 1 AS one")
        assert client._engine.process.poll() is None
        client._engine.process.send_signal(signal.SIGTERM)
        assert 0 == client._engine.process.wait(5)
