"""What `flip` and `status` say of a model that was not copied and compared yet, and afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crossfade.dsn import Dsn
from crossfade.stages import Side
from databases import FreshDatabase
from marketplace.seed import seed_legacy
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target

FLAGS = Path(__file__).parents[2] / "flags"
FAMILY = ("User", "Item")


class Desk:
    """Both stores and a folder of flags, and the command run on them."""

    def __init__(self, dsns: dict[Side, Dsn], flags: Path) -> None:
        self.flags = flags
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")},
            "CROSSFADE_SCHEMA": str(SCHEMA_FILE),
            "CROSSFADE_FLAGS_DIR": str(flags),
            "CROSSFADE_LEGACY_DSN": dsns[Side.PRISMA].libpq_url(),
            "CROSSFADE_TARGET_DSN": dsns[Side.SQLALCHEMY].libpq_url(),
        }

    def run(self, *arguments: str) -> str:
        """What the command prints."""
        done = subprocess.run(
            [sys.executable, "-m", "crossfade", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout

    def gates(self, model: str) -> dict[str, str]:
        """What `status` says of a model's gates."""
        rows = json.loads(self.run("status", "--json"))["models"]
        return next(row["gates"] for row in rows if row["model"] == model)


@pytest.fixture
async def desk(fresh_database: FreshDatabase, tmp_path: Path) -> Desk:
    """A seeded legacy store, an empty target, crossfade in both, and every flag at `off`."""
    dsns = {side: await fresh_database() for side in Side}
    await apply_legacy_schema(dsns[Side.PRISMA])
    await upgrade_target(dsns[Side.SQLALCHEMY])
    await seed_legacy(dsns[Side.PRISMA], 300)
    desk = Desk(dsns, shutil.copytree(FLAGS, tmp_path / "flags"))
    desk.run("install")
    return desk


def test_a_flip_says_what_it_will_wait_for(desk: Desk) -> None:
    """The flag is written all the same; once the model was copied and verified there is nothing to say."""
    asked = desk.run("flip", "User", "shadow")

    assert "it will wait, because it is not backfilled: User has not been copied" in asked
    assert "it will wait, because it is not verified: User has not been verified as a whole" in asked
    assert {"captured": "yes", "indexed": "yes", "backfilled": "User has not been copied"} == {
        name: said for name, said in desk.gates("User").items() if name != "verified"
    }
    assert "stage: shadow" in (desk.flags / "User.yaml").read_text()
    assert "it will wait" not in desk.run("flip", "User", "dualwrite")

    desk.run("backfill", *FAMILY)
    desk.run("verify", *FAMILY)

    assert "it will wait" not in desk.run("flip", "User", "shadow")
    assert {"yes"} == set(desk.gates("User").values()) == set(desk.gates("Item").values())
