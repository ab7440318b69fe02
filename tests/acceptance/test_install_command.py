"""`crossfade install` and `crossfade uninstall`, as a person runs them."""

from __future__ import annotations

import os
import subprocess
import sys

import asyncpg

from databases import FreshDatabase
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target


def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
    answer = subprocess.run(
        [sys.executable, "-m", "crossfade", *arguments],
        env={**os.environ, "CROSSFADE_SCHEMA": str(SCHEMA_FILE), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return answer.returncode, answer.stdout, answer.stderr


async def test_install_and_uninstall(fresh_database: FreshDatabase) -> None:
    """Both stores are done and reported table by table; a second run has nothing to do; leaving is guarded."""
    legacy, target = await fresh_database(), await fresh_database()
    await apply_legacy_schema(legacy)
    await upgrade_target(target)
    dsns = {
        name: f"postgresql://{dsn.user}:{dsn.password}@{dsn.host}:{dsn.port}/{dsn.database}"
        for name, dsn in (("CROSSFADE_LEGACY_DSN", legacy), ("CROSSFADE_TARGET_DSN", target))
    }

    code, out, err = run("install", "--side", "prisma", **dsns)
    assert (0, "") == (code, err)
    assert out.startswith(f"prisma at {legacy.where}, schema crossfade\n")
    assert "  User                       capture; fence (authority)" in out

    code, out, _ = run("install", **dsns)
    assert code == 0
    assert f"prisma at {legacy.where}, schema crossfade\n  complete already; nothing to do\n" in out
    assert f"sqlalchemy at {target.where}, schema crossfade\n" in out
    assert "  _ConversationParticipants  capture; fence (follower)" in out

    assert (0, 2) == ((whole := run("install", "--check", **dsns))[0], whole[1].count("are whole"))
    session = await asyncpg.connect(**target.asyncpg_kwargs())
    try:
        await session.execute("ALTER TABLE users DISABLE TRIGGER crossfade_capture_update")
        code, out, _ = run("install", "--check", **dsns)
        assert code == 1
        assert "users" in out.split(f"sqlalchemy at {target.where}")[1]
        await session.execute("UPDATE crossfade.record SET stage = 'shadow' WHERE model = 'User'")
    finally:
        await session.close()
    code, out, err = run("uninstall", **dsns)
    assert (2, "") == (code, out)
    assert f"crossfade: the store at {target.where}: User left `off`" in err

    code, out, _ = run("uninstall", "--force", **dsns)
    assert code == 0
    assert out.count("schema crossfade removed") == 2
    assert run("uninstall", **dsns)[1].count("nothing was installed") == 2


async def test_refusals_are_one_line_each(fresh_database: FreshDatabase) -> None:
    """Everything in the way in either store is told before anything is changed in any."""
    legacy, target = await fresh_database(), await fresh_database()
    await apply_legacy_schema(legacy)
    urls = [
        f"postgresql://{dsn.user}:{dsn.password}@{dsn.host}:{dsn.port}/{dsn.database}"
        for dsn in (legacy, target)
    ]

    code, out, err = run("install", CROSSFADE_LEGACY_DSN=urls[0], CROSSFADE_TARGET_DSN=urls[1])

    assert (2, "") == (code, out)
    lines = err.splitlines()
    assert len(lines) == 11
    assert f'crossfade: the store at {target.where}: User has no table "public"."users"' == lines[0]
    assert str(legacy.password) not in err
    session = await asyncpg.connect(**legacy.asyncpg_kwargs())
    try:
        assert await session.fetchval("SELECT to_regnamespace('crossfade') IS NULL")
    finally:
        await session.close()


def test_stores_must_be_named() -> None:
    """Without the two URLs there is nothing to install into."""
    code, _, err = run("install", CROSSFADE_LEGACY_DSN="", CROSSFADE_TARGET_DSN="")

    assert (2, "crossfade: set CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN to the two stores\n") == (
        code,
        err,
    )


def test_shared_topology_has_one_store() -> None:
    """A shared store is one: there is no other side to choose."""
    shared = {"CROSSFADE_TOPOLOGY": "shared", "CROSSFADE_LEGACY_DSN": "postgresql://u@127.0.0.1:1/x"}

    code, _, err = run("install", "--side", "sqlalchemy", CROSSFADE_TARGET_DSN="", **shared)
    assert (2, "crossfade: CROSSFADE_TOPOLOGY=shared has one store: leave --side out\n") == (code, err)
