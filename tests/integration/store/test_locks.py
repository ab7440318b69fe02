"""Locks on live tables: short waits, tried again, and an error that says who stands in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from captured import Captive, captive

from crossfade.errors import LockedOutError
from crossfade.store.locks import in_locked_transaction
from crossfade.store.tables import Connection
from databases import FreshDatabase


@pytest.fixture
async def busy(fresh_database: FreshDatabase) -> AsyncIterator[Captive]:
    """A table with a writer whose transaction is open."""
    ddl = "CREATE TABLE thing (id int PRIMARY KEY, secret text); SET application_name = 'nightly job'"
    async with captive(await fresh_database(), ddl, {"Thing": "thing"}) as opened:
        await opened.run("BEGIN", "INSERT INTO thing VALUES (1, 'a secret')")
        yield opened


async def disable(connection: Connection) -> str:
    """Something that needs a lock that writers stand in the way of."""
    await connection.execute("CREATE TABLE done ()")
    await connection.execute("ALTER TABLE thing DISABLE TRIGGER crossfade_refuse_followers")
    return "disabled"


async def test_lock_is_had_at_once_where_nobody_writes(busy: Captive) -> None:
    """The result of the work is the result, and what it did is committed."""
    await busy.run("COMMIT")

    assert await in_locked_transaction(busy.store, disable, deadline=5) == "disabled"
    assert await busy.author.fetchval("SELECT to_regclass('done') IS NOT NULL")


async def test_work_is_tried_again_until_the_writer_is_done(busy: Captive) -> None:
    """Each attempt begins anew, in a transaction of its own."""
    attempts = 0

    async def work(connection: Connection) -> str:
        nonlocal attempts
        attempts += 1
        if attempts == 3:
            await busy.run("COMMIT")
        return await disable(connection)

    assert await in_locked_transaction(busy.store, work, lock_timeout=0.02, deadline=20) == "disabled"
    assert attempts == 3


async def test_writers_get_through_between_attempts(busy: Captive) -> None:
    """Another writer of the table is not kept waiting until the deadline."""
    writer = await asyncpg.connect(**busy.store.dsn.asyncpg_kwargs())
    trying = asyncio.create_task(in_locked_transaction(busy.store, disable, lock_timeout=0.05, deadline=60))
    try:
        for number in range(2, 12):
            async with asyncio.timeout(5):
                await writer.execute("INSERT INTO thing VALUES ($1)", number)
        assert not trying.done()
        await busy.run("COMMIT")
        assert await trying == "disabled"
    finally:
        trying.cancel()
        await writer.close()


async def test_error_names_the_table_and_who_holds_it(busy: Captive) -> None:
    """The process, its application, state and age are told, never what it ran; nothing is done."""
    with pytest.raises(LockedOutError) as caught:
        await in_locked_transaction(busy.store, disable, lock_timeout=0.1, deadline=0.5)

    assert caught.value.table == "thing"
    (holder,) = caught.value.holders
    assert holder.startswith(
        f"process {busy.author.get_server_pid()} (nightly job, idle in transaction, in a transaction for "
    )
    assert "thing stayed locked for 0.5 s by process" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not await busy.author.fetchval("SELECT to_regclass('done') IS NOT NULL")


async def test_deadlock_is_tried_again(busy: Captive) -> None:
    """When the server resolves a deadlock at our cost, the work runs once more."""
    await busy.run(
        "CREATE TABLE other (id int)", "COMMIT", "BEGIN", "LOCK TABLE other", "SET deadlock_timeout = '10s'"
    )
    attempts = 0

    async def work(connection: Connection) -> int:
        nonlocal attempts
        attempts += 1
        await connection.execute("SET LOCAL deadlock_timeout = '10ms'")
        await connection.execute("LOCK TABLE thing")
        blocked = asyncio.create_task(busy.author.execute("LOCK TABLE thing")) if attempts == 1 else None
        try:
            async with asyncio.timeout(10):
                while blocked and not await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = $1)",
                    busy.author.get_server_pid(),
                ):
                    await asyncio.sleep(0.005)
            await connection.execute("LOCK TABLE other")
        finally:
            if blocked:
                background.append(blocked)
        return attempts

    background: list[asyncio.Task[str]] = []

    async def free() -> None:
        while not background:
            await asyncio.sleep(0.005)
        await background[0]
        await busy.run("COMMIT")

    _, result = await asyncio.gather(
        free(), in_locked_transaction(busy.store, work, lock_timeout=5, deadline=60)
    )
    assert result == 2


async def test_other_errors_are_not_tried_again(busy: Captive) -> None:
    """An error of the work itself comes out at once."""
    attempts = 0

    async def work(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        await connection.execute("SELECT 1 / 0")

    with pytest.raises(asyncpg.DivisionByZeroError):
        await in_locked_transaction(busy.store, work, deadline=5)
    assert attempts == 1


async def test_follower_transactions_carry_the_role(busy: Captive) -> None:
    """With `follower` the work writes as a follower."""

    async def role(connection: Connection) -> str:
        return str(await connection.fetchval("SELECT current_setting('crossfade.role')"))

    assert await in_locked_transaction(busy.store, role, deadline=5, follower=True) == "follower"
    assert await in_locked_transaction(busy.store, role, deadline=5) == ""
