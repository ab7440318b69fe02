"""The conductor on real stores: one leader among any, its order, its reasons, and who comes after it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from places import COHORT, MODELS, QUICK, SHELF, Places, opened

from crossfade.conductor import Conductor
from crossfade.dsn import Dsn
from crossfade.events import StageRequested
from crossfade.handover import CrashPoint
from crossfade.moving import Mover
from crossfade.planner import Planner
from crossfade.stages import Side, Stage
from crossfade.store.leadership import Leadership
from crossfade.store.record import read_history

VICTIM = Path(__file__).with_name("victim.py")


@asynccontextmanager
async def conducting(places: Places) -> AsyncIterator[Conductor]:
    """A conductor over the places' own view."""
    mover = Mover(places.stores, places.carrier, SHELF, places.heard, QUICK)
    async with Conductor(
        mover, places.view, Planner(SHELF), places.heard, places.stores, interval=0.02
    ) as conductor:
        yield conductor


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that the conductor does."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def at(places: Places, stage: Stage, *models: str) -> Callable[[], bool]:
    """Whether models stand at a stage, as the view has it."""
    return lambda: all(
        places.view.record(model).stage is stage and places.view.record(model).moving_to is None
        for model in models or MODELS
    )


async def test_it_walks_one_step_at_a_time_in_the_order_that_is_permitted(places: Places) -> None:
    """Asked for the far end, and back again, all models arrive; parents go first, and come back last."""
    async with conducting(places) as conductor:
        for model in ("Book", "Author", "Tag"):
            conductor.request(model, Stage.COMPLETE, by="team")
        await until(at(places, Stage.COMPLETE))
        await until(lambda: len(places.heard.moved()) == 3 * 5)
        started = [event.model for event in places.heard.moved() if event.after is Stage.DUALWRITE]
        assert started.index("Author") < started.index("Book")
        for model in MODELS:
            conductor.request(model, Stage.OFF, by="team")
        await until(at(places, Stage.OFF))
        await until(lambda: len(places.heard.moved()) == 3 * 10)

    stopped = [event.model for event in places.heard.moved() if event.after is Stage.OFF]
    assert stopped.index("Book") < stopped.index("Author")
    assert 6 == sum(isinstance(event, StageRequested) for event in places.heard.events)
    assert [Side.PRISMA] == await places.authors("Book")


async def test_a_cohort_changes_authority_together(places: Places) -> None:
    """Whoever comes early waits, and says for whom."""
    async with conducting(places) as conductor:
        conductor.request("Author", Stage.LIVE, by="team", cohort="shop")
        conductor.request("Book", Stage.SHADOW, by="team", cohort="shop")
        await until(lambda: "Author" in conductor.held())
        why = "its cohort shop moves together; it waits for Book (at shadow, asked for shadow)"
        await until(lambda: conductor.held().get("Author") == why)
        conductor.request("Book", Stage.LIVE, by="team", cohort="shop")
        await until(lambda: any(event.after is Stage.LIVE for event in places.heard.moved()))

    decided = [event for event in places.heard.moved() if event.after is Stage.LIVE]
    assert COHORT == [event.model for event in decided]
    assert 1 == len({event.pause for event in decided})


async def test_a_held_step_says_once_why_and_goes_on_when_it_can(places: Places) -> None:
    """To the observer, to whoever asks, and in the history."""
    async with conducting(places) as conductor:
        conductor.request("Book", Stage.DUALWRITE, by="team")
        await until(lambda: "Book" in conductor.held())
        why = conductor.held()["Book"]
        assert "of Author (off); move the models it refers to first" == why
        store = places.stores[Side.PRISMA]
        async with asyncio.timeout(5):
            while True:
                async with store.transaction() as connection:
                    entries = await read_history(connection, store, "Book", after=0)
                if any(entry.reason == f"held before dualwrite: {why}" for entry in entries):
                    break
        assert 1 == len(places.heard.held())
        conductor.request("Author", Stage.DUALWRITE, by="team")
        await until(at(places, Stage.DUALWRITE, *COHORT))
        await until(lambda: not conductor.held())


async def test_a_hand_over_that_fails_is_tried_again(places: Places) -> None:
    """Writers go on meanwhile; when the reason is gone the model moves."""
    await places.stand_at(Stage.SHADOW)

    async def fail() -> None:
        raise OSError

    places.carrier.before_drain = fail
    async with conducting(places) as conductor:
        conductor.request("Tag", Stage.LIVE, by="team")
        await until(lambda: "Tag" in conductor.held())
        await places.write(Side.PRISMA, "INSERT INTO \"Tag\" VALUES ('t')")
        places.carrier.before_drain = None
        await until(at(places, Stage.LIVE, "Tag"))

    assert await places.level()


async def test_of_several_conductors_one_leads_and_another_follows_it(
    places: Places, dsns: dict[Side, Dsn]
) -> None:
    """When the leader ends, the next one leads within a second."""
    async with opened(dsns) as others, conducting(others) as second:
        async with conducting(places) as first:
            await until(lambda: first.leads or second.leads)
            leader, waiting = (first, second) if first.leads else (second, first)
            assert not waiting.leads
            assert await Leadership(places.stores[Side.PRISMA]).is_taken()
            second.request("Author", Stage.SHADOW, by="second")
            if leader is first:
                assert Stage.OFF is others.view.record("Author").stage
        await until(lambda: second.leads, 2.0)
        await until(at(others, Stage.SHADOW, "Author"))
        await until(at(places, Stage.SHADOW, "Author"))  # whoever does not lead hears of it

    assert not await Leadership(places.stores[Side.PRISMA]).is_taken()


@pytest.mark.parametrize("point", [CrashPoint.FREEZE, CrashPoint.OPEN])
async def test_a_leader_that_is_killed_in_a_move_is_succeeded(
    places: Places, dsns: dict[Side, Dsn], point: CrashPoint
) -> None:
    """The next leader settles its move first, then goes on where it was; nothing that was written is lost."""
    await places.stand_at(Stage.SHADOW)
    await places.write(Side.PRISMA, "INSERT INTO \"Author\" VALUES ('a', 'Ann')")
    urls = [dsns[side].libpq_url() for side in Side]
    victim = await asyncio.create_subprocess_exec(
        sys.executable, VICTIM, *urls, point, "lead", stdout=asyncio.subprocess.PIPE
    )
    assert victim.stdout is not None
    assert b"leads\n" == await victim.stdout.readline()
    async with conducting(places) as conductor:
        for model in MODELS:
            conductor.request(model, Stage.LIVE, by="next")
        assert -9 == await victim.wait()
        await until(lambda: conductor.leads, 3.0)
        await until(at(places, Stage.LIVE))

    for model in MODELS:
        assert Stage.LIVE is (await places.agree(model)).stage
        assert [Side.SQLALCHEMY] == await places.authors(model)
    assert await places.level()


async def test_a_record_left_half_way_is_settled_by_the_leader_as_soon_as_it_is_seen(places: Places) -> None:
    """Also when it was another process that left it, while this one led."""
    await places.stand_at(Stage.SHADOW)
    async with conducting(places) as conductor:
        await until(lambda: conductor.leads)
        before = await places.record(Side.PRISMA, "Tag")
        store = places.stores[Side.PRISMA]
        async with store.transaction() as connection:
            await connection.execute(
                "UPDATE crossfade.record SET moving_to = 'live', epoch = epoch + 1 WHERE model = 'Tag'"
            )
        await until(lambda: places.view.record("Tag").epoch == before.epoch + 2)
        await until(lambda: not places.view.unsettled())

    assert Stage.SHADOW is (await places.agree("Tag")).stage
