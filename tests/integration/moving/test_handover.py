"""Moving models between two real stores: who may write where, for how long nobody may, and what if it fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import perf_counter

import asyncpg
import pytest
from places import COHORT, MODELS, QUICK, Places
from proxy import Loss, Proxy

from crossfade.errors import InstallError, StageMoveError
from crossfade.events import StageMoved
from crossfade.handover import CrashPoint
from crossfade.moving import Mover
from crossfade.stages import Side, Stage
from crossfade.store import Store
from crossfade.store.record import SupersededError, advance, read_history

INSERT_AUTHOR = 'INSERT INTO "Author" VALUES ($1, $2)'
INSERT_BOOK = "INSERT INTO books (title, author_id) VALUES ($1, 'a') RETURNING id"


async def test_forward_back_and_forward_again(places: Places) -> None:
    """At every stage one side takes authors, and what they wrote anywhere on the way is on both sides in the end."""
    await places.write(Side.PRISMA, INSERT_AUTHOR, "a", "Ann")
    stages = list(Stage)
    number = 0
    for stage in [*stages[1:], *reversed(stages[:-1]), *stages[1:4]]:
        await places.mover().move(MODELS, stage, by="test")
        authority = Side.SQLALCHEMY if stages.index(stage) >= 3 else Side.PRISMA
        assert [[authority]] * 4 == [await places.authors(model) for model in (*MODELS, "_BookToTag")]
        assert [[authority.other]] * 4 == [await places.followers(model) for model in (*MODELS, "_BookToTag")]
        number += 1
        assert number == await places.write(authority, INSERT_BOOK, f"{stage}")
        await places.write(authority, "UPDATE \"Author\" SET name = $1 WHERE id = 'a'", str(number))

    assert await places.level()
    assert number == len(await places.rows(Side.PRISMA, "Book"))
    assert [("a", str(number))] == await places.rows(Side.PRISMA, "Author")


async def test_a_move_is_reported_and_kept_with_its_pause(places: Places) -> None:
    """Who, why, from where to where, and how long writers waited; in the history of both stores as well."""
    await places.stand_at(Stage.SHADOW)
    pause = await places.mover().move(COHORT, Stage.LIVE, by="ada", reason="cutover")

    assert [
        StageMoved(model, Stage.SHADOW, Stage.LIVE, pause, "ada", "cutover") for model in COHORT
    ] == places.heard.moved()
    assert 0 < pause < QUICK.pause_deadline
    for side in Side:
        async with places.stores[side].transaction() as connection:
            entries = await read_history(connection, places.stores[side], "Book", after=0)
        announced, moved = entries[-2:]
        assert (Stage.SHADOW, Stage.LIVE, None) == (announced.stage, announced.moving_to, announced.pause)
        assert (Stage.LIVE, None, "ada", "cutover") == (moved.stage, moved.moving_to, moved.by, moved.reason)
        assert moved.pause is not None
        assert 0 < moved.pause <= pause


async def test_a_write_in_the_pause_is_refused_by_both_sides_and_taken_by_the_new_one_after_it(
    places: Places,
) -> None:
    """Neither lost nor doubled."""
    await places.stand_at(Stage.SHADOW)
    refused = []

    async def at(point: CrashPoint) -> None:
        if point is CrashPoint.DRAIN:
            for side in Side:
                with pytest.raises(asyncpg.PostgresError) as refusal:
                    await places.write(side, INSERT_AUTHOR, "a", "Ann")
                refused.append(refusal.value.sqlstate)

    await places.mover(at=at).move(COHORT, Stage.LIVE, by="test")
    await places.write(Side.SQLALCHEMY, INSERT_AUTHOR, "a", "Ann")

    assert ["XF001", "XF001"] == refused
    assert await places.level()
    assert [("a", "Ann")] == await places.rows(Side.PRISMA, "Author")


async def test_a_write_in_flight_is_waited_for_and_carried_over(places: Places) -> None:
    """The fence is its own barrier: what had begun before it is on the new side before that opens."""
    await places.stand_at(Stage.SHADOW)
    async with places.connect(Side.PRISMA) as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(INSERT_AUTHOR, "a", "Ann")
        move = asyncio.create_task(places.mover().move(COHORT, Stage.LIVE, by="test"))
        await places.until_somebody_waits("relation")
        await transaction.commit()
        await move

    assert [("a", "Ann")] == await places.rows(Side.SQLALCHEMY, "Author")


async def test_a_table_that_stays_locked_holds_other_writers_up_only_briefly(places: Places) -> None:
    """The move is given up and undone; the reason names who was in the way, and a third writer hardly noticed."""
    await places.stand_at(Stage.SHADOW)
    await places.write(Side.PRISMA, INSERT_AUTHOR, "a", "Ann")
    longest = 0.0
    async with places.connect(Side.PRISMA) as blocker, places.connect(Side.PRISMA) as third:
        await blocker.execute("SET application_name = 'a long report'")
        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute("UPDATE books SET title = title")
        move = asyncio.create_task(places.mover().move(COHORT, Stage.LIVE, by="test"))
        while not move.done():
            began = perf_counter()
            await third.execute("UPDATE \"Author\" SET name = 'Bea'")
            longest = max(longest, perf_counter() - began)
        with pytest.raises(StageMoveError, match=r"books.* stayed locked for 1 s by .*a long report"):
            await move
        await transaction.rollback()

    assert longest < QUICK.lock_timeout + 0.25
    assert Stage.SHADOW is (await places.agree("Book")).stage
    assert [Side.PRISMA] == await places.authors("Author")


async def test_a_move_that_cannot_be_drained_in_time_is_undone_and_writers_go_on(places: Places) -> None:
    """They waited for the pause's deadline at most; later the same move works."""
    await places.stand_at(Stage.SHADOW)

    async def never() -> None:
        await asyncio.Event().wait()

    places.carrier.before_drain = never
    mover = places.mover(settings=replace(QUICK, pause_deadline=0.2))
    with pytest.raises(
        StageMoveError, match=r"it could not be drained within 0\.2 s, while its writers waited"
    ):
        await mover.move(COHORT, Stage.LIVE, by="test")
    await places.write(Side.PRISMA, INSERT_AUTHOR, "a", "Ann")

    assert Stage.SHADOW is (await places.agree("Author")).stage
    assert [Side.SQLALCHEMY] == await places.followers("Author")
    places.carrier.before_drain = None
    await places.mover().move(COHORT, Stage.LIVE, by="test")
    assert await places.level()


async def test_a_cancelled_move_is_undone_before_it_ends(places: Places) -> None:
    """A process that is shut down in the middle leaves nothing behind."""
    await places.stand_at(Stage.SHADOW)
    reached = asyncio.Event()

    async def wait() -> None:
        reached.set()
        await asyncio.Event().wait()

    places.carrier.before_drain = wait
    move = asyncio.create_task(places.mover().move(COHORT, Stage.LIVE, by="test"))
    await reached.wait()
    move.cancel()
    with pytest.raises(asyncio.CancelledError):
        await move

    assert Stage.SHADOW is (await places.agree("Author")).stage
    assert [Side.PRISMA] == await places.authors("Author")


class Sleeper:
    """Falls asleep at a crash point, until it is woken."""

    def __init__(self, point: CrashPoint) -> None:
        self._point = point
        self.asleep, self.awake = asyncio.Event(), asyncio.Event()

    async def at(self, reached: CrashPoint) -> None:
        if reached is self._point:
            self.asleep.set()
            await self.awake.wait()


BETWEEN = [p for p in CrashPoint if not p.endswith(".begun") or p is CrashPoint.ANNOUNCE_BEGUN]
WITHIN = [p for p in CrashPoint if p not in BETWEEN]


@pytest.mark.parametrize("point", [p for p in BETWEEN if p.step not in ("open", "close")])
async def test_a_mover_that_slept_through_its_recovery_does_no_harm(
    places: Places, point: CrashPoint
) -> None:
    """It wakes to epochs that are gone, and is refused."""
    await places.stand_at(Stage.SHADOW)
    sleeper = Sleeper(point)
    move = asyncio.create_task(places.mover(at=sleeper.at).move(COHORT, Stage.LIVE, by="sleeper"))
    await sleeper.asleep.wait()
    assert COHORT == await places.mover().recover()
    records = [await places.agree(model) for model in COHORT]
    sleeper.awake.set()
    with pytest.raises(StageMoveError, match="another process has taken over its move"):
        await move

    assert records == [await places.agree(model) for model in COHORT]
    assert [[Side.PRISMA]] * 2 == [await places.authors(model) for model in COHORT]


@pytest.mark.parametrize("point", WITHIN)
async def test_a_mover_that_sleeps_in_a_transaction_is_waited_for_or_refused(
    places: Places, point: CrashPoint
) -> None:
    """Whoever recovers meanwhile waits for its locks; whoever of the two comes second changes nothing."""
    await places.stand_at(Stage.SHADOW)
    sleeper = Sleeper(point)
    settings = replace(QUICK, freeze_deadline=5.0, pause_deadline=5.0, answer_deadline=5.0)
    move = asyncio.create_task(
        places.mover(at=sleeper.at, settings=settings).move(COHORT, Stage.LIVE, by="sleeper")
    )
    await sleeper.asleep.wait()
    recovery = asyncio.create_task(places.mover(settings=settings).recover())
    await places.until_somebody_waits("transactionid")
    sleeper.awake.set()
    await asyncio.gather(move, recovery, return_exceptions=True)
    await places.mover().recover()

    expected = Stage.SHADOW if point is CrashPoint.FREEZE_BEGUN else Stage.LIVE
    assert [expected] * 2 == [(await places.agree(model)).stage for model in COHORT]
    authority = Side.PRISMA if expected is Stage.SHADOW else Side.SQLALCHEMY
    assert [[authority]] * 2 == [await places.authors(model) for model in COHORT]


async def test_of_two_movers_one_wins(places: Places) -> None:
    """The other is refused; the model moved once."""
    await places.stand_at(Stage.SHADOW)
    outcomes = await asyncio.gather(
        *(places.mover().move(COHORT, Stage.LIVE, by=name) for name in ("one", "two")), return_exceptions=True
    )

    assert [StageMoveError] == [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
    assert Stage.LIVE is (await places.agree("Book")).stage
    assert [Side.SQLALCHEMY] == await places.authors("Book")


async def through(places: Places, proxy: Proxy) -> dict[Side, Store]:
    """The same stores, the target behind a proxy."""
    target = places.stores[Side.SQLALCHEMY]
    dsn = replace(target.dsn, host="127.0.0.1", port=proxy.port)
    return {**places.stores, Side.SQLALCHEMY: Store(Side.SQLALCHEMY, dsn, target.schema)}


@pytest.mark.parametrize("loss", Loss)
@pytest.mark.parametrize("answers", [True, False], ids=["answers", "away"])
async def test_the_outcome_of_a_lost_commit_is_asked_for_and_never_guessed(
    places: Places, loss: Loss, answers: bool
) -> None:
    """Decided or not, the new side says so; until it answers nothing is undone."""
    await places.stand_at(Stage.SHADOW)
    target = places.stores[Side.SQLALCHEMY].dsn
    async with Proxy(target.host, target.port) as proxy:

        async def at(point: CrashPoint) -> None:
            if point is CrashPoint.OPEN_BEGUN:
                proxy.lose, proxy.refuses_after_loss = loss, not answers

        stores = await through(places, proxy)
        mover = places.mover(at=at, stores=stores, settings=replace(QUICK, answer_deadline=0.5))
        outcome = (await asyncio.gather(mover.move(COHORT, Stage.LIVE, by="test"), return_exceptions=True))[0]
        if not answers:
            assert isinstance(outcome, StageMoveError)
            assert "nobody knows whether it has moved" in outcome.reason
            assert not await places.takes(Side.PRISMA, "Book")
            assert COHORT == await places.mover().recover()
        elif loss is Loss.AFTER:
            assert isinstance(outcome, float)
        else:
            assert isinstance(outcome, StageMoveError)
            assert "the connection was lost while it was being decided" == outcome.reason
        for store in stores.values():
            await store.close()
    expected = Stage.LIVE if loss is Loss.AFTER else Stage.SHADOW
    for model in COHORT:
        assert expected is (await places.agree(model)).stage
        assert [Side.SQLALCHEMY if loss is Loss.AFTER else Side.PRISMA] == await places.authors(model)


async def test_a_late_write_of_the_record_is_refused(places: Places) -> None:
    """Whoever expects an epoch that is gone changes nothing."""
    store = places.stores[Side.PRISMA]
    record = await places.record(Side.PRISMA, "Book")
    with pytest.raises(SupersededError, match=r"the record of Book at .* has been written by another"):
        async with store.transaction() as connection:
            await advance(connection, store, [replace(record, epoch=9)], expected={"Book": 7})

    assert record == await places.record(Side.PRISMA, "Book")


async def test_sequences_are_raised_and_never_lowered(places: Places) -> None:
    """In both directions; numbers that were drawn and not used count, too."""
    await places.stand_at(Stage.SHADOW)
    await places.write(Side.PRISMA, INSERT_AUTHOR, "a", "Ann")
    assert 1 == await places.write(Side.PRISMA, INSERT_BOOK, "one")
    for drawn in (2, 3, 4):
        assert drawn == await places.write(Side.PRISMA, "SELECT nextval('books_id_seq')")
    await places.mover().move(COHORT, Stage.LIVE, by="test")
    assert 5 == await places.write(Side.SQLALCHEMY, INSERT_BOOK, "five")
    await places.mover().move(COHORT, Stage.SHADOW, by="test")
    await places.mover().move(COHORT, Stage.LIVE, by="test")

    assert 6 == await places.write(Side.SQLALCHEMY, INSERT_BOOK, "six")
    await places.mover().move(COHORT, Stage.SHADOW, by="test")
    assert 7 == await places.write(Side.PRISMA, INSERT_BOOK, "seven")


async def test_a_move_of_two_steps_or_of_models_apart_is_refused(places: Places) -> None:
    """With the reason, and nothing is written."""
    before = await places.record(Side.PRISMA, "Book")
    with pytest.raises(StageMoveError, match="a model moves one step at a time"):
        await places.mover().move(["Book"], Stage.LIVE, by="test")
    await places.bring(["Author"], Stage.DUALWRITE)
    with pytest.raises(StageMoveError, match=r"not at one stage \(Book is at off\)"):
        await places.mover().move(COHORT, Stage.SHADOW, by="test")

    assert before == await places.record(Side.PRISMA, "Book")


async def test_leaving_off_needs_both_stores_prepared(places: Places) -> None:
    """A store without crossfade's objects is refused before anything is written."""
    await places.write(Side.SQLALCHEMY, "DROP SCHEMA crossfade CASCADE")
    with pytest.raises(InstallError, match="run `crossfade install`"):
        await places.mover().move(["Author"], Stage.DUALWRITE, by="test")

    assert Stage.OFF is (await places.record(Side.PRISMA, "Author")).stage


async def test_a_step_back_is_taken_while_the_target_is_away(places: Places) -> None:
    """Prisma has the authority, so nothing of the target is needed; its record is brought level later."""
    await places.stand_at(Stage.SHADOW)
    target = places.stores[Side.SQLALCHEMY].dsn
    async with Proxy(target.host, target.port) as proxy:
        stores = await through(places, proxy)
        proxy.refuses = True
        mover = Mover(stores, places.carrier, stores[Side.PRISMA].schema, places.heard, QUICK)
        await mover.move(["Book"], Stage.DUALWRITE, by="test")
        with pytest.raises(StageMoveError, match="a store does not answer"):
            await mover.move(["Author"], Stage.LIVE, by="test")
        assert [] == await mover.recover()
        proxy.refuses = False
        assert ["Book"] == await mover.recover()
        await stores[Side.SQLALCHEMY].close()

    assert Stage.DUALWRITE is (await places.agree("Book")).stage
