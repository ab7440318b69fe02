"""Who leads: the one process that holds a lock in the legacy store for as long as it is connected."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg

from crossfade.errors import StoreUnavailableError
from crossfade.store.store import LOST, Store
from crossfade.store.turns import Turn

_ANSWER_SECONDS = 3.0
_GONE: tuple[type[Exception], ...] = (*LOST, asyncpg.PostgresError, StoreUnavailableError)


class Leadership:
    """One process's hold on the lead, or its wish for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = Turn.LEAD.of(store.home)
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._leads = False

    async def take(self) -> bool:
        """Return whether this process leads now: it does already, or nobody else does. False as well when in doubt."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                if self._connection is None:
                    self._connection = await self._store.listen_connection()
                if self._leads:
                    await self._connection.execute("SELECT 1")
                else:
                    self._leads = bool(
                        await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", self._key)
                    )
        except _GONE:
            self.drop()
        except BaseException:
            self.drop()
            raise
        return self._leads

    async def is_taken(self) -> bool:
        """Whether some process leads.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        connection = await self._store.listen_connection()
        try:
            found = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
                " AND ((classid::bigint << 32) | objid::bigint) = $1"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
                self._key,
            )
        finally:
            connection.terminate()
        return bool(found)

    async def give_up(self) -> None:
        """Let another process lead."""
        connection, self._connection, self._leads = self._connection, None, False
        if connection is not None:
            with suppress(*_GONE):
                await connection.close(timeout=1.0)

    def drop(self) -> None:
        """Give it up without a word, when the store does not answer."""
        connection, self._connection, self._leads = self._connection, None, False
        if connection is not None:
            connection.terminate()
