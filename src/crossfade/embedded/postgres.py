"""PostgreSQL as a child process: a server of one's own, on loopback, gone when this process is gone.

Without a data directory the cluster is a throwaway: it is created among the temporary files, trades durability for
speed, and is deleted when it stops. With one it is kept. Every start sets a new password, which exists only in the
object. The Unix socket asks for none, but it lies in a directory that only the server's own user (and root) can enter.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import asyncpg

from crossfade.embedded.binaries import find_bin_dir, may_read, server_user, temporary_places
from crossfade.embedded.process import Child
from crossfade.embedded.server import PORT_ATTEMPTS, EmbeddedServer, free_port
from crossfade.errors import EmbeddedError

_T = TypeVar("_T")

USER = "postgres"
CLUSTER_NAME = "crossfade_embedded"
"""By this a database can be told to be on a server of this kind, whatever URL leads there."""
_INITDB_SECONDS = 60.0
_READY_SECONDS = 30.0
_POLL_SECONDS = 0.01
_SOCKET_DIR_LIMIT = 80
"""Characters; the whole path of a Unix socket may have about a hundred."""

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "cluster_name": CLUSTER_NAME,
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_THROWAWAY_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server under this process; `async with` starts and stops it.

    The object belongs to no event loop: it may be started in one, used in others and stopped in yet another.

    Stopped, it deletes a throwaway cluster.

    Args:
        data_dir: where the cluster is kept; None makes a throwaway cluster.
        port: the port on 127.0.0.1; None picks a free one.
    """

    _NAME = "PostgreSQL"

    def __init__(self, data_dir: Path | None = None, port: int | None = None) -> None:
        super().__init__()
        self._given_data_dir = data_dir
        self._given_port = port
        self._password = secrets.token_urlsafe(24)
        self._bin_dir: Path | None = None

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        self._running()
        return self._port

    @property
    def bin_dir(self) -> Path:
        """The directory of `postgres`, `psql`, `pg_dump` and the other programs."""
        if self._bin_dir is None:
            self._bin_dir = find_bin_dir(server_user())
        return self._bin_dir

    @property
    def psql(self) -> Path:
        """The `psql` that belongs to the server."""
        return self.bin_dir / "psql"

    def dsn(self, database: str) -> str:
        """The URL of one of the server's databases. It holds the password: do not log it."""
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    async def start(self) -> None:
        """Create the cluster if it does not exist, start the server and wait until it answers.

        Raises:
            EmbeddedError: PostgreSQL is not installed or does not start; the message has its own last words.
        """
        await super().start()

    async def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of `template` if one is named, and return its URL.

        Raises:
            EmbeddedError: it exists already, or the template does not exist or is in use.
        """
        copy = f" TEMPLATE {_quoted(template)}" if template else ""
        await self._administer(f"CREATE DATABASE {_quoted(name)}{copy}")
        return self.dsn(name)

    async def drop_database(self, name: str) -> None:
        """Drop a database if it exists; whoever is connected to it is disconnected."""
        await self._administer(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    async def _administer(self, statement: str) -> None:
        self._running()
        connection = await self._connect()
        try:
            await connection.execute(statement)
        except asyncpg.PostgresError as error:
            raise EmbeddedError(f"PostgreSQL refused: {error}") from error
        finally:
            await connection.close()

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(
            host=str(self._runtime_dir), port=self._port, user=USER, database="postgres", ssl=False
        )

    async def _bring_up(self) -> None:
        data_dir, user = await _finished(self._prepare)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            await _finished(partial(self._launch, data_dir, user))
            if await self._wait_for(self._answers, _READY_SECONDS, _POLL_SECONDS):
                break
            taken = "could not create any TCP/IP sockets" in self._log()
            if self._given_port or attempt == PORT_ATTEMPTS or not taken:
                raise EmbeddedError(f"PostgreSQL does not start: {self._last_words()}")
        await self._administer(f"ALTER ROLE {USER} PASSWORD '{self._password}'")

    async def _answers(self) -> bool:
        with suppress(OSError, asyncpg.CannotConnectNowError):
            connection = await self._connect()
            await connection.close()
            return True
        return False

    def _prepare(self) -> tuple[Path, int | None]:
        """Find the programs, make the directories and the cluster; return its place and the user that owns it."""
        user, data_dir = server_user(), self._given_data_dir
        if user is not None and data_dir is not None and data_dir.is_dir():
            # A cluster that some user owns already has to be run by that user.
            user = data_dir.stat().st_uid or user
        self._bin_dir = find_bin_dir(user)
        self._runtime_dir = runtime_dir = _make_runtime_dir(user)
        data_dir = (runtime_dir / "data" if data_dir is None else data_dir).resolve()
        if not (data_dir / "PG_VERSION").exists():
            self._create_cluster(data_dir, user)
        return data_dir, user

    def _create_cluster(self, data_dir: Path, user: int | None) -> None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if user is not None:
            os.chown(data_dir, user, pwd.getpwuid(user).pw_gid)
        # Because of the socket's `trust`, initdb does without a password; start() sets one.
        initdb = self._supervise(
            "initdb",
            *("-D", data_dir, "-U", USER, "-E", "UTF8", "--locale=C.UTF-8"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync", "--no-instructions"),
            user=user,
        )
        try:
            status = initdb.wait(_INITDB_SECONDS)
        except TimeoutError:
            status = None
        if status != 0:
            raise EmbeddedError(f"cannot create a PostgreSQL cluster in {data_dir}: {self._last_words()}")

    def _launch(self, data_dir: Path, user: int | None) -> None:
        self._port = self._given_port or free_port()
        settings = _SETTINGS | (_THROWAWAY_SETTINGS if self._given_data_dir is None else {})
        self._supervise(
            "postgres",
            *("-D", data_dir, "-p", str(self._port), "-k", str(self._runtime_dir)),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            user=user,
        )

    def _supervise(self, program: str, *arguments: str | Path, user: int | None) -> Child:
        # Bound to the object before it is returned, so that stop() finds it even if the caller was cancelled.
        self._child = Child.start(
            [self.bin_dir / program, *arguments],
            # The server must not take its place or port from variables meant for clients.
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
            cwd=self._runtime_dir,
            user=user,
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGQUIT,
            log_file=self._log_file,
            remove=self._runtime_dir,
        )
        return self._child

    def _last_words(self) -> str:
        """What the server's log says about its end, in one line."""
        lines = self._log_lines()
        telling = [line for line in lines if "FATAL" in line or "could not" in line or "error:" in line]
        return "; ".join((telling or lines)[-3:]) or "it left no message"


async def _finished(work: Callable[[], _T]) -> _T:
    """Do `work` on a thread. A caller who is cancelled waits for it too, and then knows what there is to stop."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.exception()
        raise


def _make_runtime_dir(user: int | None) -> Path:
    """Make a directory for the socket, the log and a throwaway cluster, in a place that `user` can enter."""
    places = temporary_places()
    for place in places:
        if len(str(place)) <= _SOCKET_DIR_LIMIT and (user is None or may_read(place, user)):
            break
    else:
        raise EmbeddedError(f"PostgreSQL's user cannot enter {places[0]}; set TMPDIR to a directory it can")
    runtime_dir = Path(tempfile.mkdtemp(prefix="crossfade-pg-", dir=place))
    if user is not None:
        os.chown(runtime_dir, user, pwd.getpwuid(user).pw_gid)
    return runtime_dir


def _quoted(name: str) -> str:
    """Return a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
