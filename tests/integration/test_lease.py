"""The lease on real stores: a view that is too old is renewed before anything is answered by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic

import asyncpg
import pytest
from fleet import bring, prepared, processes
from member import SCHEMA, migration
from moving.proxy import Proxy

from crossfade.client import DatabaseClient
from crossfade.dsn import Dsn
from crossfade.flags.files import write_stage
from crossfade.stages import Side, Stage
from crossfade.store import Store
from crossfade.store.view import LEASE_SECONDS, RecordView
from crossfade.testing import RecordingObserver
from databases import FreshDatabase

FAR = float("-inf")


def expire(view: RecordView) -> None:
    """Let the lease have run out, as it has in a process that was frozen."""
    view.fresh_until = monotonic() - 1.0


@asynccontextmanager
async def looking(dsns: dict[Side, Dsn], *, poll: float = 3600.0) -> AsyncIterator[RecordView]:
    """A view that hears of nothing by itself in the time of a test."""
    stores = {side: Store(side, dsn, SCHEMA) for side, dsn in dsns.items()}
    async with RecordView(stores, poll=poll) as view:
        yield view


async def test_a_view_is_fresh_for_one_lease_from_when_it_was_asked_for(
    fresh_database: FreshDatabase,
) -> None:
    """And is renewed by every look."""
    dsns = await prepared(fresh_database)
    before = monotonic()
    async with looking(dsns) as view:
        assert before + LEASE_SECONDS <= view.fresh_until <= monotonic() + LEASE_SECONDS
        first = view.fresh_until
        await view.refresh()

        assert view.fresh_until > first


async def test_a_renewal_has_what_was_missed_placed(fresh_database: FreshDatabase) -> None:
    """Before it returns; nobody has announced it."""
    dsns = await prepared(fresh_database)
    async with looking(dsns) as view:
        heard: list[Stage] = []
        view.on_change(lambda record: heard.append(record.stage))
        for dsn in dsns.values():
            connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
            await connection.execute(
                "UPDATE crossfade.record SET stage = 'dualwrite', epoch = epoch + 1 WHERE model = 'Parent'"
            )
            await connection.close()
        expire(view)
        await view.renew()

        assert Stage.DUALWRITE is view.record("Parent").stage
        assert Stage.DUALWRITE in heard
        assert view.fresh_until > monotonic()


async def test_many_callers_share_one_look(fresh_database: FreshDatabase) -> None:
    """A process that wakes up with a thousand requests asks the store once."""
    dsns = await prepared(fresh_database)
    async with looking(dsns) as view:
        asked = 0
        for watch in view._watches.values():
            read = watch.read

            async def counted(read: object = read) -> object:
                nonlocal asked
                asked += 1
                return await read()  # type: ignore[operator]

            watch.read = counted  # type: ignore[assignment, method-assign]
        expire(view)
        await asyncio.gather(*(view.renew() for _ in range(1000)))

        assert len(Side) == asked


@pytest.fixture
async def proxied(fresh_database: FreshDatabase) -> AsyncIterator[tuple[dict[Side, Dsn], dict[Side, Proxy]]]:
    """Two stores, each behind a proxy."""
    dsns = await prepared(fresh_database)
    async with AsyncExitStack() as stack:
        proxies = {}
        for side, dsn in dsns.items():
            address = dsn.asyncpg_kwargs()
            proxies[side] = await stack.enter_async_context(Proxy(address["host"], address["port"]))
            dsns[side] = Dsn.parse(dsn.libpq_url().replace(f":{address['port']}/", f":{proxies[side].port}/"))
        yield dsns, proxies


async def test_one_store_is_enough(proxied: tuple[dict[Side, Dsn], dict[Side, Proxy]]) -> None:
    """The record in either store tells where to go on."""
    dsns, proxies = proxied
    async with looking(dsns) as view:
        proxies[Side.SQLALCHEMY].cut()
        expire(view)
        await view.renew()

        assert view.fresh_until > monotonic()


async def test_without_any_store_callers_go_on_after_a_bounded_wait(
    proxied: tuple[dict[Side, Dsn], dict[Side, Proxy]],
) -> None:
    """And are not held up again by each call; as soon as a store answers, the view is fresh again."""
    dsns, proxies = proxied
    async with looking(dsns) as view:
        for proxy in proxies.values():
            proxy.cut()
        expire(view)
        async with asyncio.timeout(4.0):
            await view.renew()
        assert view.fresh_until < monotonic()
        async with asyncio.timeout(0.1):
            for _ in range(100):
                await view.renew()

        for proxy in proxies.values():
            proxy.refuses = False
        view._renewed_in_vain = FAR
        await view.renew()
        assert view.fresh_until > monotonic()


async def test_a_store_that_hangs_is_waited_for_three_seconds_and_no_longer(
    fresh_database: FreshDatabase,
) -> None:
    """A second one that answers is enough, and the one that hangs costs a quarter of a second then."""
    dsns = await prepared(fresh_database)
    async with AsyncExitStack() as stack:
        view = await stack.enter_async_context(looking(dsns))
        held = []
        for dsn in dsns.values():
            connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
            stack.push_async_callback(connection.close)
            await connection.execute("BEGIN; LOCK TABLE crossfade.record")
            held.append(connection)
        expire(view)
        began = monotonic()
        await view.renew()
        assert 2.5 < monotonic() - began < 4.5
        assert view.fresh_until < monotonic()

        await held[0].execute("ROLLBACK")
        view._renewed_in_vain = FAR
        began = monotonic()
        await view.renew()
        assert monotonic() - began < 1.5
        assert view.fresh_until > monotonic()
        await held[1].execute("ROLLBACK")


async def test_a_frozen_process_hands_out_nothing_old(fresh_database: FreshDatabase, tmp_path: Path) -> None:
    """It is stopped between question and answer, and its model walks from shadow to complete meanwhile.

    The answer of the old store, computed before the move, waits in its socket when it goes on.
    """
    dsns = await prepared(fresh_database)
    for model in SCHEMA.models:
        write_stage(tmp_path, model, Stage.COMPLETE)
    async with (
        migration(dsns, tmp_path, RecordingObserver()) as ours,
        processes(1, dsns, tmp_path) as (process,),
    ):
        db = DatabaseClient(ours.repository).model("Parent")
        await bring(ours, Stage.SHADOW)
        await db.create(data={"id": "p", "tag": "p", "code": "p", "label": "old"})
        assert "old" == (await process.order("read", key="p"))["label"]

        store = await asyncpg.connect(**dsns[Side.PRISMA].asyncpg_kwargs())
        transaction = store.transaction()
        await transaction.start()
        await store.execute('LOCK TABLE "Parent"')
        question = process.order("read", key="p")
        async with asyncio.timeout(10.0):
            while not await store.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
        frozen_at = monotonic()
        process.freeze()
        await transaction.rollback()
        await store.close()

        await bring(ours, Stage.COMPLETE)
        await db.update(where={"id": "p"}, data={"label": "new"})
        later = process.order("read", key="p")
        process.order("write", key="p", label="newest")
        await asyncio.sleep(max(frozen_at + LEASE_SECONDS + 0.2 - monotonic(), 0.0))
        process.thaw()

        async with asyncio.timeout(10.0):
            told = [(await question)["label"], (await later)["label"]]
            assert not {"old"} & set(told)
            while "newest" != (await db.find_unique(where={"id": "p"})).label:
                await asyncio.sleep(0.01)
