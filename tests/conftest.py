"""Fixtures for every tier: one PostgreSQL per session (and per xdist worker), one database per test."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator, Callable, Iterator
from uuid import uuid4

import pytest

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.embedded.unleash import EmbeddedUnleash
from databases import FreshDatabase
from unleash import Unleash


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A throwaway PostgreSQL server; it belongs to no event loop."""
    server = EmbeddedPostgres()
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def fresh_database(postgres: EmbeddedPostgres) -> AsyncIterator[FreshDatabase]:
    """A factory of databases that are dropped after the test."""
    made: list[str] = []

    async def create(template: str | None = None) -> Dsn:
        name = f"test_{uuid4().hex[:12]}"
        dsn = Dsn.parse(await postgres.create_database(name, template))
        made.append(name)
        return dsn

    yield create
    for name in made:
        await postgres.drop_database(name)


@pytest.fixture(scope="session")
def unleash_server(postgres: EmbeddedPostgres) -> Iterator[EmbeddedUnleash]:
    """A real Unleash server with a database of its own: a few seconds and 300 MB for whoever asks first."""
    server = EmbeddedUnleash(asyncio.run(postgres.create_database(f"unleash_{uuid4().hex[:12]}")))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def unleash(unleash_server: EmbeddedUnleash) -> Unleash:
    """The Unleash server of the session, running and without any feature."""
    await unleash_server.start()
    server = Unleash(unleash_server)
    await server.wipe()
    return server


@pytest.fixture
def ended() -> Callable[..., bool]:
    """`ended(pid, seconds=10)` waits for a process to end; it need not be a child of this one."""

    def wait(pid: int, seconds: float = 10.0) -> bool:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        finally:
            os.close(descriptor)

    return wait


def pytest_xdist_auto_num_workers() -> int:
    """Many tests wait for a second process, a lease or a guard most of the time: three keep two cores busy."""
    return max(3, os.cpu_count() or 1)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is installed, a skipped test is a failure: `CROSSFADE_FAIL_ON_SKIP=1` makes it one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if (
        skipped
        and os.environ.get("CROSSFADE_FAIL_ON_SKIP") == "1"
        and session.exitstatus == pytest.ExitCode.OK
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
