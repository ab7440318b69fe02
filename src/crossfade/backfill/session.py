"""A worker's own connections, one to each store, and what becomes of an error on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto

import asyncpg

from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.objects import LATE_WRITE, WRONG_AUTHORITY
from crossfade.store.store import LOST
from crossfade.store.tables import Connection

APPLICATION = "crossfade backfill"

_SETTINGS = (
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),"
    " set_config('enable_mergejoin', 'off', true), set_config('max_parallel_workers_per_gather', '0', true),"
    " set_config('jit', 'off', true), set_config('statement_timeout', '0', true),"
    " set_config('idle_in_transaction_session_timeout', '0', true), set_config('lock_timeout', '0', true)"
)
"""Chunks are ranges of an index and are joined by key: the statistics of a table that is being filled mislead."""


class Fault(Enum):
    """Who must act on an error of a store."""

    MOVED = auto()
    """The store takes no follower's writes: the authority is not where it was."""
    PASSING = auto()
    """A lock or a connection; it is tried again."""
    DATA = auto()
    """Some row cannot be written as it is."""
    OTHER = auto()
    """A right, a table or a disk; nothing helps but the operator."""


def fault_of(error: BaseException) -> Fault:
    """Tell what kind of error it is."""
    if isinstance(
        error, (*LOST, asyncpg.InternalClientError)
    ):  # what the driver makes of a cut is not always clear
        return Fault.PASSING
    if not isinstance(error, asyncpg.PostgresError):
        return Fault.OTHER
    state = error.sqlstate or ""
    if state in (LATE_WRITE, WRONG_AUTHORITY):
        return Fault.MOVED
    if state[:2] in ("40", "08") or state in ("55P03", "57014", "57P01", "57P02", "57P03", "53300"):
        return Fault.PASSING
    if state[:2] in ("22", "23", "54", "P0"):
        return Fault.DATA
    return Fault.OTHER


class Session:
    """Opens a connection when it is needed, and another one when that is gone."""

    def __init__(self, stores: Mapping[Side, Store]) -> None:
        self._stores = stores
        self._connections: dict[Side, asyncpg.Connection[asyncpg.Record]] = {}

    @asynccontextmanager
    async def transaction(
        self, side: Side, *, follower: bool = False, still: bool = False
    ) -> AsyncIterator[Connection]:
        """A transaction on one store, each statement of which sees what was committed before it, or all the same.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        connection = await self._connection(side)
        transaction = connection.transaction(isolation="repeatable_read" if still else "read_committed")
        try:
            await transaction.start()
            await self._stores[side].begin(connection, follower=follower)
            await connection.execute(_SETTINGS)
            yield connection
        except BaseException:
            try:
                await transaction.rollback()
            except Exception:  # noqa: BLE001  # it is broken; what broke it says more
                connection.terminate()
            raise
        try:
            await transaction.commit()
        except BaseException:
            connection.terminate()
            raise

    async def _connection(self, side: Side) -> asyncpg.Connection[asyncpg.Record]:
        found = self._connections.get(side)
        if found is None or found.is_closed():
            found = await self._stores[side].listen_connection()
            self._connections[side] = found
            await found.execute(f"SET application_name = '{APPLICATION}'")
            if side is Side.SQLALCHEMY:
                with suppress(
                    asyncpg.PostgresError
                ):  # behind a pooler the session may have used some already
                    await found.execute("SET temp_buffers = '64MB'")
        return found

    def close(self) -> None:
        """Give up both connections, whatever they are doing."""
        for connection in self._connections.values():
            connection.terminate()
        self._connections.clear()
