"""Async engines and sessions for the marketplace's new store.

Code that is written for SQLAlchemy uses a `Database` directly:

    async with Database.from_environment() as database, database.session() as session:
        user = await session.get(User, user_id)

A session is one transaction: it commits when its block ends and rolls back when the block raises.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import ConnectionPoolEntry

from crossfade.dsn import Dsn
from crossfade.errors import ConfigurationError, StoreUnavailableError

TARGET_VARIABLE: Final = "CROSSFADE_TARGET_DSN"
"""The environment variable that names the new store."""

_UNREACHABLE = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError, DBAPIError)


def target_dsn(environ: Mapping[str, str] = os.environ) -> Dsn:
    """Read the new store's URL from the environment.

    Raises:
        ConfigurationError: it is not set.
        DsnError: it is not a PostgreSQL URL.
    """
    url = environ.get(TARGET_VARIABLE)
    if not url:
        raise ConfigurationError(f"{TARGET_VARIABLE} is not set; give it the URL of the new store")
    return Dsn.parse(url)


def create_engine(dsn: Dsn) -> AsyncEngine:
    """Make an engine with its pool; nothing is connected until it is used."""
    engine = create_async_engine(
        dsn.sqlalchemy_url(),
        connect_args=dsn.connect_args(),
        pool_pre_ping=True,
        **dsn.pool_args(),
    )
    if setup := dsn.setup_statement():

        @event.listens_for(engine.sync_engine, "connect")
        def run_setup(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
            cursor = connection.cursor()
            cursor.execute(setup)
            cursor.close()
            connection.commit()

    return engine


@asynccontextmanager
async def connect(dsn: Dsn) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Open one plain asyncpg connection, for COPY and DDL.

    Raises:
        StoreUnavailableError: the database does not answer or refuses.
    """
    try:
        connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
    except _UNREACHABLE as error:
        raise StoreUnavailableError(dsn.where, _reason(error)) from error
    try:
        if setup := dsn.setup_statement():
            await connection.execute(setup)
        yield connection
    finally:
        await connection.close()


class Database:
    """The new store: one engine, and sessions on it."""

    def __init__(self, dsn: Dsn) -> None:
        self._dsn = dsn
        self.engine = create_engine(dsn)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Database:
        """Make a database from `CROSSFADE_TARGET_DSN`.

        Raises:
            ConfigurationError: it is not set.
            DsnError: it is not a PostgreSQL URL.
        """
        return cls(target_dsn(environ))

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Open a session with a transaction that ends with the block."""
        async with self._sessions.begin() as session:
            yield session

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection with a transaction that ends with the block, for SQL without the ORM."""
        async with self.engine.begin() as connection:
            yield connection

    async def healthcheck(self, deadline: float = 2.0) -> float:
        """Ask the database for an answer and return the seconds that it took.

        Raises:
            StoreUnavailableError: none came within `deadline` seconds.
        """
        started = time.perf_counter()
        try:
            async with asyncio.timeout(deadline), self.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except _UNREACHABLE as error:
            raise StoreUnavailableError(self._dsn.where, _reason(error)) from error
        return time.perf_counter() - started

    async def close(self) -> None:
        """Close every connection; sessions in use are not waited for."""
        await self.engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Database({self._dsn.where!r})"


def _reason(error: BaseException) -> str:
    """The driver's own words, without what SQLAlchemy wraps around them."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
