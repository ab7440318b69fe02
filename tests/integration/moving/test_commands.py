"""`flip --wait`, `rollback` and `finalize` as a user runs them, on two real stores."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from places import MODELS, Places

from crossfade.dsn import Dsn
from crossfade.stages import Side, Stage

SCHEMA = """
model Author {
  id    String @id @default(cuid())
  name  String
  books Book[] @relation("Books")
}

model Book {
  id        Int     @id @default(autoincrement())
  title     String
  author_id String?
  author    Author? @relation("Books", fields: [author_id], references: [id])
  tags      Tag[]   @relation("BookToTag")

  @@map("books")
}

model Tag {
  id    String @id @default(cuid())
  books Book[] @relation("BookToTag")
}
"""
VICTIM = Path(__file__).with_name("victim.py")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Desk:
    """A directory with a schema and flags, and the command run in it."""

    def __init__(self, root: Path, dsns: dict[Side, Dsn]) -> None:
        self.root = root
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")},
            "COLUMNS": "200",
            "CROSSFADE_LEGACY_DSN": dsns[Side.PRISMA].libpq_url(),
            "CROSSFADE_TARGET_DSN": dsns[Side.SQLALCHEMY].libpq_url(),
        }
        (root / "schema.prisma").write_text(SCHEMA)
        (root / "flags").mkdir()
        for model in MODELS:
            self.ask(model, Stage.OFF)

    def ask(self, model: str, stage: Stage, cohort: str | None = None) -> None:
        text = f"model: {model}\nowner: team\ndescription: d\nstage: {stage}\n"
        self.flag(model).write_text(text + (f"cohort: {cohort}\n" if cohort else ""))

    def flag(self, model: str) -> Path:
        return self.root / "flags" / f"{model}.yaml"

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "crossfade", *arguments),
            cwd=self.root,
            env={**self._environment, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, **environment: str) -> Outcome:
        process = await self.start(*arguments, **environment)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return Outcome(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
def desk(tmp_path: Path, dsns: dict[Side, Dsn]) -> Desk:
    return Desk(tmp_path, dsns)


async def test_flip_follows_the_record_until_the_model_is_there(
    desk: Desk, places: Places, dsns: dict[Side, Dsn]
) -> None:
    """Each step as it is taken, by whoever leads."""
    urls = [dsns[side].libpq_url() for side in Side]
    leader = await asyncio.create_subprocess_exec(
        sys.executable, VICTIM, *urls, "never", "lead", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert leader.stdout is not None
        assert b"leads\n" == await leader.stdout.readline()
        code, out, err = await desk.run("flip", "Tag", "live", "--wait", "30")
    finally:
        leader.kill()
        await leader.wait()

    assert (0, "") == (code, err)
    assert "Tag: off → live, asked for by" in out
    assert "Tag is at live" == out.splitlines()[-1]
    assert Stage.LIVE is (await places.record(Side.SQLALCHEMY, "Tag")).stage


async def test_flip_says_that_nobody_conducts_and_gives_up(desk: Desk, places: Places) -> None:
    """The request stays in the flag file; the exit code says that the model is not there."""
    code, _, err = await desk.run("flip", "Tag", "live", "--wait", "0.3")

    assert 1 == code
    assert "no process conducts now" in err
    assert "Tag stands at off after 0.3 s: nothing has moved it" in err
    assert "stage: live" in desk.flag("Tag").read_text()


async def test_a_command_that_needs_stores_says_so_before_anything_changes(desk: Desk) -> None:
    """In one line, and the flag file stays what it was."""
    nowhere = {"CROSSFADE_LEGACY_DSN": "", "CROSSFADE_TARGET_DSN": ""}
    before = desk.flag("Tag").read_text()
    for arguments in (
        ("flip", "Tag", "live", "--wait", "1"),
        ("rollback", "Tag", "--force"),
        ("finalize", "Tag", "--yes"),
    ):
        code, _, err = await desk.run(*arguments, **nowhere)
        assert 2 == code
        assert 1 == len(err.splitlines())
        assert "set CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN" in err

    assert before == desk.flag("Tag").read_text()


async def test_rollback_walks_back_by_itself_when_nobody_conducts(desk: Desk, places: Places) -> None:
    """Drained, and told step by step."""
    await places.bring(["Tag"], Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE)
    await places.write(Side.SQLALCHEMY, "INSERT INTO \"Tag\" VALUES ('t')")
    desk.ask("Tag", Stage.LIVE)
    code, out, err = await desk.run("rollback", "Tag", "--by", "ada")

    assert 0 == code, err
    assert "this one does" in err
    assert "Tag: live → off, asked for by ada" in out.splitlines()[0]
    stages = [line.split()[1] for line in out.splitlines() if "requested" in line and "under way" not in line]
    assert ["shadow", "dualwrite", "off"] == stages
    assert "writers waited" in out
    assert "Tag is at off" == out.splitlines()[-1]
    assert Stage.OFF is (await places.agree("Tag")).stage
    assert [("t",)] == await places.rows(Side.PRISMA, "Tag")
    assert "stage: off" in desk.flag("Tag").read_text()


async def test_rollback_says_what_holds_it(desk: Desk, places: Places) -> None:
    """A parent leaves dual writes after its children."""
    await places.bring(["Author", "Book"], Stage.DUALWRITE)
    desk.ask("Author", Stage.DUALWRITE)
    code, _, err = await desk.run("rollback", "Author", "--wait", "2")

    assert 1 == code
    assert "move the models that refer to it back first" in err


async def test_rollback_by_force_takes_the_cohort_and_lists_what_is_lost(desk: Desk, places: Places) -> None:
    """The whole cohort's flags ask for off, and the file is where it is said to be."""
    await places.stand_at(Stage.LIVE)
    await places.write(Side.SQLALCHEMY, "INSERT INTO \"Author\" VALUES ('a', 'Ann')")
    for model in ("Author", "Book"):
        desk.ask(model, Stage.LIVE, cohort="shop")
    code, out, err = await desk.run("rollback", "Book", "--force", "--reason", "fire", "--lost", "lost.jsonl")

    assert (0, "") == (code, err)
    assert "Author, Book: shadow, by force" in out
    assert "1 key never reached the legacy store; both images of each are in lost.jsonl" in out
    lost = json.loads((desk.root / "lost.jsonl").read_text())
    assert ("Author", ["a"], {"id": "a", "name": "Ann"}, None) == (
        lost["model"],
        lost["key"],
        lost["target"],
        lost["legacy"],
    )
    assert "forced: fire" in (await places.agree("Book")).reason
    assert all("stage: off" in desk.flag(model).read_text() for model in ("Author", "Book"))

    code, _, err = await desk.run("rollback", "Book", "--force")
    assert 2 == code
    assert "Prisma has the authority over it already" in err


async def test_rollback_by_force_without_the_target_is_plain_about_it(desk: Desk, places: Places) -> None:
    """The legacy store takes writes; that nobody can say what is lost is said, and is the exit code."""
    await places.stand_at(Stage.LIVE)
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    code, out, err = await desk.run("rollback", "Tag", "--force", CROSSFADE_TARGET_DSN=nowhere)
    assert 2 == code
    assert "Prisma has the authority over it already" in err
    code, out, err = await desk.run("rollback", "Book", "--force", CROSSFADE_TARGET_DSN=nowhere)

    assert 1 == code
    assert "Book: shadow, by force; the legacy store takes the writes now" in out
    assert "nobody can say yet which keys never reached the legacy store" in err
    assert "run this again" in err
    assert [] == list(desk.root.glob("*.jsonl"))
    assert await places.takes(Side.PRISMA, "Book")
    code, out, err = await desk.run("rollback", "Book", "--force")
    assert (0, "") == (code, err)
    assert "nothing is lost" in out
    assert not (await places.agree("Book")).forced


async def test_finalize_asks_and_refuses_before_complete(desk: Desk, places: Places) -> None:
    """Nothing is removed without a yes, or on the way."""
    code, _, err = await desk.run("finalize", "Tag", "--yes")
    assert 2 == code
    assert "only a model at complete can be made final" in err
    way = (Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN)
    await places.bring(MODELS, *way)
    await places.bring(["Tag"], Stage.COMPLETE)
    code, out, _ = await desk.run("finalize", "Tag")
    assert 1 == code
    assert not (await places.agree("Tag")).final

    code, out, err = await desk.run("finalize", "Tag", "--yes", "--by", "ada")
    assert (0, "") == (code, err)
    assert "Tag is final" in out
    record = await places.agree("Tag")
    assert (True, "ada") == (record.final, record.by)
