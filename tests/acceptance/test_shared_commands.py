"""The commands where both clients work on the same tables: one store is prepared, followed and walked back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import asyncpg

from databases import FreshDatabase
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema

FLAGS = Path(__file__).parents[2] / "flags"


async def test_one_store_is_installed_followed_and_walked_back(
    fresh_database: FreshDatabase, tmp_path: Path
) -> None:
    """No trigger is put on any table, and `rollback` conducts where nobody else does."""
    dsn = await fresh_database()
    await apply_legacy_schema(dsn)
    flags = shutil.copytree(FLAGS, tmp_path / "flags")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")},
        "CROSSFADE_SCHEMA": str(SCHEMA_FILE),
        "CROSSFADE_FLAGS_DIR": str(flags),
        "CROSSFADE_LEGACY_DSN": dsn.libpq_url(),
        "CROSSFADE_TOPOLOGY": "shared",
    }

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "crossfade", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    code, said = run("install")
    assert 0 == code, said
    connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
    assert 0 == await connection.fetchval(
        "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'crossfade_capture%'"
    )
    await connection.execute(
        "UPDATE crossfade.record SET stage = 'live', epoch = epoch + 1, by = 'ann' WHERE model = 'User'"
    )
    await connection.close()

    code, said = run("flip", "User", "live", "--wait", "5")
    assert 0 == code, said
    assert "User is at live" in said
    code, said = run("status", "User")
    assert 0 == code, said
    assert said.startswith(
        "User stands at live, which is what is asked for; `crossfade flip User rampdown` would"
    )
    assert "captured" not in said
    code, said = run("plan")
    assert 0 == code, said
    assert "in this order" in said
    code, said = run("rollback", "User")
    assert 0 == code, said
    assert "User is at off" in said
    assert "this one does until the model is at off" in said
    for command in ("backfill", "verify", "preflight"):
        code, said = run(command)
        assert 2 == code
        assert "set CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN" in said
