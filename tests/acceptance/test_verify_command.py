"""`crossfade verify`, as a person runs it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from crossfade.dsn import Dsn
from crossfade.stages import Side
from databases import FreshDatabase
from marketplace.seed import seed_legacy
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target


class Desk:
    """Both stores, and the command run on them."""

    def __init__(self, dsns: dict[Side, Dsn]) -> None:
        self.dsns = dsns

    def run(self, *arguments: str) -> tuple[int, str, str]:
        answer = subprocess.run(
            [sys.executable, "-m", "crossfade", *arguments],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")},
                "CROSSFADE_SCHEMA": str(SCHEMA_FILE),
                "CROSSFADE_LEGACY_DSN": self.dsns[Side.PRISMA].libpq_url(),
                "CROSSFADE_TARGET_DSN": self.dsns[Side.SQLALCHEMY].libpq_url(),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return answer.returncode, answer.stdout, answer.stderr

    async def unseen(self, *statements: str) -> None:
        """Change users of the target store with nobody to capture it."""
        session = await asyncpg.connect(**self.dsns[Side.SQLALCHEMY].asyncpg_kwargs())
        try:
            await session.execute("ALTER TABLE users DISABLE TRIGGER USER")
            for statement in statements:
                await session.execute(statement)
            for event in ("insert", "update", "delete", "truncate"):
                await session.execute(f"ALTER TABLE users ENABLE ALWAYS TRIGGER crossfade_capture_{event}")
            await session.execute("ALTER TABLE users ENABLE ALWAYS TRIGGER crossfade_refuse_authors")
        finally:
            await session.close()


@pytest.fixture
async def desk(fresh_database: FreshDatabase) -> Desk:
    """The marketplace in two stores with the same rows, and crossfade's objects."""
    desk = Desk({side: await fresh_database() for side in Side})
    await apply_legacy_schema(desk.dsns[Side.PRISMA])
    await upgrade_target(desk.dsns[Side.SQLALCHEMY])
    for dsn in desk.dsns.values():
        await seed_legacy(dsn, 300)
    code, out, err = desk.run("install")
    assert 0 == code, out + err
    return desk


async def test_verify_and_repair(desk: Desk, tmp_path: Path) -> None:
    """Differences are told as a table, as JSON and as images; repair brings them level; the exit code says which."""
    code, out, err = desk.run("verify")
    assert 0 == code, out + err
    assert "_ConversationParticipants" in out
    assert out.rstrip().endswith("no difference")

    await desk.unseen(
        "UPDATE users SET name = name || ' ', reputation = 7 WHERE id = (SELECT min(id) FROM users)",
        "UPDATE users SET email = 'secret@example.org' WHERE id = (SELECT max(id) FROM users)",
    )
    outcome, images = tmp_path / "outcome.json", tmp_path / "images.jsonl"
    code, out, _ = desk.run(
        "verify", "User", "--json", str(outcome), "--images", str(images), "--show", "reputation"
    )
    assert 1 == code
    assert "differing" in out
    assert "2 differ; --repair brings them level" in out
    document = json.loads(outcome.read_text())
    [table] = document["tables"]
    assert (False, "User", "differing", 2) == (
        document["is_clean"],
        table["model"],
        table["state"],
        table["different"],
    )
    assert {"email": 1, "name": 1, "reputation": 1} == table["columns"]
    assert 0o600 == stat.S_IMODE(images.stat().st_mode)
    assert 2 == len(images.read_text().splitlines())
    assert "secret" not in images.read_text()
    assert '"value": "7"' in images.read_text()

    assert 1 == desk.run("verify", "User", "--deep", "--json", "-")[0]
    code, out, _ = desk.run("verify", "User", "--repair")
    assert 0 == code
    assert "2 repaired; no difference" in out
    assert 0 == desk.run("verify", "User", "--sample", "0.5", "--seed", "3")[0]
    code, _, err = desk.run("verify", "User", "--since", "2020-01-01", "--deep", "--metrics-port", "0")
    assert 0 == code
    assert "serving http://127.0.0.1:" in err


async def test_refusals(desk: Desk, tmp_path: Path) -> None:
    """What cannot be done is told in one line, with exit code 2."""
    for arguments, reason in (
        (["Nobody"], "unknown model 'Nobody'"),
        (["--since", "2020-01-01"], "verify Message: no column there says when a row was written"),
        (["--since", "yesterday"], "--since 'yesterday' is no time"),
        (["--sample", "0"], "0 is no share of the chunks"),
        (["--sample", "0.1", "--since", "2020-01-01"], "do not go together"),
        (["--show", "email"], "give --images as well"),
        (["--images", str(tmp_path / "i"), "--show", "nonsense"], "has a column nonsense"),
    ):
        code, out, err = desk.run("verify", *arguments)
        assert (2, "") == (code, out)
        assert reason in err
        assert "Traceback" not in err
