"""The repository: who answers, who follows, and what the caller sees."""

import asyncio
from typing import Any

import pytest
from two_sides import AUTHOR, TwoSides

from crossfade.errors import (
    ConnectionLostError,
    StageMoveError,
    StoreUnavailableError,
    UniqueViolationError,
    UnsupportedQueryError,
)
from crossfade.events import (
    FollowDropped,
    OperationFinished,
    RowReconciled,
    SideUnavailable,
    Verdict,
    WriteCompared,
)
from crossfade.operation import Action, Operation
from crossfade.stages import PLANS, FollowerPart, Side, Stage, Topology

SEPARATE = PLANS[Topology.SEPARATE]


def actions(sides: TwoSides, side: Side) -> list[Action]:
    """What a side was asked to do, in order."""
    return [operation.action for operation in sides.path(side).executed]


@pytest.mark.parametrize("stage", Stage)
async def test_a_read_is_answered_by_the_stages_side(stage: Stage) -> None:
    """And by no other, whatever the other one holds."""
    async with TwoSides(stage) as sides:
        answering = sides.path(SEPARATE[stage].reads)
        answering._insert(sides.repository.schema.models["Author"], {**AUTHOR, "name": "from here"})
        found = await sides.author.find_unique(where={"id": "a1"})

    assert "from here" == found.name


@pytest.mark.parametrize("stage", Stage)
async def test_a_write_goes_to_the_authority_first_and_ends_on_both_sides(stage: Stage) -> None:
    """At every stage, once the follower has done its part and captured keys are level."""
    async with TwoSides(stage) as sides:
        await sides.author.create(data=AUTHOR)
        assert Action.CREATE in actions(sides, SEPARATE[stage].authority)
        await sides.rest()

    assert sides.both_equal()
    assert 1 == len(sides.rows(Side.PRISMA))


@pytest.mark.parametrize("stage", [s for s in Stage if SEPARATE[s].follower_part is FollowerPart.APPLY])
async def test_a_followed_write_is_the_same_operation_with_the_same_values(stage: Stage) -> None:
    """Both sides execute one pinned operation."""
    async with TwoSides(stage) as sides:
        await sides.author.create(data=AUTHOR)
        await sides.rest()

    assert sides.prisma.executed[0] == sides.sqlalchemy.executed[0]
    verdicts = [event.verdict for event in sides.observer.of(WriteCompared)]
    assert [Verdict.MATCHED] == verdicts


@pytest.mark.parametrize("stage", [Stage.DUALWRITE, Stage.LIVE])
async def test_an_id_minted_by_the_authority_is_the_followers_too(stage: Stage) -> None:
    """Sequences of the two stores need not agree."""
    async with TwoSides(stage) as sides:
        await sides.author.create(data=AUTHOR)
        await sides.path(SEPARATE[stage].authority).advance_sequence("Book", "id", 41)
        created = await sides.book.create(data={"title": "T", "author_id": "a1"})
        await sides.rest()

    assert 42 == created.id
    assert sides.both_equal()


@pytest.mark.parametrize("stage", [Stage.DUALWRITE, Stage.LIVE])
async def test_ids_of_a_create_many_are_reserved_from_the_authority(stage: Stage) -> None:
    """The engine returns a count and no rows, so the ids are taken beforehand."""
    async with TwoSides(stage) as sides:
        await sides.author.create(data=AUTHOR)
        rows = [{"title": title, "author_id": "a1"} for title in ("S", "T")]
        assert 2 == await sides.book.create_many(data=rows)
        await sides.rest()

    assert sides.both_equal()
    assert [1, 2] == sorted(row["id"] for row in sides.rows(Side.PRISMA, "Book").values())


@pytest.mark.parametrize("stage", [Stage.DUALWRITE, Stage.COMPLETE])
async def test_writes_of_many_rows_end_on_both_sides(stage: Stage) -> None:
    """update_many and delete_many, followed or captured."""
    async with TwoSides(stage) as sides:
        for number in range(5):
            await sides.author.create(data={"id": f"a{number}", "email": f"{number}", "name": "old"})
        assert 5 == await sides.author.update_many(where={"name": "old"}, data={"name": "new"})
        assert 1 == await sides.author.delete_many(where={"email": "3"})
        await sides.rest()

    assert sides.both_equal()
    assert ["new"] * 4 == [row["name"] for row in sides.rows(Side.SQLALCHEMY).values()]


async def test_a_changed_key_leaves_no_old_row_behind() -> None:
    """A row whose primary key changes is gone under its old key on both sides."""
    async with TwoSides(Stage.COMPLETE) as sides:
        await sides.author.create(data=AUTHOR)
        await sides.rest()
        await sides.author.update(where={"id": "a1"}, data={"id": "a2"})
        await sides.rest()

    assert sides.both_equal()
    assert ["a2"] == [row["id"] for row in sides.rows(Side.PRISMA).values()]


@pytest.mark.parametrize("stage", Stage)
async def test_the_authoritys_error_reaches_the_caller_and_nothing_is_followed(stage: Stage) -> None:
    """The same class, and the follower is not asked to fail as well."""
    async with TwoSides(stage) as sides:
        await sides.author.create(data=AUTHOR)
        await sides.rest()
        asked = len(sides.path(SEPARATE[stage].follower).executed)
        with pytest.raises(UniqueViolationError):
            await sides.author.create(data=AUTHOR | {"id": "a2"})
        await sides.rest()

        assert asked == len(sides.path(SEPARATE[stage].follower).executed)


async def test_a_failing_follower_never_reaches_the_caller_and_is_repaired() -> None:
    """Its error is counted, its row copied when it is well again."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        failures = iter([ConnectionLostError("gone")] * 3)

        async def fail(_: Operation) -> None:
            if (error := next(failures, None)) is not None:
                raise error

        sides.sqlalchemy.before = fail
        await sides.author.create(data=AUTHOR)
        await sides.rest()

    assert sides.both_equal()
    assert Verdict.ERROR in [event.verdict for event in sides.observer.of(WriteCompared)]
    assert "copied" in [event.outcome for event in sides.observer.of(RowReconciled)]


async def test_a_stalled_follower_does_not_hold_the_caller() -> None:
    """The call returns while the follower still waits."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        stalled = asyncio.Event()

        async def stall(_: Operation) -> None:
            await stalled.wait()

        sides.sqlalchemy.before = stall
        async with asyncio.timeout(0.2):
            await sides.author.create(data=AUTHOR)
        assert {} == sides.rows(Side.SQLALCHEMY)
        stalled.set()
        await sides.rest()

    assert sides.both_equal()


async def test_a_follower_that_is_awaited_is_level_when_the_call_returns() -> None:
    """`follow="await"` is for who reads the follower next."""
    async with TwoSides(Stage.DUALWRITE, follow="await") as sides:
        await sides.author.create(data=AUTHOR)

        assert sides.both_equal()


async def test_neighbours_that_straddle_are_awaited() -> None:
    """A parent whose children are created on the other side is there before its call returns."""
    async with TwoSides(author=Stage.LIVE, book=Stage.DUALWRITE) as sides:
        await sides.author.create(data=AUTHOR)
        created = await sides.book.create(data={"title": "T", "author_id": "a1"})

        assert created.id in {row["id"] for row in sides.rows(Side.PRISMA, "Book").values()}
        await sides.rest()
    assert sides.both_equal()


async def test_a_full_follow_queue_drops_counts_and_still_ends_level() -> None:
    """What was dropped is left to the reconciler."""
    async with TwoSides(Stage.DUALWRITE, follow_limit=1, follow_workers=1) as sides:
        await asyncio.gather(*(sides.author.create(data={"id": f"a{n}", "email": f"{n}"}) for n in range(20)))
        await sides.rest()

    assert {"queue_full"} == {event.reason for event in sides.observer.of(FollowDropped)}
    assert sides.both_equal()


async def test_an_open_breaker_drops_counts_and_ends_level() -> None:
    """A dead follower is not asked again and again."""
    async with TwoSides(Stage.DUALWRITE, follow_workers=1) as sides:
        down = True

        async def fail(_: Operation) -> None:
            if down:
                raise ConnectionLostError("gone")

        sides.sqlalchemy.before = fail
        for number in range(20):
            await sides.author.create(data={"id": f"a{number}", "email": f"{number}"})
        await sides.repository.queue.settle(["Author"])
        assert "breaker_open" in {event.reason for event in sides.observer.of(FollowDropped)}
        down = False
        await sides.rest()

    assert sides.both_equal()


async def test_a_cancelled_write_is_cancelled_and_its_key_verified() -> None:
    """Nobody knows whether it took place, so both rows are looked at."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        reached = asyncio.Event()

        async def written_and_stuck(operation: Operation) -> None:
            if operation.action is Action.CREATE and not reached.is_set():
                sides.prisma._insert(sides.repository.schema.models["Author"], operation.arguments["data"])
                reached.set()
                await asyncio.Event().wait()

        sides.prisma.before = written_and_stuck
        task = asyncio.create_task(sides.author.create(data=AUTHOR))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await sides.rest()

    assert 1 == len(sides.rows(Side.SQLALCHEMY))
    assert sides.both_equal()


async def test_nested_writes_pass_before_a_migration_and_are_refused_during_it() -> None:
    """Refused with the place and the remedy, before anything is written."""
    nested = {**AUTHOR, "books": {"create": [{"title": "T"}]}}
    async with TwoSides(Stage.OFF) as sides:
        with pytest.raises(AttributeError):  # the path in memory does not understand it, but it is asked
            await asyncio.gather(sides.author.update(where={"id": "a1"}, data=nested), _missing())
    async with TwoSides(Stage.DUALWRITE) as sides:
        with pytest.raises(
            UnsupportedQueryError, match=r"Author: data\.books: nested writes cannot be followed"
        ):
            await sides.author.create(data=nested)

        assert [] == sides.prisma.executed


async def _missing() -> None:
    raise AttributeError


async def test_without_capture_nothing_is_kept_at_off() -> None:
    """Who has not begun pays nothing and keeps nothing."""
    async with TwoSides(Stage.OFF, capture_at_off=False) as sides:
        await sides.author.create(data=AUTHOR)

        assert 0 == sides.repository.capture.pending("Author")
    assert [] == sides.sqlalchemy.executed


async def test_in_a_shared_store_the_follower_reads_the_row_back() -> None:
    """No second write; the row is read through the other client and compared."""
    async with TwoSides(Stage.DUALWRITE, topology=Topology.SHARED) as sides:
        sides.sqlalchemy.rows = sides.prisma.rows
        await sides.author.create(data=AUTHOR)
        await sides.rest()
        await sides.author.delete(where={"id": "a1"})
        await sides.rest()

    assert [Action.FIND_UNIQUE, Action.FIND_UNIQUE] == actions(sides, Side.SQLALCHEMY)
    verdicts = [event.verdict for event in sides.observer.of(WriteCompared)]
    assert Verdict.MATCHED in verdicts
    assert Verdict.MISMATCHED not in verdicts


async def test_a_row_that_the_follower_writes_differently_is_a_mismatch_and_is_named() -> None:
    """The field and the kind are in the verdict, and the follower's row is corrected."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        insert = sides.sqlalchemy._insert

        def lossy(spec: Any, data: Any) -> Any:
            return insert(spec, {**data, "name": None})

        sides.sqlalchemy._insert = lossy  # type: ignore[method-assign]
        await sides.author.create(data={**AUTHOR, "name": "N"})
        await sides.rest()

    mismatch = next(e for e in sides.observer.of(WriteCompared) if e.verdict is Verdict.MISMATCHED)
    assert [("name", "null")] == [(d.field, str(d.kind)) for d in mismatch.differences]
    assert sides.both_equal()


async def test_every_execution_is_observed_with_its_side_and_role() -> None:
    """Latency of both sides comes from these."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        await sides.author.create(data=AUTHOR)
        await sides.rest()

    seen = {(str(e.side), str(e.role), e.error) for e in sides.observer.of(OperationFinished)}
    assert {("prisma", "authority", None), ("sqlalchemy", "follower", None)} == seen


async def test_a_side_that_nobody_depends_on_may_be_away_at_the_start() -> None:
    """The application starts, the absence is reported, and the side joins when it answers."""
    sides = TwoSides(Stage.OFF, connect_interval=0.001)
    sides.sqlalchemy.refusals = [StoreUnavailableError("here", "it is down")] * 3
    async with sides:
        await sides.author.create(data=AUTHOR)
        async with asyncio.timeout(5):
            while sides.sqlalchemy.refusals:
                await asyncio.sleep(0.001)
        await sides.rest()

    assert [SideUnavailable(Side.SQLALCHEMY, "StoreUnavailableError")] * 3 == sides.observer.of(
        SideUnavailable
    )
    assert sides.both_equal()


@pytest.mark.parametrize("stage", [Stage.OFF, Stage.LIVE])
async def test_the_authority_must_be_there_at_the_start(stage: Stage) -> None:
    """Without the side that takes the writes there is nothing to start."""
    sides = TwoSides(stage)
    sides.path(SEPARATE[stage].authority).refusals = [StoreUnavailableError("here", "it is down")]
    with pytest.raises(StoreUnavailableError, match="it is down"):
        await sides.__aenter__()


async def test_keys_beyond_what_can_be_remembered_hold_the_model_where_it_is() -> None:
    """Memory is bounded; a model whose keys were forgotten says that it must be copied again."""
    async with TwoSides(Stage.SHADOW) as sides:

        async def fail(_: Operation) -> None:
            raise ConnectionLostError("gone")

        sides.sqlalchemy.before = fail
        sides.repository.capture.limit = 3
        for number in range(5):
            await sides.author.create(data={"id": f"a{number}", "email": f"{number}"})
        await sides.repository.queue.settle(["Author"])
        assert 3 == sides.repository.capture.pending("Author")
        sides.sqlalchemy.before = None
        with pytest.raises(StageMoveError, match="copy it again"):
            await sides.repository.move("Author", Stage.LIVE, by="test")

        assert not await sides.repository.drain(0.1)
