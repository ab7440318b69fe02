"""Sleep until a store rings: what makes an idle reconciler cost next to nothing.

A captured write looks whether anybody holds an advisory lock, the bell, and only then notifies. So writers pay for
the notification only while a reconciler sleeps. The lock is held by the session that listens. A writer that has looked
keeps the bell from being hung up until its transaction ends, so whoever has hung it up looks once more at the entries,
and from then on no write goes unheard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import asyncpg

from crossfade.errors import StoreUnavailableError
from crossfade.store import Store
from crossfade.store.objects import BELL, CHANGE_CHANNEL


class Bells:
    """One bell in each store."""

    def __init__(self, stores: Iterable[Store]) -> None:
        self._stores = tuple(stores)
        self._connections: dict[Store, asyncpg.Connection[asyncpg.Record]] = {}
        self._rung = asyncio.Event()

    async def sleep(self, poll: float, longest: float, due_in: Callable[[], Awaitable[float]]) -> None:
        """Wait until a store rings or something falls due.

        Args:
            poll: seconds to wait at most if a bell is somebody else's.
            longest: seconds to wait at most.
            due_in: in how many seconds something falls due; asked once every bell hangs.
        """
        self._rung.clear()
        all_hang = True
        try:
            for store in self._stores:
                all_hang &= await self._hang(store)
            seconds = min(await due_in(), longest if all_hang else poll)
            if seconds > 0:
                async with asyncio.timeout(seconds):
                    await self._rung.wait()
        except TimeoutError:
            pass
        finally:
            await self._take_down()

    async def close(self) -> None:
        """End the sessions."""
        for connection in self._connections.values():
            connection.terminate()
        self._connections.clear()

    async def _hang(self, store: Store) -> bool:
        """Listen to a store, and take its bell; False if somebody else has it, or the store is not there."""
        try:
            connection = self._connections.get(store)
            if connection is None or connection.is_closed():
                connection = await store.listen_connection()
                connection.add_termination_listener(self._ring)
                await connection.add_listener(CHANGE_CHANNEL, self._ring)
                self._connections[store] = connection
            return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", BELL))
        except (StoreUnavailableError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            return False

    async def _take_down(self) -> None:
        for store, connection in list(self._connections.items()):
            try:
                await connection.execute("SELECT pg_advisory_unlock_all()")
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                connection.terminate()
                del self._connections[store]

    def _ring(self, *_: object) -> None:
        self._rung.set()
