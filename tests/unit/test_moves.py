"""Moving a model: nothing is lost, writers wait and never fail, and every step can be undone."""

import asyncio

import pytest
from two_sides import AUTHOR, TwoSides

from crossfade.conductor import Conductor
from crossfade.errors import ConnectionLostError, StageMoveError
from crossfade.events import StageHeld, StageMoved, StageRequested
from crossfade.operation import Action, Operation
from crossfade.stages import Side, Stage

WAY = list(Stage)


async def walk(sides: TwoSides, *stages: Stage) -> None:
    """Move the author step by step; the book goes ahead where it must."""
    for stage in stages:
        await sides.repository.move("Author", stage, by="test")


@pytest.mark.parametrize("turn", range(1, 5))
async def test_forward_back_and_forward_again_loses_nothing(turn: int) -> None:
    """Turning round at each step: what was written anywhere on the way is on both sides in the end."""
    forward = WAY[1 : turn + 1]
    async with TwoSides(author=Stage.OFF, book=Stage.OFF) as sides:
        number = 0
        for stage in [*forward, *reversed(WAY[:turn]), *forward]:
            await walk(sides, stage)
            number += 1
            await sides.author.create(data={"id": f"a{number}", "email": f"{number}"})
            await sides.author.update(where={"id": "a1"}, data={"score": {"increment": 1}})
        await sides.rest()

    assert number == len(sides.rows(Side.PRISMA))
    assert sides.both_equal()
    assert {number} == {row["score"] for row in sides.rows(Side.SQLALCHEMY).values() if row["id"] == "a1"}


async def test_complete_is_reversible() -> None:
    """Keys written at `complete` are kept and brought level before the way back."""
    async with TwoSides(Stage.LIVE) as sides:
        await walk(sides, Stage.RAMPDOWN, Stage.COMPLETE)
        await sides.author.create(data=AUTHOR)
        await walk(sides, Stage.RAMPDOWN, Stage.LIVE, Stage.SHADOW)

        assert "a1" == (await sides.author.find_unique(where={"id": "a1"})).id
        assert sides.repository.plan("Author").reads is Side.PRISMA


async def test_the_new_authority_has_everything_before_it_takes_over() -> None:
    """A follower that is behind is drained, with the writers waiting, not failing."""
    async with TwoSides(author=Stage.SHADOW) as sides:
        slow = asyncio.Event()

        async def hold(operation: Operation) -> None:
            if operation.action is Action.CREATE:
                await slow.wait()

        sides.sqlalchemy.before = hold
        await sides.author.create(data=AUTHOR)
        move = asyncio.create_task(sides.repository.move("Author", Stage.LIVE, by="test"))
        await asyncio.sleep(0)
        assert Stage.SHADOW is sides.repository.plan("Author").stage
        slow.set()
        await move

        assert "a1" == (await sides.author.find_unique(where={"id": "a1"})).id


async def test_a_writer_that_meets_a_move_waits_and_writes_to_the_new_authority() -> None:
    """Latency, not an error."""
    async with TwoSides(author=Stage.SHADOW) as sides:
        started, release = asyncio.Event(), asyncio.Event()

        async def hold_first(operation: Operation) -> None:
            if operation.action is Action.CREATE and not started.is_set():
                started.set()
                await release.wait()

        sides.prisma.before = hold_first
        first = asyncio.create_task(sides.author.create(data=AUTHOR))
        await started.wait()
        move = asyncio.create_task(sides.repository.move("Author", Stage.LIVE, by="test"))
        while sides.repository._models["Author"].gate is None:
            await asyncio.sleep(0)
        second = asyncio.create_task(sides.author.create(data={"id": "a2", "email": "2"}))
        await asyncio.sleep(0)
        assert not second.done()
        release.set()
        await asyncio.gather(first, move, second)
        creates = [op for op in sides.sqlalchemy.executed if op.action is Action.CREATE]
        await sides.rest()

    assert ["a1", "a2"] == [op.arguments["data"]["id"] for op in creates]
    assert sides.both_equal()


async def test_a_move_that_cannot_be_drained_is_refused_and_writers_go_on() -> None:
    """The model stays where it was, at once usable."""
    async with TwoSides(author=Stage.SHADOW, drain_deadline=0.05) as sides:

        async def fail(_: Operation) -> None:
            raise ConnectionLostError("gone")

        sides.sqlalchemy.before = fail
        await sides.author.create(data=AUTHOR)
        with pytest.raises(StageMoveError, match="its follower has not caught up"):
            await sides.repository.move("Author", Stage.LIVE, by="test")
        await sides.author.create(data={"id": "a2", "email": "2"})

        assert Stage.SHADOW is sides.repository.plan("Author").stage
        assert 2 == len(sides.rows(Side.PRISMA))


async def test_sequences_are_raised_before_the_new_authority_mints() -> None:
    """In both directions, and never lowered."""
    async with TwoSides(author=Stage.SHADOW) as sides:
        await sides.author.create(data=AUTHOR)
        for title in "abc":
            await sides.book.create(data={"title": title, "author_id": "a1"})
        await sides.repository.move("Book", Stage.LIVE, by="test")
        created = await sides.book.create(data={"title": "d", "author_id": "a1"})
        assert 4 == created.id
        await sides.repository.move("Book", Stage.SHADOW, by="test")
        created = await sides.book.create(data={"title": "e", "author_id": "a1"})

        assert 5 == created.id
        await sides.rest()
    assert sides.both_equal()


async def test_a_move_is_reported_with_its_pause_and_its_author() -> None:
    """Who, from where to where, and how long writers waited."""
    async with TwoSides(author=Stage.SHADOW) as sides:
        pause = await sides.repository.move("Author", Stage.LIVE, by="ada", reason="cutover")

    assert [StageMoved("Author", Stage.SHADOW, Stage.LIVE, pause, "ada", "cutover")] == sides.observer.of(
        StageMoved
    )
    assert pause > 0


async def until_stage(sides: TwoSides, model: str, stage: Stage) -> None:
    """Wait until a model stands at a stage."""
    async with asyncio.timeout(5):
        while sides.repository.plan(model).stage is not stage:
            await asyncio.sleep(0.001)


async def test_the_conductor_walks_one_step_at_a_time_in_the_order_that_is_permitted() -> None:
    """Asked for the far end, both models arrive, parents first."""
    async with TwoSides() as sides, Conductor(sides.repository, sides.observer, interval=0.001) as conductor:
        conductor.request("Book", Stage.COMPLETE, by="team")
        conductor.request("Author", Stage.COMPLETE, by="team")
        await until_stage(sides, "Book", Stage.COMPLETE)
        await until_stage(sides, "Author", Stage.COMPLETE)

    moves = sides.observer.of(StageMoved)
    assert 10 == len(moves)
    assert "Author" == moves[0].model
    assert 2 == len(sides.observer.of(StageRequested))


async def test_the_conductor_says_once_why_a_model_is_held() -> None:
    """And goes on trying; the reason is there to be read."""
    async with TwoSides() as sides, Conductor(sides.repository, sides.observer, interval=0.001) as conductor:
        conductor.request("Book", Stage.DUALWRITE, by="team")
        async with asyncio.timeout(5):
            while not conductor.held():
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert 1 == len(sides.observer.of(StageHeld))
        assert "move the models it refers to first" in conductor.held()["Book"]

        conductor.request("Author", Stage.DUALWRITE, by="team")
        await until_stage(sides, "Book", Stage.DUALWRITE)
        assert {} == conductor.held()


async def test_a_flag_toggled_off_walks_all_the_way_back() -> None:
    """From the far end, through every step."""
    async with (
        TwoSides(Stage.COMPLETE) as sides,
        Conductor(sides.repository, sides.observer, interval=0.001) as c,
    ):
        c.request("Author", Stage.OFF, by="team")
        c.request("Book", Stage.OFF, by="team")
        await until_stage(sides, "Author", Stage.OFF)

        assert Stage.OFF is sides.repository.plan("Book").stage
