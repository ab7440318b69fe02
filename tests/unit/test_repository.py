"""The repository: who answers, who follows, and what the caller sees."""

import asyncio
from time import monotonic
from typing import Any

import pytest
from two_sides import AUTHOR, TwoSides

from crossfade.errors import (
    ConnectionLostError,
    ForeignKeyViolationError,
    LateWriteError,
    MixedAuthorityError,
    StoreUnavailableError,
    UniqueViolationError,
    WrongAuthorityError,
)
from crossfade.events import (
    AuthorityMissed,
    FollowDropped,
    ModelsSpanned,
    OperationFinished,
    SideUnavailable,
    StaleRead,
    Verdict,
    WriteCompared,
)
from crossfade.operation import Action, Operation
from crossfade.stages import PLANS, FollowerPart, Side, Stage, Topology, has_begun

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


@pytest.mark.parametrize("stage", [stage for stage in Stage if has_begun(stage)])
async def test_a_write_goes_to_the_authority_first_and_ends_on_both_sides(stage: Stage) -> None:
    """At every stage but the first, once the follower has done its part and captured keys are level."""
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


async def test_what_a_client_mints_is_filled_in_when_nobody_follows_any_more() -> None:
    """Prisma's engine does it by itself; the tables of the other side expect it of the client."""
    async with TwoSides(Stage.COMPLETE) as sides:
        await sides.author.create(data={"email": "a@b.c"})
        await sides.author.update(where={"email": "a@b.c"}, data={"name": "N"})

    created, changed = [operation.arguments["data"] for operation in sides.sqlalchemy.executed]
    assert {"id", "created_at", "updated_at"} < created.keys()
    assert "updated_at" in changed


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


async def test_a_cancelled_write_is_cancelled() -> None:
    """Whatever it interrupted, the stores' capture has it."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        reached = asyncio.Event()

        async def stuck(_: Operation) -> None:
            reached.set()
            await asyncio.Event().wait()

        sides.prisma.before = stuck
        task = asyncio.create_task(sides.author.create(data=AUTHOR))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


NESTED = {**AUTHOR, "books": {"create": [{"title": "T"}]}}


async def test_nested_writes_go_to_the_authority_and_are_left_to_capture() -> None:
    """The follower cannot tell which rows they made; the stores know."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        with pytest.raises(AttributeError):  # the path in memory does not understand it, but it is asked
            await asyncio.gather(sides.author.update(where={"id": "a1"}, data=NESTED), _missing())
        await sides.rest()

        assert [] == sides.sqlalchemy.executed


async def _missing() -> None:
    raise AttributeError


@pytest.mark.parametrize(("author", "book"), [(Stage.LIVE, Stage.SHADOW), (Stage.OFF, Stage.LIVE)])
async def test_a_write_that_spans_two_authorities_is_refused(author: Stage, book: Stage) -> None:
    """Before anything is written, naming the models."""
    async with TwoSides(author, book) as sides:
        with pytest.raises(MixedAuthorityError, match="Author, Book"):
            await sides.author.create(data=NESTED)

        assert [] == sides.prisma.executed + sides.sqlalchemy.executed


# --- a store that refuses ----------------------------------------------------------------------------------------


def refusing(*actions: Action) -> Any:
    """A path's `before` that refuses authors, as a store does that has lost the authority."""

    async def refuse(operation: Operation) -> None:
        if operation.action in actions:
            raise WrongAuthorityError("crossfade XF001")

    return refuse


@pytest.mark.parametrize("before", [Stage.OFF, Stage.SHADOW])
async def test_a_refused_write_is_made_on_the_right_side_when_the_record_is_known(before: Stage) -> None:
    """The caller waits, and sees no error; the values are those that were pinned at first."""
    async with TwoSides(before) as sides:
        sides.prisma.before = refusing(Action.CREATE)
        write = asyncio.create_task(sides.author.create(data=AUTHOR))
        async with asyncio.timeout(1):
            while not sides.records.asked:
                await asyncio.sleep(0)
        sides.repository.place("Author", Stage.LIVE, 2)
        sides.records.arrived.set()
        created = await write

    assert [("Author", 0)] == sides.records.asked
    assert "a1" == created.id
    assert [AuthorityMissed("Author")] == sides.observer.of(AuthorityMissed)
    assert Action.CREATE in actions(sides, Side.SQLALCHEMY)


async def test_a_record_that_came_in_the_meantime_is_not_waited_for() -> None:
    """The write was on its way when the record changed."""
    async with TwoSides(Stage.SHADOW) as sides:

        async def move_and_refuse(_: Operation) -> None:
            sides.repository.place("Author", Stage.LIVE, 2)
            raise WrongAuthorityError("crossfade XF001")

        sides.prisma.before = move_and_refuse
        await sides.author.create(data=AUTHOR)

    assert [] == sides.records.asked


async def test_a_refusal_that_lasts_reaches_the_caller() -> None:
    """After the deadline, and not before."""
    async with TwoSides(Stage.SHADOW, move_deadline=0.05) as sides:
        sides.prisma.before = refusing(Action.CREATE)
        with pytest.raises(WrongAuthorityError):
            await sides.author.create(data=AUTHOR)


async def test_an_older_record_is_passed_over() -> None:
    """Two stores may tell of a move one after the other."""
    async with TwoSides(Stage.SHADOW) as sides:
        sides.repository.place("Author", Stage.LIVE, 5)
        sides.repository.place("Author", Stage.SHADOW, 4)

        assert Stage.LIVE is sides.repository.stages()["Author"]


async def test_a_followers_write_that_comes_too_late_is_dropped_and_counted() -> None:
    """The store it was meant for has the authority by now."""
    async with TwoSides(Stage.DUALWRITE) as sides:

        async def late(_: Operation) -> None:
            raise LateWriteError("crossfade XF002")

        sides.sqlalchemy.before = late
        await sides.author.create(data=AUTHOR)
        await sides.repository.queue.settle(["Author"])

    assert [FollowDropped("Author", Action.CREATE, "late")] == sides.observer.of(FollowDropped)


async def test_a_missing_parent_is_fetched_and_the_write_made_again() -> None:
    """The parent belongs to the other side and has not arrived on this one yet."""
    async with TwoSides(author=Stage.LIVE, book=Stage.DUALWRITE) as sides:
        sides.sqlalchemy._insert(sides.repository.schema.models["Author"], AUTHOR)
        created = await sides.book.create(data={"title": "T", "author_id": "a1"})

    assert "T" == created.title
    assert [("Author", ("a1",))] == sides.settler.settled[:1]


async def test_a_parent_that_is_nowhere_is_the_callers_error() -> None:
    """Unchanged, after one look."""
    async with TwoSides(author=Stage.LIVE, book=Stage.DUALWRITE) as sides:
        with pytest.raises(ForeignKeyViolationError):
            await sides.book.create(data={"title": "T", "author_id": "nobody"})


async def test_a_read_beside_keys_that_wait_is_counted() -> None:
    """It may lack what the other side has acknowledged."""
    async with TwoSides(author=Stage.LIVE, book=Stage.SHADOW) as sides:
        await sides.author.find_many(include={"books": True})
        assert [] == sides.observer.of(StaleRead)

        sides.repository.note_lagging({"Author": 0.1}, monotonic())
        await sides.author.find_many(include={"books": True})
        await sides.rest()

    assert [StaleRead("Author", Action.FIND_MANY)] == sides.observer.of(StaleRead)


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
    sides = TwoSides(Stage.DUALWRITE, connect_interval=0.001)
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


# --- several models ----------------------------------------------------------------------------------------------


async def test_what_touches_several_models_is_told() -> None:
    """By reads, by nested writes, by transactions and by batches; one model is nothing to tell."""
    async with TwoSides(Stage.OFF) as sides:
        await sides.author.create(data=AUTHOR)
        await sides.author.find_many(where={"name": "x"})
        assert [] == sides.observer.of(ModelsSpanned)

        await sides.author.find_many(include={"books": True})
        both = ("Author", "Book")
        assert [(both, False)] == sides.observer.of(ModelsSpanned)

        async with sides.client.tx() as tx:
            await tx.author.create(data=AUTHOR | {"id": "a2", "email": "2"})
            await tx.book.create(data={"title": "T", "author_id": "a2"})
        assert [(both, False), (both, True)] == sides.observer.of(ModelsSpanned)

        async with sides.client.batch_() as batch:
            batch.author.create(data=AUTHOR | {"id": "a3", "email": "3"})
            batch.book.create(data={"title": "T", "author_id": "a3"})
        assert 2 == sides.observer.of(ModelsSpanned).count((both, True))


async def test_a_span_that_is_refused_is_told_too() -> None:
    """It is what calls for a cohort."""
    async with TwoSides(Stage.LIVE, Stage.SHADOW) as sides:
        with pytest.raises(MixedAuthorityError):
            await sides.author.create(data=NESTED)
        async with sides.client.tx() as tx:
            await tx.author.create(data=AUTHOR)
            with pytest.raises(MixedAuthorityError):
                await tx.book.create(data={"title": "T", "author_id": "a1"})

    assert [(("Author", "Book"), True)] * 2 == sides.observer.of(ModelsSpanned)
