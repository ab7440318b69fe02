"""`crossfade backup`, and `crossfade install`, which wants one first of a store that it has never been in."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from crossfade.backup import backups_in
from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.embedded import postgres as embedded
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target


@pytest.fixture(scope="session")
def somebodys_server() -> Iterator[EmbeddedPostgres]:
    """A server that does not say that it is embedded, as one of the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(embedded._SETTINGS, "cluster_name", "main")
        server = EmbeddedPostgres()
        asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
    answer = subprocess.run(
        [sys.executable, "-m", "crossfade", *arguments],
        env={**os.environ, "CROSSFADE_SCHEMA": str(SCHEMA_FILE), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return answer.returncode, answer.stdout, answer.stderr


async def test_the_way_to_an_installation(somebodys_server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Refused without backups, let in with them; too old or broken ones do not count; a second run needs none."""
    urls = [await somebodys_server.create_database(name) for name in ("legacy", "target")]
    legacy, target = map(Dsn.parse, urls)
    await apply_legacy_schema(legacy)
    await upgrade_target(target)
    variables = {
        "CROSSFADE_LEGACY_DSN": urls[0],
        "CROSSFADE_TARGET_DSN": urls[1],
        "CROSSFADE_BACKUP_DIR": str(tmp_path / "kept"),
    }

    code, out, err = run("install", **variables)
    assert (2, "") == (code, out)
    assert f"a backup of the last 24 h comes first (there is none in {tmp_path / 'kept'})" in err
    assert "run `crossfade backup --side prisma`" in err
    assert "run `crossfade backup --side sqlalchemy`" in err

    code, out, err = run("backup", "--prove", **variables)
    assert 0 == code, err
    made = [*backups_in(tmp_path / "kept")]
    assert {str(backup.directory) for backup in made} == set(out.splitlines())
    assert all(backup.manifest.proof for backup in made)
    assert "rows are the same" in err
    assert legacy.password not in out + err

    for backup in made:
        old = dataclasses.replace(
            backup.manifest, finished=backup.manifest.finished - timedelta(hours=30)
        ).as_json()
        (backup.directory / "manifest.json").write_text(old)
    code, _, err = run("install", **variables)
    assert (2, True) == (code, "is 30 h old" in err)

    code, out, err = run("install", "--backup-age", "48", **variables)
    assert 0 == code, err
    code, out, err = run("install", "--backups", str(tmp_path / "elsewhere"), **variables)
    assert 0 == code, err
    assert 2 == out.count("complete already; nothing to do")


async def test_waiving_the_backup_is_recorded(somebodys_server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Somebody may answer for doing without, and is named in the installation."""
    urls = [await somebodys_server.create_database(name) for name in ("legacy_2", "target_2")]
    await apply_legacy_schema(Dsn.parse(urls[0]))
    await upgrade_target(Dsn.parse(urls[1]))

    code, _, err = run(
        "install",
        *("--by", "ci", "--without-backup", "Ann from operations"),
        CROSSFADE_LEGACY_DSN=urls[0],
        CROSSFADE_TARGET_DSN=urls[1],
        CROSSFADE_BACKUP_DIR=str(tmp_path),
    )

    assert 0 == code, err
    connection = await asyncpg.connect(urls[0])
    try:
        assert "ci; without a backup: Ann from operations" == await connection.fetchval(
            "SELECT by FROM crossfade.installation"
        )
    finally:
        await connection.close()


async def test_nothing_outlives_a_command_that_is_killed(
    somebodys_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """`kill -9` ends pg_dump with it, and what it leaves is no backup."""
    url = await somebodys_server.create_database("locked")
    variables = {
        "CROSSFADE_LEGACY_DSN": url,
        "CROSSFADE_TARGET_DSN": f"{url}?schema=other",
        "CROSSFADE_BACKUP_DIR": str(tmp_path),
    }
    locker, watcher = await asyncpg.connect(url), await asyncpg.connect(url)
    dumping = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'"
    await locker.execute("CREATE TABLE people (id integer PRIMARY KEY)")
    await locker.execute("BEGIN")
    await locker.execute("LOCK TABLE people")
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crossfade", "backup"),
        env={**os.environ, **variables},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            while not await watcher.fetchval(dumping):
                await asyncio.sleep(0.05)
            command.kill()
            while await watcher.fetchval(dumping):
                await asyncio.sleep(0.05)
    finally:
        if command.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                command.kill()
        await command.wait()
        await locker.close()
        await watcher.close()

    assert [] == [*backups_in(tmp_path)]
