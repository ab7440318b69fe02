"""A backup holds every table, can be restored, and gives nothing away."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import stat
from pathlib import Path

import asyncpg
import pytest

from crossfade.backup import BackupSettings, Identity, Manifest, back_up, backups_in
from crossfade.backup import backup as making
from crossfade.backup.listing import missing_in
from crossfade.backup.manifest import DumpedTable
from crossfade.backup.scratch import ScratchStanding
from crossfade.backup.tools import Tools, find_tools
from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.errors import BackupError
from crossfade.stages import Side
from databases import FreshDatabase

P, S = Side.PRISMA, Side.SQLALCHEMY


def list_of(directory: Path) -> list[Path]:
    """What lies in a directory."""
    return [*directory.iterdir()]


async def test_a_backup_is_complete_and_private(filled: Dsn, tmp_path: Path) -> None:
    """Dump, roles, list and manifest are there, readable by their owner alone, and no password is in any."""
    (made,) = await back_up({P: filled}, tmp_path / "kept")

    assert [made.directory.name] == [path.name for path in (tmp_path / "kept").iterdir()]
    assert {"dump", "list.txt", "manifest.json", "roles.sql"} == {
        path.name for path in made.directory.iterdir()
    }
    assert [] == [
        path for path in (tmp_path / "kept").rglob("*") if stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    told = "".join(path.read_text() for path in made.directory.glob("*.*"))
    assert filled.password
    assert filled.password not in told
    manifest = made.manifest
    assert ("with passwords", None, ("prisma",)) == (manifest.roles, manifest.proof, manifest.sides)
    assert {"people", "odd name", "parts_1"} == {table.name for table in manifest.tables}
    assert manifest == Manifest.from_json((made.directory / "manifest.json").read_text())
    assert [made.directory] == [one.directory for one in backups_in(tmp_path / "kept")]
    assert made.problem() is None


async def test_a_proved_backup_has_the_rows_of_one_moment(
    filled: Dsn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written while the dump is made is in neither side of the comparison."""
    writer = await asyncpg.connect(**filled.asyncpg_kwargs())
    run = Tools.run

    async def run_under_traffic(tools: Tools, program: str, *arguments: str, **rest: object) -> None:
        await writer.execute(
            "UPDATE people SET name = 'changed' WHERE id = 1; DELETE FROM people WHERE id = 400"
        )
        await run(tools, program, *arguments, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Tools, "run", run_under_traffic)
    try:
        (made,) = await back_up({P: filled}, tmp_path, BackupSettings(prove=True))
        assert 499 == await writer.fetchval("SELECT count(*) FROM people")
    finally:
        await writer.close()

    assert made.manifest.proof is not None
    assert (3, 503) == (made.manifest.proof.tables, made.manifest.proof.rows)
    assert 500 == next(table.rows for table in made.manifest.tables if table.name == "people")


async def test_a_dump_that_is_not_the_store_is_found_out(
    filled: Dsn, tmp_path: Path, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that differs after the restore fails the proof, and nothing is left that looks like a backup."""
    read = making.read_images_at

    async def tampered(connection: asyncpg.Connection, tables: tuple[DumpedTable, ...]) -> object:
        await connection.execute("UPDATE people SET name = 'other' WHERE id = 7")
        return await read(connection, tables)

    monkeypatch.setattr(making, "read_images_at", tampered)
    settings = BackupSettings(prove=True, scratch=Dsn.parse(postgres.dsn("postgres")))
    with pytest.raises(BackupError, match=r"the rows of public\.people are not those of the store"):
        await back_up({P: filled}, tmp_path, settings)

    assert [] == list_of(tmp_path)
    admin = await asyncpg.connect(postgres.dsn("postgres"))
    try:
        assert 0 == await admin.fetchval(
            "SELECT count(*) FROM pg_database WHERE datname LIKE 'crossfade_scratch%'"
        )
    finally:
        await admin.close()


@pytest.mark.parametrize(
    ("scratch", "problem"),
    [
        (ScratchStanding("13.1", 13, frozenset({"plpgsql"})), "is 13, which cannot take its dump"),
        (ScratchStanding("99.0", 99, frozenset()), "does not have the extensions plpgsql"),
    ],
)
async def test_a_scratch_server_that_will_not_do(
    filled: Dsn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scratch: ScratchStanding, problem: str
) -> None:
    """An older server, or one without the store's extensions, is refused before anything is dumped."""

    async def read(_: Dsn) -> ScratchStanding:
        return scratch

    monkeypatch.setattr(making, "read_scratch", read)
    with pytest.raises(BackupError, match=f"{problem}.*--scratch"):
        await back_up({P: filled}, tmp_path, BackupSettings(scratch=filled, prove=True))

    assert [] == list_of(tmp_path)


async def test_two_stores_in_one_database_are_dumped_once(filled: Dsn, tmp_path: Path) -> None:
    """The backup is of the database, and says which sides are in it."""
    (made,) = await back_up({P: filled, S: filled.replace(schema="other")}, tmp_path)

    assert ("prisma", "sqlalchemy") == made.manifest.sides


async def test_a_role_that_sees_less(filled: Dsn, tmp_path: Path) -> None:
    """Who is no superuser gets roles without passwords; who may not read a table gets no backup."""
    role = f"owner_{filled.database}"
    owner = await asyncpg.connect(**filled.asyncpg_kwargs())
    try:
        await owner.execute(
            f"CREATE ROLE {role} LOGIN PASSWORD 'pa ss@word'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
        )
        reader = dataclasses.replace(filled, user=role, password="pa ss@word")
        (made,) = await back_up({P: reader}, tmp_path)
        assert "without passwords" == made.manifest.roles
        assert "SCRAM-SHA-256" not in (made.directory / "roles.sql").read_text()

        await owner.execute(f"REVOKE SELECT ON people FROM {role}")
        with pytest.raises(BackupError, match="permission denied for table people"):
            await back_up({P: reader}, tmp_path / "second")
        assert [] == list_of(tmp_path / "second")
    finally:
        await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await owner.close()


async def test_a_pooler_is_refused(filled: Dsn, tmp_path: Path) -> None:
    """A dump needs a session of its own."""
    pooled = dataclasses.replace(filled, params={"pgbouncer": "true"})

    with pytest.raises(BackupError, match="transaction pooler"):
        await back_up({P: pooled}, tmp_path)


async def test_cancelling_ends_the_programs(
    filled: Dsn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: object
) -> None:
    """A dump that is waiting for a lock ends with whoever wanted it."""
    from crossfade.backup import tools

    started: asyncio.Queue[int] = asyncio.Queue()
    wait = tools._ended

    async def noted(child: tools.Child) -> None:
        await started.put(child.pid)
        await wait(child)

    monkeypatch.setattr(tools, "_ended", noted)
    locker = await asyncpg.connect(**filled.asyncpg_kwargs())
    try:
        async with locker.transaction():
            await locker.execute("LOCK TABLE people IN ACCESS EXCLUSIVE MODE")
            task = asyncio.ensure_future(back_up({P: filled}, tmp_path))
            pid = await started.get()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    finally:
        await locker.close()

    assert ended(pid)  # type: ignore[operator]
    assert [] == list_of(tmp_path)


def test_tools_are_chosen_by_version() -> None:
    """The newest that the scratch server can take; none for a server that is too new."""
    assert 16 <= find_tools("here", 16).major
    assert 16 == find_tools("here", 13, at_most=16).major
    with pytest.raises(BackupError, match="a pg_dump of version 99 or newer is needed"):
        find_tools("here", 99)


def test_a_database_is_known_whatever_the_url() -> None:
    """By the server's own number; where that is not to be had, the place has to be the same as well."""
    one = Identity("1", "shop", 5, "a:1/shop")

    assert one.is_same(Identity("1", "shop", 5, "b:2/shop"))
    assert not one.is_same(Identity("2", "shop", 5, "a:1/shop"))
    assert not one.is_same(Identity("1", "shop", 6, "a:1/shop"))
    assert one.is_same(Identity(None, "shop", 5, "a:1/shop"))
    assert not one.is_same(Identity(None, "shop", 5, "b:2/shop"))


def test_the_list_is_read_by_whole_names() -> None:
    """A table whose name begins another's is not taken for it, and blanks in names are no matter."""
    listing = """\
; Archive created at …
215; 1259 16390 TABLE public odd name the owner
3421; 0 16390 TABLE DATA public odd name the owner
216; 1259 16391 TABLE public users2 owner
3422; 0 16391 TABLE DATA public users2 owner
217; 1259 16392 TABLE public empty owner
"""
    tables = [DumpedTable("public", name, 0) for name in ("odd name", "users", "users2", "empty")]

    assert ["public.users", "the rows of public.empty", "public.parts"] == missing_in(
        listing, tables, [("public", "parts")]
    )


def test_secrets_reach_no_argument() -> None:
    """Passwords are in the environment, a key's passphrase in a file that is gone afterwards."""
    from crossfade.backup.reaching import reaching

    dsn = Dsn(
        "db",
        5432,
        "shop",
        "app",
        "pa ss",
        params={"sslmode": "require", "sslcert": "c.pem", "sslkey": "k.pem", "sslpassword": "hush"},
    )
    with reaching(dsn) as (url, environment):
        file = Path(environment["PGSERVICEFILE"])
        assert (0o600, "[crossfade]\nsslpassword=hush\n") == (
            stat.S_IMODE(file.stat().st_mode),
            file.read_text(),
        )
        assert dsn.password == environment["PGPASSWORD"]
    assert not file.exists()
    assert not any(secret in url for secret in ("hush", str(dsn.password)))
    assert "sslkey=k.pem" in url


async def test_variables_of_the_shell_do_not_lead_astray(
    filled: Dsn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGHOST and the like are for other programs."""
    monkeypatch.setenv("PGOPTIONS", "-c search_path=nowhere")
    monkeypatch.setenv("PGSSLMODE", "verify-full")

    (made,) = await back_up({P: filled}, tmp_path)
    assert 3 == len(made.manifest.tables)


async def test_a_changed_list_is_no_backup(
    filled: Dsn, tmp_path: Path, fresh_database: FreshDatabase
) -> None:
    """What does not match its manifest says so; a manifest that cannot be read is none."""
    (made,) = await back_up({P: filled}, tmp_path)
    with (made.directory / "list.txt").open("a") as file:
        file.write("more\n")
    assert "its list has been changed" == made.problem()
    (made.directory / "dump" / "toc.dat").unlink()
    assert "its dump is gone" == made.problem()
    entry = json.loads((made.directory / "manifest.json").read_text())
    (made.directory / "manifest.json").write_text(json.dumps({**entry, "format": 2}))
    assert [] == [*backups_in(tmp_path)]
