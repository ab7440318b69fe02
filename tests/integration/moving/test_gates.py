"""No model is read from a store that nobody has filled and compared: the gates, their reasons and their remedies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from places import MODELS, QUICK, SHELF, Places

from crossfade.conductor import Conductor
from crossfade.covering import cover
from crossfade.errors import InstallError
from crossfade.gates import Coverage, GateName
from crossfade.moving import Mover
from crossfade.planner import Planner
from crossfade.stages import MOVES, Side, Stage, is_forward
from crossfade.store.install import install, uninstall


@asynccontextmanager
async def conducting(places: Places) -> AsyncIterator[Conductor]:
    """A conductor that asks the gates."""
    mover = Mover(places.stores, places.carrier, SHELF, places.heard, QUICK)
    async with Conductor(
        mover,
        places.view,
        Planner(SHELF),
        places.heard,
        places.stores,
        gates=Coverage(places.stores),
        interval=0.02,
    ) as conductor:
        yield conductor


async def reached(places: Places, model: str, stage: Stage) -> None:
    """Wait until a model stands at a stage."""
    async with asyncio.timeout(20):
        while places.view.record(model).stage is not stage:
            await asyncio.sleep(0.005)


async def why(places: Places, model: str) -> dict[GateName, str]:
    """The gates of a model that do not hold, with what is to be done."""
    found = await Coverage(places.stores).read([model])
    return {gate.name: gate.why for gate in found[model] if not gate.holds}


async def test_a_model_waits_at_dualwrite_until_it_is_backfilled_and_verified(places: Places) -> None:
    """It says what is missing and which command brings it; then it goes on by itself."""
    async with places.connect(Side.PRISMA) as author:
        await author.execute("INSERT INTO \"Author\" VALUES ('ada', 'Ada'), ('bob', 'Bob')")
    async with conducting(places) as conductor:
        conductor.request("Author", Stage.SHADOW, by="team")
        async with asyncio.timeout(20):
            while "Author" not in conductor.held():
                await asyncio.sleep(0.005)
        assert Stage.DUALWRITE is places.view.record("Author").stage
        assert (
            "it is not backfilled: Author has not been copied; run `crossfade backfill Author`;"
            " it is not verified: Author has not been verified as a whole; run `crossfade verify Author`"
            == conductor.held()["Author"]
        )

        await cover(places.stores, ["Author"], by="test")

        await reached(places, "Author", Stage.SHADOW)
        async with asyncio.timeout(20):
            while conductor.held():
                await asyncio.sleep(0.005)


@pytest.mark.parametrize(("current", "wanted"), sorted(MOVES))
async def test_only_steps_forward_to_where_the_target_is_read_are_gated(
    places: Places, current: Stage, wanted: Stage
) -> None:
    """Going back never waits, and neither does beginning to write to both."""
    unmet = await Coverage(places.stores).unmet(["Author"], current, wanted)

    gated = is_forward(current, wanted) and wanted is not Stage.DUALWRITE
    assert ([GateName.BACKFILLED, GateName.VERIFIED] if gated else []) == [gate.name for gate in unmet]


async def test_a_many_to_many_table_belongs_to_its_owner(places: Places) -> None:
    """A model is not covered while the table that it owns is not."""
    await cover(places.stores, by="test")
    owner = places.stores[Side.SQLALCHEMY].tables["_BookToTag"].owner
    assert {} == await why(places, owner)
    async with places.stores[Side.SQLALCHEMY].transaction() as connection:
        await connection.execute("DELETE FROM crossfade.verification WHERE model = '_BookToTag'")

    told = await why(places, owner)

    assert {
        GateName.VERIFIED: "it is not verified: _BookToTag has not been verified as a whole;"
        f" run `crossfade verify {owner}`"
    } == told
    for model in set(MODELS) - {owner}:
        assert {} == await why(places, model)


async def test_capture_that_was_installed_anew_makes_old_copies_worthless(places: Places) -> None:
    """What was written between the two installations was seen by nobody."""
    await cover(places.stores, by="test")
    legacy = places.stores[Side.PRISMA]
    await uninstall(legacy)
    await install(legacy, by="test")

    told = await why(places, "Author")

    assert [GateName.BACKFILLED, GateName.VERIFIED] == list(told)
    assert "before capture was installed anew" in told[GateName.BACKFILLED]


async def test_nothing_is_followed_that_capture_does_not_see(places: Places) -> None:
    """A trigger that somebody has disabled, in either store, holds the model and no other."""
    for side in Side:
        async with places.connect(side) as owner:
            await owner.execute("ALTER TABLE books DISABLE TRIGGER crossfade_capture_update")
    unmet = await Coverage(places.stores).unmet(["Author", "Book"], Stage.OFF, Stage.DUALWRITE)

    expected = (
        'it is not captured: "public"."books" of Book: the trigger crossfade_capture_update is disabled;'
        " run `crossfade install` (in the store of prisma), and 1 more; `crossfade install --check` lists everything"
    )
    assert [("Book", expected)] == [(gate.model, gate.why) for gate in unmet]

    for store in places.stores.values():
        await install(store, by="test")
    assert [] == await Coverage(places.stores).unmet(["Author", "Book"], Stage.OFF, Stage.DUALWRITE)


async def test_nothing_is_followed_while_indexes_are_off(places: Places) -> None:
    """A step to `dualwrite` waits, and so does whoever would uninstall what alone knows them."""
    target = places.stores[Side.SQLALCHEMY]
    async with target.transaction() as connection:
        await connection.execute(
            "INSERT INTO crossfade.deferred (model, kind, name, definition) VALUES ('Book', 'index', 'i', '')"
        )

    unmet = await Coverage(places.stores).unmet(["Book"], Stage.OFF, Stage.DUALWRITE)

    expected = (
        "it is not indexed: 1 indexes or foreign keys are off its tables;"
        " run `crossfade backfill Book --restore-indexes`"
    )
    assert [expected] == [gate.why for gate in unmet]
    with pytest.raises(InstallError, match="Book lack what a backfill has taken off"):
        await uninstall(target)


async def test_rows_that_differed_are_to_be_repaired(places: Places) -> None:
    """The last verification counts, not an earlier one that was clean."""
    await cover(places.stores, by="test")
    async with places.stores[Side.SQLALCHEMY].transaction() as connection:
        await connection.execute(
            "INSERT INTO crossfade.verification (model, owner, mode, state, differing, since, finished)"
            " SELECT model, owner, mode, 'differing', 3, since, clock_timestamp() FROM crossfade.verification"
            " WHERE model = 'Author'"
        )

    told = await why(places, "Author")

    expected = "it is not verified: 3 rows of Author differed; run `crossfade verify Author --repair`"
    assert {GateName.VERIFIED: expected} == told


async def test_a_sample_does_not_count(places: Places) -> None:
    """Neither does a verification that has not ended."""
    await cover(places.stores, by="test")
    async with places.stores[Side.SQLALCHEMY].transaction() as connection:
        await connection.execute("UPDATE crossfade.verification SET mode = 'sample' WHERE model = 'Author'")
        await connection.execute("UPDATE crossfade.verification SET finished = NULL WHERE model = 'Book'")

    assert [GateName.VERIFIED] == list(await why(places, "Author"))
    assert [GateName.VERIFIED] == list(await why(places, "Book"))


async def test_a_model_that_was_forced_back_is_verified_anew(places: Places) -> None:
    """The store that was lost may have come back from a backup."""
    await cover(places.stores, by="test")
    async with places.stores[Side.PRISMA].transaction() as connection:
        await connection.execute(
            "INSERT INTO crossfade.history (model, epoch, stage, by, reason)"
            " VALUES ('Author', 5, 'live', '', ''), ('Author', 1005, 'shadow', '', 'forced: lost')"
        )

    told = await why(places, "Author")

    assert [GateName.VERIFIED] == list(told)
    assert "it is not verified: Author was forced back after it was verified" in told[GateName.VERIFIED]
