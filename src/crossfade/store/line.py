"""A connection of one's own to one store, for work that must end in time whatever the store does.

A pool waits for a server that hangs when it takes a connection back. A line is cut instead: the transaction on it is
then rolled back by the server, at the latest when it notices. That is how a move that has been given up can be undone
at once, and how the time that writers wait stays bounded.

Like every transaction that wants locks on live tables, one here waits briefly and tries again, so that nobody queues
behind it for long.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import asyncpg
from asyncpg.transaction import Transaction

from crossfade.errors import CrossfadeError, LockedOutError, StoreUnavailableError
from crossfade.store.locks import BLOCKERS, LOCK_TIMEOUT, told
from crossfade.store.objects import REFUSE_AUTHORS, REFUSE_FOLLOWERS, Fence, set_fence
from crossfade.store.store import LOST, Store
from crossfade.store.tables import Connection, StoredTable, quoted

T = TypeVar("T")

_COMMIT_SECONDS = 5.0
"""A commit that takes longer is given up, and what became of it has to be asked."""
_ROLLBACK_SECONDS = 1.0
_GONE: tuple[type[Exception], ...] = (*LOST, StoreUnavailableError)
_BROKEN: tuple[type[Exception], ...] = (*LOST, asyncpg.PostgresError)
_LOCKED = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)


class CommitUnknownError(CrossfadeError):
    """The connection was lost during a COMMIT: nobody knows yet whether it took place."""


class Line:
    """One connection to one store. Whoever makes it cuts it in the end."""

    def __init__(self, store: Store, *, lock_timeout: float = LOCK_TIMEOUT) -> None:
        self.store = store
        self._lock_timeout = lock_timeout
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def connect(self) -> None:
        """Connect now, to spare a transaction that is in a hurry the time.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        if self._connection is None or self._connection.is_closed():
            await self.store.open()
            self._connection = await self.store.listen_connection()

    def cut(self) -> None:
        """Give the connection up at once, with whatever is going on on it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def transact(
        self, work: Callable[[Connection], Awaitable[T]], *, deadline: float, follower: bool = False
    ) -> T:
        """Run `work` in a transaction and commit it; begin anew when it had to wait too long for a lock.

        Args:
            work: what to do; it must keep nothing of an attempt.
            deadline: how many seconds all attempts may take. A commit that has begun is waited for beyond that.
            follower: whether it writes as a follower.

        Raises:
            LockedOutError: the locks were not to be had in time; nothing was done.
            StoreUnavailableError: the store does not answer, or not in time; nothing was done.
            CommitUnknownError: it was lost during the commit.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline
        watch = _Onlooker(self.store)
        while True:
            try:
                return await self._attempt(work, until, watch, follower=follower)
            except _LOCKED as error:
                if loop.time() + self._lock_timeout / 2 >= until:
                    raise LockedOutError(self.store.where, watch.awaited, watch.blockers, deadline) from error
            await asyncio.sleep(random.uniform(0.25, 0.75) * self._lock_timeout)  # noqa: S311

    async def _attempt(
        self, work: Callable[[Connection], Awaitable[T]], until: float, watch: _Onlooker, *, follower: bool
    ) -> T:
        loop = asyncio.get_running_loop()
        patience = max(0.001, min(self._lock_timeout, until - loop.time()))
        committing = False
        transaction: Transaction | None = None
        try:
            async with asyncio.timeout_at(until + self._lock_timeout):
                await self.connect()
                connection = self._connection
                assert connection is not None
                transaction = connection.transaction()
                await transaction.start()
                await self.store.begin(connection, follower=follower)
                await connection.execute(f"SET LOCAL lock_timeout = '{max(1, round(patience * 1000))}ms'")
                with watch.over(connection.get_server_pid(), patience / 2):
                    result = await work(connection)
            committing = True
            async with asyncio.timeout(_COMMIT_SECONDS):
                await transaction.commit()
        except _GONE as error:
            self.cut()
            if committing:
                raise CommitUnknownError(
                    f"the store at {self.store.where} did not say what became of it"
                ) from error
            if isinstance(error, StoreUnavailableError):
                raise
            reason = "not in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            raise StoreUnavailableError(self.store.where, reason) from error
        except Exception:
            await self._roll_back(transaction)
            raise
        except BaseException:
            self.cut()
            raise
        return result

    async def _roll_back(self, transaction: Transaction | None) -> None:
        try:
            async with asyncio.timeout(_ROLLBACK_SECONDS):
                if transaction is not None:
                    await transaction.rollback()
        except _BROKEN:
            self.cut()


class _Onlooker:
    """Remembers who stood in the way of a transaction, and of what. Nobody waits for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.awaited: str | None = None
        self.blockers: tuple[str, ...] = ()

    @contextmanager
    def over(self, pid: int, delay: float) -> Iterator[None]:
        """Look at what the backend `pid` waits for when the block takes longer than `delay` seconds."""
        task = asyncio.create_task(self._look(pid, delay))
        try:
            yield
        finally:
            task.cancel()

    async def _look(self, pid: int, delay: float) -> None:
        await asyncio.sleep(delay)
        with suppress(StoreUnavailableError, asyncpg.PostgresError, *LOST):
            connection = await self._store.listen_connection()
            try:
                rows = await connection.fetch(BLOCKERS, pid)
            finally:
                connection.terminate()
            if rows:
                self.awaited = rows[0]["awaited"] or self.awaited
                self.blockers = tuple(told(**dict(row)) for row in rows)


async def lock_tables(connection: Connection, tables: Sequence[StoredTable], seconds: float) -> None:
    """Keep writers out of `tables` until the transaction ends, once those in flight are done.

    All tables together are waited for no longer than `seconds`, because whoever writes to the first of them waits
    until the last of them is had.

    Raises:
        asyncpg.LockNotAvailableError: it took longer.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    for table in tables:
        patience = max(1, round((until - loop.time()) * 1000))
        await connection.execute(
            f"SET LOCAL lock_timeout = '{patience}ms'; LOCK TABLE {table.quoted} IN SHARE ROW EXCLUSIVE MODE"
        )


async def bring_fence(
    connection: Connection, tables: Sequence[StoredTable], fence: Fence, seconds: float
) -> None:
    """Bring the fence of `tables` to a state; tables whose fence stands like that already are not locked."""
    different = [table for table in tables if not await _stands(connection, table, fence)]
    await lock_tables(connection, different, seconds)
    for table in different:
        await connection.execute("; ".join(set_fence(table, fence)))


async def _stands(connection: Connection, table: StoredTable, fence: Fence) -> bool:
    """Whether every trigger of the fence that there is has the right state; a table without them has no fence."""
    targets = [f"{quoted(schema)}.{quoted(name)}" for schema, name in table.partitions]
    rows = await connection.fetch(
        "SELECT tgname::text AS name, tgenabled = 'D' AS disabled FROM pg_trigger"
        " WHERE tgrelid = ANY ($1::text[]::regclass[]) AND tgname = ANY ($2)",
        [table.quoted, *targets],
        [REFUSE_AUTHORS, REFUSE_FOLLOWERS],
    )
    refuses = {REFUSE_AUTHORS: fence.refuses_authors, REFUSE_FOLLOWERS: fence.refuses_followers}
    return all(refuses[row["name"]] is not row["disabled"] for row in rows)
