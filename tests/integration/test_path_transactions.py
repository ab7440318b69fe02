"""What a transaction does with its connection, on either side: whatever happens, the next caller finds one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from crossfade.dsn import Dsn
from crossfade.errors import (
    ConnectionLostError,
    ForeignKeyViolationError,
    TransactionError,
    WrongAuthorityError,
)
from crossfade.operation import Action, Operation, Pinner
from crossfade.stages import Side
from databases import FreshDatabase
from fences import fence, message
from sides import OpenSide, marketplace_schema, open_side

PINNER = Pinner(marketplace_schema())
COUNT = Operation("User", Action.COUNT, {})


def create(name: str) -> Operation:
    """The creation of a user whose id is its name."""
    data = {"id": name, "email": f"{name}@example.com"}
    return PINNER.pin(Operation("User", Action.CREATE, {"data": data}))


def rename(name: str, new: str) -> Operation:
    """The change of a user's name."""
    return PINNER.pin(Operation("User", Action.UPDATE, {"where": {"id": name}, "data": {"name": new}}))


@pytest.fixture(params=list(Side), ids=str)
async def opened(request: pytest.FixtureRequest, fresh_database: FreshDatabase) -> AsyncIterator[OpenSide]:
    """A side whose path has one connection, so that one that is not given back is missed at once."""
    dsn = await fresh_database()
    async with open_side(request.param, Dsn.parse(f"{dsn.libpq_url()}?connection_limit=1")) as side:
        yield side


async def blocked(store: asyncpg.Connection) -> None:
    """Wait until a session waits for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while not await store.fetchval(query):
        await asyncio.sleep(0.005)


async def end_sessions(store: asyncpg.Connection) -> None:
    """End every other session of the database, as a server that restarts does."""
    query = (
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await store.fetchval(query)


async def serves(side: OpenSide) -> bool:
    """Whether the one connection can be had for a call and for a transaction, and holds nothing open."""
    await side.path.execute(create("served"))
    tx = await side.path.begin(max_wait=5)
    count = await tx.execute(COUNT)
    await tx.rollback()
    open_ones = await side.store.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        " AND datname = current_database()"
    )
    return bool(count) and not open_ones


async def test_no_connection_in_time(opened: OpenSide) -> None:
    """Who does not get a connection within `max_wait` is told so, and the next one gets it."""
    tx = await opened.path.begin()
    with pytest.raises(
        TransactionError, match=r"Unable to start a transaction in the given time\."
    ) as caught:
        await opened.path.begin(max_wait=0.05)
    await tx.rollback()

    assert "P2028" == caught.value.code
    assert await serves(opened)


async def test_a_begin_that_is_cancelled(opened: OpenSide) -> None:
    """A transaction that nobody waits for any more is not kept open."""
    for turns in range(8):
        begun = asyncio.create_task(opened.path.begin(timeout=60))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not begun.cancel():  # the store was quicker than the turns
            await (await begun).rollback()
            continue
        with pytest.raises(asyncio.CancelledError):
            await begun

    assert await serves(opened)


async def test_a_begin_that_is_cancelled_in_the_queue(opened: OpenSide) -> None:
    """Nor is the place in the queue kept."""
    tx = await opened.path.begin()
    begun = asyncio.create_task(opened.path.begin(timeout=60))
    done, _ = await asyncio.wait({begun}, timeout=0.05)
    assert not done
    begun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun
    await tx.commit()

    assert await serves(opened)


async def test_a_call_that_is_cancelled(opened: OpenSide) -> None:
    """A cancelled call is followed by a rollback, and nothing of the transaction is left."""
    await opened.path.execute(create("u"))
    tx = await opened.path.begin(timeout=60)
    await tx.execute(create("v"))
    async with opened.store.transaction():
        await opened.store.execute("SELECT 1 FROM users FOR UPDATE")
        call = asyncio.create_task(tx.execute(rename("u", "never")))
        await blocked(opened.store)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await tx.rollback()

    assert await serves(opened)
    assert (["served", "u"], None) == (
        await opened.store.fetchval("SELECT array_agg(id ORDER BY id) FROM users"),
        await opened.store.fetchval("SELECT max(name) FROM users"),
    )


async def test_a_cancelled_call_is_never_committed_in_part(opened: OpenSide) -> None:
    """After a cancelled call a commit either keeps everything before it, or fails."""
    tx = await opened.path.begin(timeout=60)
    await tx.execute(create("before"))
    async with opened.store.transaction():
        await opened.store.execute("LOCK TABLE items")
        call = asyncio.create_task(tx.execute(Operation("Item", Action.COUNT, {})))
        await blocked(opened.store)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    try:
        await tx.commit()
        committed = 1
    except TransactionError:
        committed = 0

    assert committed == await opened.path.execute(COUNT)


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_an_end_that_is_cancelled(opened: OpenSide, ending: str) -> None:
    """Whether it was committed nobody knows, but the connection is free."""
    for turns in range(4):
        tx = await opened.path.begin(timeout=60)
        await tx.execute(COUNT)
        end = asyncio.create_task(getattr(tx, ending)())
        for _ in range(turns):
            await asyncio.sleep(0)
        end.cancel()
        with pytest.raises(asyncio.CancelledError):
            await end
        if not turns:
            await tx.rollback()  # it had not begun

    assert await serves(opened)


async def test_a_connection_that_breaks(opened: OpenSide) -> None:
    """The call that finds it broken fails, so does the commit, and the next caller gets a new one."""
    tx = await opened.path.begin()
    await tx.execute(create("a"))
    await end_sessions(opened.store)

    with pytest.raises(ConnectionLostError):
        await tx.execute(create("b"))
    with pytest.raises(ConnectionLostError):
        await tx.commit()
    with pytest.raises(TransactionError):
        await tx.rollback()
    assert await serves(opened)


async def test_a_commit_that_finds_its_connection_broken(opened: OpenSide) -> None:
    """It fails, and the transaction is over."""
    tx = await opened.path.begin()
    await tx.execute(create("a"))
    await end_sessions(opened.store)

    with pytest.raises(ConnectionLostError):
        await tx.commit()
    with pytest.raises(TransactionError):
        await tx.rollback()
    assert await serves(opened)


async def test_a_commit_that_is_refused(opened: OpenSide) -> None:
    """A constraint that is checked at the end is told as it is without a transaction; nothing was written."""
    await opened.store.execute(
        "ALTER TABLE items ALTER CONSTRAINT items_owner_user_id_fkey DEFERRABLE INITIALLY DEFERRED"
    )
    tx = await opened.path.begin()
    data = {"sku": "s", "owner_id": "nobody", "title": "t", "price": Decimal(1)}
    await tx.execute(PINNER.pin(Operation("Item", Action.CREATE, {"data": data})))

    with pytest.raises(ForeignKeyViolationError) as caught:
        await tx.commit()
    assert "items_owner_user_id_fkey (index)" == caught.value.meta["field_name"]
    with pytest.raises(TransactionError):
        await tx.commit()
    assert 0 == await opened.path.execute(Operation("Item", Action.COUNT, {}))
    assert await serves(opened)


async def test_close_waits_for_transactions(opened: OpenSide) -> None:
    """A transaction that was begun may be ended; one that is forgotten is waited for until its time is over."""
    tx = await opened.path.begin()
    closing = asyncio.create_task(opened.path.close())
    await tx.execute(create("a"))
    assert not closing.done()
    await tx.commit()
    await closing
    await opened.path.connect()

    assert 1 == await opened.path.execute(COUNT)
    await opened.path.begin(timeout=0.05)
    await opened.path.close()
    assert 1 == await opened.store.fetchval("SELECT count(*) FROM users")


async def test_an_idle_connection_that_the_server_has_closed(opened: OpenSide) -> None:
    """A transaction begins on another one."""
    await opened.path.execute(create("a"))
    await end_sessions(opened.store)
    tx = await opened.path.begin()
    await tx.execute(create("b"))
    await tx.commit()

    assert 2 == await opened.path.execute(COUNT)


# --- of one side ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", [Side.PRISMA], indirect=True, ids=str)
async def test_an_engine_that_ends(opened: OpenSide) -> None:
    """Its transactions are lost, each says so at once, and new ones begin on the engine that comes after it."""
    path: Any = opened.path
    tx = await path.begin()
    await tx.execute(create("a"))
    os.kill(path.client._internal_engine.process.pid, signal.SIGKILL)

    with pytest.raises(ConnectionLostError):
        await tx.execute(create("b"))
    pid = path.client._internal_engine.process.pid
    for ask in (lambda: tx.execute(create("c")), lambda: tx.hold(["User"]), tx.commit):
        with pytest.raises(ConnectionLostError):
            await ask()
    with pytest.raises(TransactionError):
        await tx.rollback()
    assert await serves(opened)
    assert pid == path.client._internal_engine.process.pid


@pytest.mark.parametrize("opened", [Side.PRISMA], indirect=True, ids=str)
async def test_a_begin_that_finds_the_engine_gone(opened: OpenSide) -> None:
    """It writes nothing, so it is tried again on a new one."""
    path: Any = opened.path
    os.kill(path.client._internal_engine.process.pid, signal.SIGKILL)
    tx = await path.begin()
    await tx.execute(create("a"))
    await tx.commit()

    assert 1 == await path.execute(COUNT)


@pytest.mark.parametrize("opened", [Side.PRISMA], indirect=True, ids=str)
async def test_a_fence_before_raw_sql(opened: OpenSide) -> None:
    """Prisma tells the error of a raw statement in another form; it is the same error."""
    path: Any = opened.path
    async with fence(opened.store, "users"):
        with pytest.raises(WrongAuthorityError) as caught:
            await path._session.raw("execute_raw", "UPDATE users SET name = 'x'")

    assert message("XF001", "users") == str(caught.value)
