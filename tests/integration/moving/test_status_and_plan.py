"""`status MODEL` and `plan` on two real stores, with and without somebody who conducts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from places import MODELS, Places
from test_commands import Desk

from crossfade.dsn import Dsn
from crossfade.stages import Side, Stage


@pytest.fixture
def desk(tmp_path: Path, dsns: dict[Side, Dsn]) -> Desk:
    return Desk(tmp_path, dsns)


async def told(desk: Desk, model: str) -> dict[str, Any]:
    """What `status MODEL --json` says."""
    outcome = await desk.run("status", model, "--json")
    assert (0, "") == (outcome.code, outcome.err)
    answer: dict[str, Any] = json.loads(outcome.out)
    return answer


async def planned(desk: Desk) -> dict[str, Any]:
    """What `plan --json` says."""
    outcome = await desk.run("plan", "--json")
    assert (0, "") == (outcome.code, outcome.err)
    answer: dict[str, Any] = json.loads(outcome.out)
    return answer


@asynccontextmanager
async def conducting(desk: Desk) -> AsyncIterator[None]:
    """`crossfade conduct` beside the test, until the end of the block; it leads when that begins."""
    process = await desk.start("conduct", "--name", "the-conductor")
    try:
        async with asyncio.timeout(30):
            while not (await told(desk, "Tag"))["conducted"]:
                assert process.returncode is None
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


async def test_nobody_conducts(desk: Desk) -> None:
    """It is said, with what to do about it, and how far the gates are all the same."""
    desk.ask("Author", Stage.SHADOW)

    outcome = await desk.run("status", "Author")

    assert (0, "") == (outcome.code, outcome.err)
    first, *lines = outcome.out.splitlines()
    assert (
        "Author stands at off and is asked for shadow; but no process conducts: start `crossfade conduct`, or an"
        " application that may lead."
    ) == first
    assert "asked for shadow by flags/Author.yaml" in lines
    assert "conductor no process conducts" in lines
    assert "gates of the step to dualwrite" in lines
    assert any(line.startswith("  holds  captured") for line in lines)


async def test_a_gate_that_is_shut_is_the_reason(desk: Desk, places: Places) -> None:
    """While a process conducts: the next step, what keeps it, and what to do."""
    desk.ask("Author", Stage.SHADOW)
    async with conducting(desk):
        async with asyncio.timeout(30):
            while (await told(desk, "Author"))["record"]["stage"] != Stage.DUALWRITE:
                pass
            while not (await told(desk, "Author"))["request"]["held"]:
                pass

        answer = await told(desk, "Author")

    assert answer["why"].startswith(
        "Author stands at dualwrite and is asked for shadow; it waits before shadow because it is not backfilled:"
        " Author has not been copied; run `crossfade backfill Author`"
    )
    assert ("shadow", "shadow", True) == (answer["asked_for"], answer["next_step"], answer["conducted"])
    shut = {gate["name"]: gate["remedy"] for gate in answer["gates"] if not gate["holds"]}
    assert "run `crossfade backfill Author`" == shut["backfilled"]
    assert ["the-conductor"] == [process["name"] for process in answer["processes"] if process["leads"]]
    assert Stage.DUALWRITE in [entry["stage"] for entry in answer["history"]]


async def test_a_model_that_was_walked_back(desk: Desk, places: Places) -> None:
    """It says by whom and why, and which command lets it go on."""
    await places.bring(MODELS, Stage.DUALWRITE, Stage.SHADOW)
    await places.mover().move(["Author"], Stage.DUALWRITE, by="guard", reason="too slow", pauses=True)
    desk.ask("Author", Stage.SHADOW)
    async with conducting(desk):
        answer = await told(desk, "Author")
        listed = await desk.run("status")
        blockers = {row["model"]: row["blockers"] for row in (await planned(desk))["models"]}

    why = "the guard walked it back: too slow; look into it, then run `crossfade resume Author`"
    assert (
        f"Author stands at dualwrite and is asked for shadow; it takes no step forward because {why}."
        == answer["why"]
    )
    assert answer["record"]["paused"]
    assert "dualwrite (paused)" in listed.out
    assert why in blockers["Author"]


async def test_an_unknown_model_and_no_stores(desk: Desk) -> None:
    """Each with what to do."""
    unknown = await desk.run("status", "Autor")
    without = await desk.run("status", "Author", CROSSFADE_LEGACY_DSN="", CROSSFADE_TARGET_DSN="")

    assert (2, True) == (
        unknown.code,
        "unknown model 'Autor'; the schema has Author, Book, Tag" in unknown.err,
    )
    assert (2, True) == (without.code, "set CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN" in without.err)


async def test_a_plan_from_what_was_seen(desk: Desk, places: Places) -> None:
    """Cohorts from single writes, order from the relations, blockers from the record, an estimate from the rows."""
    await places.write(
        Side.PRISMA, "INSERT INTO \"Author\" (id, name) SELECT 'a' || n, 'n' FROM generate_series(1, 500) n"
    )
    await places.write(Side.PRISMA, 'ANALYZE "Author"')
    legacy = places.stores[Side.PRISMA]
    await places.write(
        Side.PRISMA,
        f"INSERT INTO {legacy.own('spanned')} (models, is_write, times) VALUES"
        " ('{Author,Book}', true, 7), ('{Book,Tag}', false, 3)",
    )
    desk.ask("Book", Stage.SHADOW)

    plan = await planned(desk)

    assert [["Author", "Book"]] == [one["models"] for one in plan["advised_cohorts"]]
    assert [{"models": ["Book", "Tag"], "times": 3}] == plan["read_together"]
    assert [["Author"], ["Book"], ["Tag"]] == plan["order"] or [["Author"], ["Tag"], ["Book"]] == plan[
        "order"
    ]
    rows = {row["model"]: row for row in plan["models"]}
    assert any(
        "of Author (off); move the models it refers to first" in one for one in rows["Book"]["blockers"]
    )
    assert [] == rows["Author"]["blockers"]
    assert {"rows": 500, "seconds": None} == rows["Author"]["to_copy"]
    assert [None] == [proof["seconds"] for proof in rows["Author"]["to_prove"]]
    assert 3000 < rows["Author"]["to_prove"][0]["keys"] < 4500
    assert ["Book", "Author"] == plan["refused"][0]["models"]

    printed = await desk.run("plan")
    assert (0, "") == (printed.code, printed.err)
    assert "cohort to declare: Author, Book: single writes span them (7 seen" in printed.out
    assert "read together: Book, Tag (3 times)" in printed.out
    assert "cannot be met: Book (shadow) refers to Author (off)" in printed.out


async def test_a_plan_without_stores(desk: Desk) -> None:
    """From the schema and the files alone."""
    desk.ask("Author", Stage.OFF, "shelf")
    desk.ask("Book", Stage.OFF, "shelf")

    outcome = await desk.run("plan", CROSSFADE_LEGACY_DSN="", CROSSFADE_TARGET_DSN="")

    assert (0, "") == (outcome.code, outcome.err)
    assert "cohort shelf: Author, Book" in outcome.out


async def test_the_target_store_is_away(desk: Desk, places: Places) -> None:
    """What the legacy store says is told, and what cannot be known is named."""
    target = places.stores[Side.SQLALCHEMY].dsn
    dead = f"postgresql://{target.user}@127.0.0.1:9/{target.database}"

    outcome = await desk.run("status", "Author", CROSSFADE_TARGET_DSN=dead)
    plan = await desk.run("plan", CROSSFADE_TARGET_DSN=dead)

    assert (0, "") == (outcome.code, outcome.err)
    assert outcome.out.startswith("Author stands at off, which is what is asked for")
    assert "gates     cannot be read: cannot reach the database at 127.0.0.1:9" in outcome.out
    assert (0, "") == (plan.code, plan.err)
    assert "gates and copies are left out: cannot reach the database at 127.0.0.1:9" in plan.out
