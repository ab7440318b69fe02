"""A database to restore a dump into: on an embedded server that is gone afterwards, or on one that is given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex

import asyncpg

from crossfade.backup.standing import StoreStanding, session
from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.errors import BackupError
from crossfade.store.tables import quoted


@asynccontextmanager
async def scratch_server(given: Dsn | None) -> AsyncIterator[Dsn]:
    """Where scratch databases may be made: `given`, or else an embedded server.

    Raises:
        EmbeddedError: PostgreSQL is not installed, or does not start.
    """
    if given is not None:
        yield given
        return
    async with EmbeddedPostgres() as server:
        yield Dsn.parse(server.dsn("postgres"))


@dataclass(frozen=True, slots=True)
class ScratchStanding:
    """What a dump can be restored to: the server's version, and the extensions that it could have."""

    version: str
    major: int
    extensions: frozenset[str]


async def read_scratch(server: Dsn) -> ScratchStanding:
    """Ask a server for scratch databases what it is."""
    async with session(server, "the scratch server") as connection:
        number = int(await connection.fetchval("SELECT current_setting('server_version_num')"))
        version = str(await connection.fetchval("SELECT current_setting('server_version')"))
        extensions = await connection.fetch("SELECT name::text FROM pg_available_extensions")
    return ScratchStanding(
        version.split(maxsplit=1)[0], number // 10_000, frozenset(row["name"] for row in extensions)
    )


@asynccontextmanager
async def scratch_database(
    server: Dsn, like: StoreStanding, roles: Sequence[str], *, is_embedded: bool
) -> AsyncIterator[Dsn]:
    """An empty database of the store's encoding, dropped in the end.

    Policies name roles, so those have to exist; they are created where the server is gone afterwards.

    Raises:
        BackupError: it cannot be created.
    """
    name = f"crossfade_scratch_{token_hex(6)}"
    async with session(server, "the scratch server") as connection:
        try:
            if is_embedded:
                for role in roles:
                    if not await connection.fetchval(
                        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role
                    ):
                        await connection.execute(f"CREATE ROLE {quoted(role)}")
            await connection.execute(
                f"CREATE DATABASE {quoted(name)} ENCODING '{like.encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
                " TEMPLATE template0"
            )
        except asyncpg.PostgresError as error:
            raise BackupError(server.where, f"a scratch database cannot be created there: {error}") from error
        try:
            yield server.replace(database=name)
        finally:
            await connection.execute(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")
