"""A running migration whose store can be cut off: whether it may be sent requests, and as whom the fleet knows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from small_store import small_store

from crossfade.drill.network import Mode
from crossfade.drill.proxy import Proxy
from crossfade.events import Observers
from crossfade.flags.files import FileFlags
from crossfade.metrics import serve
from crossfade.migration import Migration
from crossfade.operation import Action, Operation
from crossfade.readiness import NOT_OPEN
from crossfade.stages import Side, Stage
from crossfade.store import Store
from crossfade.store.signals import Process, read_processes, read_timings
from crossfade.store.view import LEASE_SECONDS
from crossfade.testing import MemoryPath, RecordingObserver, record_classes
from databases import FreshDatabase
from small_schema import SMALL


class Running:
    """A migration whose store is at the far end of a line."""

    def __init__(self, migration: Migration, network: Proxy, store: Store) -> None:
        self.migration = migration
        self.network = network
        self.store = store

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds that no future announces."""
        async with asyncio.timeout(LEASE_SECONDS + 10):
            while not holds():
                await asyncio.sleep(0.01)

    async def processes(self) -> list[Process]:
        """Who is known to the fleet."""
        async with self.store.transaction() as connection:
            return await read_processes(connection, self.store)


@pytest.fixture
async def running(fresh_database: FreshDatabase, tmp_path: Path) -> AsyncIterator[Running]:
    """Two models in one store, which both sides share."""
    for folder in ("logs", "flags"):
        (tmp_path / folder).mkdir()
    records = record_classes(SMALL)
    observer = RecordingObserver()
    async with (
        small_store(await fresh_database(), core_only=True) as store,
        Proxy(tmp_path) as network,
        Migration(
            SMALL,
            {side: MemoryPath(side, SMALL, records) for side in Side},
            FileFlags(tmp_path / "flags", SMALL.models, Observers()),
            stores={Side.PRISMA: Store(Side.PRISMA, await network.line("legacy", store.dsn), SMALL)},
            observer=observer,
            name="probed",
        ) as migration,
    ):
        yield Running(migration, network, store)


async def test_a_process_is_ready_while_its_lease_lasts(running: Running) -> None:
    """Cut off, it is not ready after the lease, and is again once it has read the record; so an orchestrator hears."""
    migration = running.migration
    with serve(0, CollectorRegistry(), ready=migration.readiness) as address:
        probe = address.replace("/metrics", "/ready")
        assert migration.readiness().ready
        await running.network.set("legacy", Mode.CUT)
        assert migration.readiness().ready
        await running.until(lambda: not migration.readiness().ready)
        away = await asyncio.to_thread(httpx.get, probe)
        await running.network.set("legacy", Mode.OPEN)
        await running.until(lambda: migration.readiness().ready)
        back = await asyncio.to_thread(httpx.get, probe)

    assert 503 == away.status_code
    assert "the record was read last" in away.json()["reasons"][0]
    assert (200, {"ready": True, "reasons": []}) == (back.status_code, back.json())


async def test_a_process_that_acts_by_another_stage_than_the_record_says_is_not_ready(
    running: Running,
) -> None:
    """The model is named, with both stages."""
    running.migration.repository.place("Book", Stage.SHADOW, 99)

    assert (
        "Book is at off by the record, and this process acts as if it were at shadow",
    ) == running.migration.readiness().reasons


async def test_a_migration_that_is_not_open_is_not_ready(running: Running) -> None:
    """Neither before nor after."""
    await running.migration.__aexit__(None, None, None)

    assert NOT_OPEN == running.migration.readiness()


async def test_the_fleet_knows_a_process_by_its_name_and_what_it_acts_by(running: Running) -> None:
    """Its calls are summed up, and it takes its name along when it ends."""
    await running.migration.repository.execute(Operation("Author", Action.COUNT, {}))
    running.migration.repository.place("Book", Stage.OFF, 7)
    async with asyncio.timeout(10):
        while not ((found := await running.processes()) and found[0].leads and 7 == found[0].epochs["Book"]):
            await asyncio.sleep(0.02)
    await running.migration.__aexit__(None, None, None)
    async with running.store.transaction() as connection:
        (timing,) = await read_timings(connection, running.store, {"Author": 1})

    assert ["probed"] == [process.name for process in found]
    assert ("count", Side.PRISMA, 1) == (timing.action, timing.side, timing.calls)
    assert [] == await running.processes()
