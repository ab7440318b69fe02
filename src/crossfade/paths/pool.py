"""Connections from SQLAlchemy's own pool, without its greenlet unless one must be opened.

Theory of operation. `AsyncEngine.connect()` runs every checkout in a greenlet, which costs more than a whole query by
key. An idle connection needs no I/O to be checked out, so the pool is asked directly; only opening one goes the long
way. What SQLAlchemy's queue does not give is fairness: tasks that never wait can starve those that do. So a queue of
our own stands in front of it, first come, first served, and a connection that is given back while somebody waits is
handed over directly.

Rules:

* Permits equal connections. Each is given back exactly once, whatever is cancelled when.
* Nothing is reset on return: a connection comes back idle and outside of a transaction, or it does not come back.
  `settle` sees to that after an error or a cancellation, in the background, with the permit still taken.
* A connection that the server has closed is noticed before it is used, so a write is never sent into the void.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any
from weakref import WeakSet

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection, QueuePool
from sqlalchemy.util import greenlet_spawn

from crossfade.errors import ConnectionLostError, StoreUnavailableError
from crossfade.paths.faults import LOST

_SETTLE_SECONDS = 2.0
"""How long a connection may take to become idle again after an interruption before it is dropped."""
_FRESH = "crossfade.fresh"


class Held:
    """A connection in somebody's hands. `driver` is asyncpg's own connection."""

    __slots__ = ("_proxied", "driver")

    def __init__(self, proxied: PoolProxiedConnection) -> None:
        self._proxied = proxied
        self.driver: Any = proxied.driver_connection

    def check_in(self) -> None:
        """Return the connection to SQLAlchemy's pool."""
        self._proxied.close()

    def drop(self) -> None:
        """Close the connection at once; its place in SQLAlchemy's pool becomes empty."""
        self._proxied.invalidate()


class ConnectionPool:
    """A fair queue before an engine's pool. At most `size` connections are in use at a time."""

    def __init__(self, engine: AsyncEngine, *, size: int, acquire_timeout: float | None) -> None:
        self._engine = engine.sync_engine
        self._size = size
        self._acquire_timeout = acquire_timeout
        self._free = size
        self._is_closed = False
        self._waiting: deque[asyncio.Future[Held | None]] = deque()
        self._settling: set[asyncio.Task[None]] = set()
        url = engine.url
        self._where = f"{url.host or 'localhost'}:{url.port or 5432}/{url.database}"
        # Dialect errors are a vendor's copy of DB-API's; the class is only known to the dialect.
        self._refusals: tuple[type[Exception], ...] = (
            OSError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            SQLAlchemyError,
            self._engine.dialect.loaded_dbapi.Error,
        )
        self._empty: WeakSet[Any] = WeakSet()
        event.listen(self._engine, "connect", self._on_connect)
        event.listen(self._engine, "invalidate", self._on_emptied)
        event.listen(self._engine, "detach", self._on_emptied)

    @property
    def where(self) -> str:
        """Host, port and database, for messages."""
        return self._where

    def take_idle(self) -> Held | None:
        """Take an idle connection if that is possible without waiting."""
        if not self._free or self._waiting:
            return None
        held = self._check_out_idle()
        if held is not None:
            self._free -= 1
        return held

    async def take(self, *, fresh: bool = False) -> Held:
        """Take a connection when it is this caller's turn; `fresh` wants one that has just been opened.

        Raises:
            ConnectionLostError: it did not come in time, or the pool is closed.
            StoreUnavailableError: a connection could not be opened.
        """
        if self._is_closed:
            raise ConnectionLostError("the path is closed; connect it first")
        held = None
        if self._free and not self._waiting:
            self._free -= 1
        else:
            held = await self._wait()
        try:
            if held is not None and (fresh or held.driver.is_closed()):
                held.drop()
                held = None
            return held or (None if fresh else self._check_out_idle()) or await self._open(fresh=fresh)
        except self._refusals as error:
            self._pass_on(None)
            raise StoreUnavailableError(self._where, _first_line(error)) from error
        except BaseException:
            self._pass_on(None)
            raise

    def give_back(self, held: Held) -> None:
        """Give back a connection that is idle and outside of a transaction."""
        if held.driver.is_closed():
            self.drop(held)
        else:
            self._pass_on(held)

    def drop(self, held: Held) -> None:
        """Give back a connection that is of no use any more."""
        held.drop()
        self._pass_on(None)

    def settle(self, held: Held) -> None:
        """Give back a connection whose last statement was interrupted or failed, as soon as it is idle again."""
        task = asyncio.get_running_loop().create_task(self._settle(held), name="crossfade-settle")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    def retire(self, held: Held, error: BaseException) -> bool:
        """Give back a connection after an error. Return whether a fresh connection may fare better."""
        driver = held.driver
        interrupted = isinstance(error, (asyncio.CancelledError, TimeoutError))
        lost = isinstance(error, LOST) and not interrupted
        if lost or driver.is_closed():
            self.drop(held)
        elif interrupted or driver.is_in_transaction():
            self.settle(held)
        else:
            self.give_back(held)
        return lost or isinstance(error, asyncpg.InvalidCachedStatementError)

    def open(self) -> None:
        """Let takers in; a pool is open until it is closed."""
        if self._is_closed:
            self._is_closed = False
            self._free = self._size

    async def close(self) -> None:
        """Refuse new takers, and wait until every connection has been given back."""
        if self._is_closed:
            return
        self._is_closed = True
        for _ in range(self._size):
            if self._free:
                self._free -= 1
            elif (held := await self._queue()) is not None:
                held.check_in()

    # --- inside ----------------------------------------------------------------------------------------------

    def _check_out_idle(self) -> Held | None:
        pool = self._engine.pool
        # A place without a connection may be the next one, and to fill it takes the long way.
        if self._empty or not isinstance(pool, QueuePool) or not pool.checkedin() or _needs_io(pool):
            return None
        held = Held(pool.connect())
        if held.driver.is_closed():
            held.drop()
            return None
        return held

    async def _open(self, *, fresh: bool) -> Held:
        for _ in range(self._size + 1):
            proxied = await greenlet_spawn(self._engine.pool.connect)
            held = Held(proxied)
            is_new = proxied.info.pop(_FRESH, False)
            if is_new or not (fresh or held.driver.is_closed()):
                return held
            held.drop()
        raise StoreUnavailableError(self._where, "no connection could be opened")

    async def _wait(self) -> Held | None:
        try:
            async with asyncio.timeout(self._acquire_timeout):
                return await self._queue()
        except TimeoutError:
            msg = (
                "Timed out fetching a new connection from the connection pool."
                f" (timeout: {self._acquire_timeout:g} s, connection limit: {self._size})"
            )
            raise ConnectionLostError(msg, code="P2024") from None

    async def _queue(self) -> Held | None:
        """Stand in the queue for a permit; with luck a connection comes with it."""
        turn: asyncio.Future[Held | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._pass_on(turn.result())  # our turn came in the very moment we gave up
            else:
                turn.cancel()
                self._forget(turn)
            raise

    def _forget(self, turn: asyncio.Future[Held | None]) -> None:
        try:
            self._waiting.remove(turn)
        except ValueError:
            return

    def _pass_on(self, held: Held | None) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(held)
                return
        if held is not None:
            held.check_in()
        self._free += 1

    def _on_connect(self, _connection: Any, record: Any) -> None:
        record.info[_FRESH] = True
        self._empty.discard(record)

    def _on_emptied(self, _connection: Any, record: Any, *_: Any) -> None:
        self._empty.add(record)

    async def _settle(self, held: Held) -> None:
        driver = held.driver
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                # Any statement waits for the cancellation of the last one, which may come late.
                await driver.execute("ROLLBACK" if driver.is_in_transaction() else "SELECT 1")
                if driver.is_in_transaction():
                    await driver.execute("ROLLBACK")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.drop(held)
        except BaseException:
            self.drop(held)
            raise
        else:
            self.give_back(held)


def _needs_io(pool: QueuePool) -> bool:
    """Whether a pool looks at a connection before it hands it out, for which it needs its greenlet."""
    return bool(pool._pre_ping or pool._recycle > -1 or pool.dispatch.checkout)  # noqa: SLF001


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
