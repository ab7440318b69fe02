"""Transactions that want locks on live tables: short waits, retried, so that nobody queues behind them for long.

While a lock is waited for, every later writer of the table waits too. So an attempt gives up after `lock_timeout`,
lets the writers through, and comes back after a pause of random length, until `deadline` has passed. What it then says
names the sessions that stood in the way, but never what they were running: a query holds values.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import asyncpg

from crossfade.errors import LockedOutError, StoreUnavailableError
from crossfade.store.store import Store
from crossfade.store.tables import Connection

T = TypeVar("T")

LOCK_TIMEOUT = 0.2
"""Seconds that writers may queue behind one attempt."""

_LONGEST_PAUSE = 1.0
BLOCKERS = """
SELECT (SELECT l.relation::regclass::text FROM pg_locks l
        WHERE l.pid = $1 AND NOT l.granted AND l.relation IS NOT NULL LIMIT 1) AS awaited,
       a.pid, a.application_name AS application, a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS age
FROM unnest(pg_blocking_pids($1)) AS blocker(pid) JOIN pg_stat_activity a USING (pid)
ORDER BY a.xact_start NULLS LAST
"""


async def in_locked_transaction(
    store: Store,
    work: Callable[[Connection], Awaitable[T]],
    *,
    lock_timeout: float = LOCK_TIMEOUT,
    deadline: float,
    follower: bool = False,
) -> T:
    """Run `work` in a transaction whose locks are waited for briefly, again and again until it gets them.

    Args:
        store: where.
        work: what to do; each attempt runs it anew in a new transaction, so it must keep nothing of an attempt.
        lock_timeout: how many seconds one lock is waited for at a time.
        deadline: how many seconds to try in all.
        follower: whether the transaction writes as a follower.

    Returns:
        What `work` returned; its transaction is committed.

    Raises:
        LockedOutError: `deadline` has passed; nothing was done, and the error names who holds what was wanted.
        StoreUnavailableError: the database does not answer.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + deadline
    watch = _Watch(store)
    attempt = 0
    while True:
        attempt += 1
        patience = max(0.001, min(lock_timeout, until - loop.time()))
        try:
            async with store.transaction(follower=follower) as connection:
                pid = await connection.fetchval(
                    "SELECT pg_backend_pid() FROM set_config('lock_timeout', $1, true)",
                    f"{max(1, round(patience * 1000))}ms",
                )
                async with watch.over(pid, patience / 2):
                    return await work(connection)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if loop.time() >= until:
                raise LockedOutError(store.where, watch.awaited, watch.blockers, deadline) from error
        pause = random.uniform(0.5, 1.5) * min(lock_timeout * attempt, _LONGEST_PAUSE)  # noqa: S311
        await asyncio.sleep(max(0.0, min(pause, until - loop.time() - lock_timeout)))


class _Watch:
    """Remembers who stood in the way of a transaction, and of what."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.awaited: str | None = None
        self.blockers: tuple[str, ...] = ()

    @asynccontextmanager
    async def over(self, pid: int, interval: float) -> AsyncIterator[None]:
        """Look at the backend `pid` every `interval` seconds while the block runs."""
        task = asyncio.create_task(self._look(pid, interval))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _look(self, pid: int, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            try:
                async with self._store.transaction() as connection:
                    rows = await connection.fetch(BLOCKERS, pid)
            except (StoreUnavailableError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                return  # the transaction that is watched meets the same and reports it
            if rows:
                self.awaited = rows[0]["awaited"] or self.awaited
                self.blockers = tuple(told(**dict(row)) for row in rows)


def told(*, awaited: str | None, pid: int, application: str, state: str | None, age: float | None) -> str:
    """One session in words; what another role's session does is hidden from an ordinary role."""
    del awaited
    parts = [application or "no application name", state or "state not visible"]
    if age is not None:
        parts.append(f"in a transaction for {age:.1f} s")
    return f"process {pid} ({', '.join(parts)})"
