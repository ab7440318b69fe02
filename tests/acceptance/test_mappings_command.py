"""`CROSSFADE_MAPPINGS`, as the commands take it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from databases import FreshDatabase

SCHEMA = """
datasource db {
  provider = "postgresql"
  url      = env("DATABASE_URL")
}
model Item {
  id    Int     @id
  cents Int
  note  String?
}
"""
MODULE = """
from crossfade.mapping import Converted, Dropped, Mapping, Mappings

ITEM = Mapping(
    "Item",
    table="items",
    schema="shop",
    columns=(
        Converted("cents", "price", "{}::numeric / 100", "round({} * 100)::integer"),
        Dropped("note", one_way=True),
    ),
)
MAPPINGS = Mappings((ITEM,))
UNDECLARED = Mappings((Mapping("Item", table="items", schema="shop"),))


def lossy():
    return Mapping("Item", columns=(Dropped("note"),))
"""


@pytest.fixture
async def project(fresh_database: FreshDatabase, tmp_path: Path) -> dict[str, str]:
    """A folder with a schema and its mappings, and the environment that names two stores which differ on purpose."""
    (tmp_path / "schema.prisma").write_text(SCHEMA)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "crossing.py").write_text(MODULE)
    (tmp_path / "ours" / "losing.py").write_text("from ours.crossing import lossy\nMAPPINGS = lossy()\n")
    variables = {"CROSSFADE_SCHEMA": str(tmp_path / "schema.prisma"), "PWD": str(tmp_path)}
    for name, ddl in (
        (
            "CROSSFADE_LEGACY_DSN",
            'CREATE TABLE "Item" (id integer PRIMARY KEY, cents integer NOT NULL, note text)',
        ),
        (
            "CROSSFADE_TARGET_DSN",
            "CREATE SCHEMA shop; CREATE TABLE shop.items (id bigint PRIMARY KEY, price numeric(12,2) NOT NULL)",
        ),
    ):
        dsn = await fresh_database()
        connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
        await connection.execute(ddl)
        await connection.close()
        variables[name] = f"postgresql://{dsn.user}:{dsn.password}@{dsn.host}:{dsn.port}/{dsn.database}"
    return variables


def run(project: dict[str, str], mappings: str, *arguments: str) -> tuple[int, str, str]:
    """Run a command in the project's folder."""
    answer = subprocess.run(
        [str(Path(sys.executable).with_name("crossfade")), *arguments],
        env={**os.environ, **project, "CROSSFADE_MAPPINGS": mappings},
        cwd=project["PWD"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return answer.returncode, answer.stdout, answer.stderr


def test_commands_go_by_the_mappings_of_the_folder_they_run_in(project: dict[str, str]) -> None:
    """Refused while something is undeclared; installed into the other schema when it is; and found again."""
    install = ("install", "--without-backup", "test")
    code, out, err = run(project, "ours.crossing:UNDECLARED", *install)
    assert (2, "") == (code, out)
    for words in (
        'legacy column cents has no counterpart in "shop"."items"',
        'Dropped("note", one_way=True)',
        "column price, which is never null and has no default",
    ):
        assert words in err, err
    code, out, err = run(project, "ours.crossing:MAPPINGS", *install)
    assert (0, "") == (code, err)
    assert "  Item    capture; fence (follower)" in out
    code, out, _ = run(project, "ours.crossing:MAPPINGS", "install", "--check")
    assert (0, 2) == (code, out.count("are whole"))
    code, _, _ = run(project, "no.such:THING", "uninstall")
    assert code == 0


def test_what_cannot_be_used_is_told_in_one_line(project: dict[str, str]) -> None:
    """A name that is none, a module that is not there, another thing, and a mapping that loses what it does not say."""
    for mappings, words in {
        "ours.crossing": "CROSSFADE_MAPPINGS must be like package.module:NAME, not 'ours.crossing'",
        "ours.nothing:MAPPINGS": "cannot be imported: ModuleNotFoundError",
        "ours.crossing:ITEM": "must be a crossfade.mapping.Mappings, not a Mapping",
        "ours.losing:MAPPINGS": "the mapping of Item: column note would be lost",
    }.items():
        code, out, err = run(project, mappings, "install", "--check")
        assert (2, "") == (code, out)
        assert words in err
        assert 1 == len(err.splitlines())
