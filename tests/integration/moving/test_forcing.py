"""Going back by force, with the target store there and with it gone: what is lost is listed, never guessed."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from places import COHORT, MODELS, QUICK, Places, install_places, opened

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.errors import ConfigurationError, StageMoveError
from crossfade.events import StageMoved
from crossfade.forcing import Forced, force_back
from crossfade.stages import Side, Stage

LOST = [
    {
        "model": "Author",
        "key": ["a"],
        "op": "U",
        "target": {"id": "a", "name": "Bea"},
        "legacy": {"id": "a", "name": "Ann"},
    },
    {
        "model": "Book",
        "key": ["1"],
        "op": "D",
        "target": None,
        "legacy": {"id": 1, "title": "one", "author_id": "a"},
    },
    {
        "model": "Book",
        "key": ["2"],
        "op": "I",
        "target": {"id": 2, "title": "two", "author_id": "a"},
        "legacy": None,
    },
]


async def write_what_gets_lost(places: Places) -> None:
    """Live, with three keys that have not been carried over, and one that needs not to be."""
    await places.write(Side.PRISMA, "INSERT INTO \"Author\" VALUES ('a', 'Ann'), ('b', 'Bob')")
    await places.write(Side.PRISMA, "INSERT INTO books (title, author_id) VALUES ('one', 'a')")
    await places.stand_at(Stage.LIVE)
    assert await places.level()
    for statement in (
        "UPDATE \"Author\" SET name = 'Bea' WHERE id = 'a'",
        "UPDATE \"Author\" SET name = name WHERE id = 'b'",
        "DELETE FROM books WHERE id = 1",
        "INSERT INTO books (title, author_id) VALUES ('two', 'a')",
    ):
        await places.write(Side.SQLALCHEMY, statement)
    places.heard.events.clear()


async def force(places: Places, file: Path) -> Forced:
    return await force_back(places.mover(), COHORT, by="ada", reason="store lost", file=file)


async def test_what_never_arrived_is_listed_with_both_images(places: Places, tmp_path: Path) -> None:
    """For its owner's eyes alone; then the legacy store wins, and its sequences are past what the target gave out."""
    await write_what_gets_lost(places)
    file = tmp_path / "lost.jsonl"
    forced = await force(places, file)

    assert Forced(("Author", "Book"), Stage.SHADOW, file, 3) == forced
    assert LOST == [json.loads(line) for line in file.read_text().splitlines()]
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    for model in COHORT:
        record = await places.agree(model)
        assert (Stage.SHADOW, False, "ada") == (record.stage, record.forced, record.by)
        assert record.epoch > 1000
        assert [Side.PRISMA] == await places.authors(model)
        assert [Side.SQLALCHEMY] == await places.followers(model)
    assert [
        StageMoved(model, Stage.LIVE, Stage.SHADOW, 0.0, "ada", "forced: store lost") for model in COHORT
    ] == places.heard.moved()
    insert = "INSERT INTO books (title) VALUES ('three') RETURNING id"
    assert 3 == await places.write(Side.PRISMA, insert)
    assert await places.level()
    assert [("a", "Ann"), ("b", "Bob")] == await places.rows(Side.SQLALCHEMY, "Author")


async def test_after_a_truncate_every_row_is_suspect(places: Places, tmp_path: Path) -> None:
    """Keys that no entry names are compared, too."""
    await write_what_gets_lost(places)
    await places.write(Side.SQLALCHEMY, 'TRUNCATE "Author" CASCADE')
    forced = await force(places, tmp_path / "lost.jsonl")

    assert 3 == forced.lost  # both authors and the book that the legacy store has
    assert await places.level()
    assert 2 == len(await places.rows(Side.SQLALCHEMY, "Author"))


async def test_there_must_be_something_to_force(places: Places, tmp_path: Path) -> None:
    """With the authority at Prisma, or a file that is there already, nothing is changed."""
    file = tmp_path / "lost.jsonl"
    with pytest.raises(StageMoveError, match="Prisma has the authority over it already"):
        await force(places, file)
    await places.stand_at(Stage.LIVE)
    before = await places.agree("Book")
    file.write_text("mine")
    with pytest.raises(ConfigurationError, match="exists already"):
        await force(places, file)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        await force(places, tmp_path / "nowhere" / "lost.jsonl")

    assert "mine" == file.read_text()
    assert before == await places.agree("Book")


class Elsewhere:
    """A target store on a server of its own, that is stopped and started."""

    def __init__(self, server: EmbeddedPostgres, legacy: Dsn) -> None:
        self.server = server
        self.legacy = legacy

    def dsns(self) -> dict[Side, Dsn]:
        return {Side.PRISMA: self.legacy, Side.SQLALCHEMY: Dsn.parse(self.server.dsn("target"))}


@pytest.fixture
async def elsewhere(fresh_database: object, postgres: EmbeddedPostgres) -> AsyncIterator[Elsewhere]:
    # Beside the other temporary files, because the server's user may not be able to enter pytest's directories.
    home = Path("/var/tmp") / f"crossfade-target-{os.getpid()}"  # noqa: S108
    server = EmbeddedPostgres(home)
    try:
        await server.start()
        await server.create_database("target")
        there = Elsewhere(server, await fresh_database())  # type: ignore[operator]
        await install_places(there.dsns())
        yield there
    finally:
        await server.stop()
        shutil.rmtree(home, ignore_errors=True)


async def test_with_the_target_lost_the_list_is_made_when_it_is_back(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """Until then the model stays forced: writes go on, nothing is reconciled, and the target takes nobody."""
    dsns = elsewhere.dsns()
    async with opened(dsns) as places:
        await write_what_gets_lost(places)
        await elsewhere.server.stop()
        first = await force(places, tmp_path / "first.jsonl")

        assert first.lost is None
        assert "cannot reach the database" in first.why
        assert not (tmp_path / "first.jsonl").exists()
        record = await places.record(Side.PRISMA, "Book")
        assert (Stage.SHADOW, True) == (record.stage, record.forced)
        await places.view.refresh()
        assert record == places.view.record("Book")
        assert places.view.authority("Book") is None
        await places.write(Side.PRISMA, "UPDATE \"Author\" SET name = 'Amy' WHERE id = 'a'")
        # Written where the authority is now: never lost, and not to be listed.
        await places.write(Side.PRISMA, "INSERT INTO \"Author\" (id, name) VALUES ('z', 'Zoe')")
        with pytest.raises(StageMoveError, match="a store does not answer"):
            await places.mover().move(COHORT, Stage.LIVE, by="test")

    await elsewhere.server.start()
    async with opened(elsewhere.dsns()) as places:
        assert COHORT == await places.mover().recover()
        assert not await places.takes(Side.SQLALCHEMY, "Author")
        assert not await places.takes(Side.SQLALCHEMY, "Author", follower=True)
        with pytest.raises(StageMoveError, match="what was lost is not listed yet"):
            await places.mover().move(COHORT, Stage.LIVE, by="test")
        assert 0 == await places.reconciler.run_once(settle=0.0)

        file = tmp_path / "second.jsonl"
        assert Forced(("Author", "Book"), Stage.SHADOW, file, 3) == await force(places, file)
        listed = [json.loads(line) for line in file.read_text().splitlines()]
        assert [{**LOST[0], "legacy": {"id": "a", "name": "Amy"}}, *LOST[1:]] == listed
        assert [] == places.heard.moved()
        assert await places.level()
        await places.mover().move(COHORT, Stage.LIVE, by="test")
        assert [Side.SQLALCHEMY] == await places.authors("Author")
        assert await places.level()


async def test_writers_stopped_by_a_move_whose_target_is_lost_are_let_go_by_force(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """Frozen on one side, unknown on the other: only a person can decide that."""
    async with opened(elsewhere.dsns()) as places:
        await places.bring(MODELS, Stage.DUALWRITE, Stage.SHADOW)

        async def lose_the_target(point: object) -> None:
            if point == "open.begun":
                await elsewhere.server.stop()

        mover = places.mover(
            at=lose_the_target, settings=replace(QUICK, pause_deadline=20.0, answer_deadline=0.5)
        )
        with pytest.raises(StageMoveError, match="nobody knows whether it has moved"):
            await mover.move(COHORT, Stage.LIVE, by="test")
        assert not await places.takes(Side.PRISMA, "Book")
        assert [] == await places.mover().recover()
        forced = await force(places, tmp_path / "lost.jsonl")

        assert forced.lost is None
        assert [True, True] == [await places.takes(Side.PRISMA, model) for model in COHORT]


async def test_a_forced_record_that_reached_only_one_store_is_carried_to_the_other(places: Places) -> None:
    """Force dies between its two writes: whoever leads finishes it, fences included, and nothing is listed yet."""
    await places.stand_at(Stage.LIVE)
    record = await places.agree("Book")
    forced = replace(record, stage=Stage.SHADOW, forced=True, epoch=record.epoch + 1000)
    async with places.mover().lines() as lines:
        await places.mover().level(lines[Side.SQLALCHEMY], forced, record.epoch)
    assert [] == await places.authors("Book")
    assert ["Book"] == await places.mover().recover()

    assert (await places.agree("Book")).forced
    assert [Side.PRISMA] == await places.authors("Book")
    assert [] == await places.followers("Book")
