"""One database, with the tables of the migration in it, as crossfade itself uses it.

Everything in `store/`, the reconciler and the mover work on it. Its connections are crossfade's own and are never lent
to the application. Every transaction reads and writes values in one spelling (UTC, ISO, hex), so that a text means the
same in both stores; the settings are made at its start, which holds behind a transaction pooler as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Self

import asyncpg

from crossfade.dsn import Dsn
from crossfade.errors import InstallError, StoreUnavailableError
from crossfade.mapping import NO_MAPPINGS, Mappings
from crossfade.schema import Schema
from crossfade.stages import Side
from crossfade.store.objects import BULK, BULK_SETTING, FOLLOWER, ROLE_SETTING, VERSION
from crossfade.store.tables import Connection, StoredTables, quoted, read_tables
from crossfade.stores import check_reachable

_SPELLING = (
    "set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),"
    " set_config('IntervalStyle', 'iso_8601', true), set_config('bytea_output', 'hex', true),"
    " set_config('extra_float_digits', '1', true)"
)
LOST: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)
"""What a connection raises whose server is gone."""


class Store:
    """The database behind one side. Open it with `async with`.

    Args:
        side: which side's store this is.
        dsn: where it is; `dsn.schema` is the schema of the tables, `public` by default.
        schema: the models.
        home: the schema of crossfade's own objects; two stores in one database need two.
        pool_size: how many connections it may use.
        mappings: where the target's tables differ from the legacy store's; both stores are given the same.
    """

    def __init__(
        self,
        side: Side,
        dsn: Dsn,
        schema: Schema,
        *,
        home: str = "crossfade",
        pool_size: int = 6,
        mappings: Mappings = NO_MAPPINGS,
    ) -> None:
        self.side = side
        self.dsn = dsn
        self.schema = schema
        self.home = home
        self.mappings = mappings if side is Side.SQLALCHEMY else NO_MAPPINGS
        self._pool_size = pool_size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._tables: StoredTables | None = None
        self._opening = asyncio.Lock()

    @property
    def tables(self) -> StoredTables:
        """The tables of the migration.

        Raises:
            StoreUnavailableError: the store has never answered, so nobody knows them.
        """
        if self._tables is None:
            raise StoreUnavailableError(self.where, "it has not been opened yet")
        return self._tables

    @property
    def where(self) -> str:
        """Host, port and database, for messages."""
        return self.dsn.where

    @property
    def database_schema(self) -> str:
        """The PostgreSQL schema that holds the tables, unless a mapping says otherwise."""
        return self.dsn.schema or "public"

    def own(self, name: str) -> str:
        """The name of one of crossfade's own objects, for SQL."""
        return f"{quoted(self.home)}.{quoted(name)}"

    async def __aenter__(self) -> Self:
        """Open it; raises what `open` raises."""
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect and read the layout of the tables, unless that is done. `transaction` does it by itself.

        Raises:
            StoreUnavailableError: the database does not answer.
            InstallError: a table is missing or has no key.
        """
        async with self._opening:
            if self._pool is not None:
                return
            await check_reachable(self.dsn, f"the store of {self.side}")
            arguments = self.dsn.asyncpg_kwargs()
            arguments["server_settings"] = {"application_name": "crossfade", **arguments["server_settings"]}
            pool = await asyncpg.create_pool(min_size=0, max_size=self._pool_size, **arguments)
            try:
                with self._answering():
                    async with pool.acquire() as connection:
                        self._tables = await read_tables(
                            connection, self.schema, self.database_schema, self.where, self.mappings
                        )
            except BaseException:
                pool.terminate()
                raise
            self._pool = pool

    async def reread_tables(self) -> None:
        """Read the layout of the tables again: partitions come and go.

        Raises:
            StoreUnavailableError: the database does not answer.
            InstallError: a table is missing or has no key.
        """
        with self._answering():
            async with self.transaction() as connection:
                self._tables = await read_tables(
                    connection, self.schema, self.database_schema, self.where, self.mappings
                )

    async def close(self) -> None:
        """Close every connection at once."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.terminate()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Tell of a connection that breaks, or cannot be opened, in the words of an operator's error."""
        try:
            yield
        except LOST as error:
            raise StoreUnavailableError(self.where, str(error) or type(error).__name__) from error

    @asynccontextmanager
    async def transaction(self, *, follower: bool = False, bulk: bool = False) -> AsyncIterator[Connection]:
        """One transaction, as a follower if asked; it commits at the end of the block or rolls back with its error.

        What a `bulk` transaction of a follower inserts is not captured: see `objects.BULK`.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        if self._pool is None:
            await self.open()
        pool = self._pool
        assert pool is not None
        with self._answering():
            connection = await pool.acquire()
        try:
            async with connection.transaction():
                await self.begin(connection, follower=follower, bulk=bulk)
                yield connection
        finally:
            await pool.release(connection)

    async def begin(self, connection: Connection, *, follower: bool = False, bulk: bool = False) -> None:
        """Make the settings of a transaction of this store that has just begun."""
        # What a deferred constraint refuses would be known at the commit, too late to put one row off.
        immediate = "SET CONSTRAINTS ALL IMMEDIATE; " if follower else ""
        await connection.execute(
            f"{immediate}SELECT {_SPELLING}{_role(follower=follower)}{_BULK if bulk else ''}"
        )

    async def listen_connection(self) -> asyncpg.Connection[asyncpg.Record]:
        """A connection of its own, for LISTEN or a session's lock; whoever asks closes it.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        # The driver complains on stderr of a connection that is given up half-way, so it is made to its end.
        making = asyncio.ensure_future(asyncpg.connect(**self.dsn.asyncpg_kwargs()))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(_give_up)
            raise
        except LOST as error:
            raise StoreUnavailableError(self.where, str(error) or type(error).__name__) from error

    async def check_installed(self) -> None:
        """Return if crossfade's objects are here, in the version that this code works with.

        Raises:
            InstallError: they are not.
            StoreUnavailableError: the database does not answer.
        """
        with self._answering():
            async with self.transaction() as connection:
                present = await connection.fetchval(
                    "SELECT to_regclass($1) IS NOT NULL", self.own("installation")
                )
                version = (
                    await connection.fetchval(f"SELECT max(version) FROM {self.own('installation')}")  # noqa: S608
                    if present
                    else None
                )
        if version is None:
            raise InstallError(self.where, "crossfade is not installed there; run `crossfade install`")
        if version != VERSION:
            raise InstallError(
                self.where,
                f"it has version {version} of crossfade's objects and this is version {VERSION};"
                " run `crossfade install` with the newer crossfade",
            )


_BULK = f", set_config('{BULK_SETTING}', '{BULK}', true)"


def _role(*, follower: bool) -> str:
    return f", set_config('{ROLE_SETTING}', '{FOLLOWER if follower else ''}', true)"


def _give_up(making: asyncio.Future[asyncpg.Connection[asyncpg.Record]]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().terminate()
