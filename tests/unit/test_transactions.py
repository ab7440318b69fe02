# ruff: noqa: PT012 - what a transaction refuses is refused within its block
"""`tx()` and `batch_()`: one side, all or nothing, followed as one."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from two_sides import AUTHOR, TwoSides

from crossfade.client import DatabaseClient
from crossfade.errors import (
    MixedAuthorityError,
    RecordNotFoundError,
    TransactionError,
    UniqueViolationError,
    WrongAuthorityError,
)
from crossfade.events import FollowDropped, Verdict, WriteCompared
from crossfade.operation import Action, Operation
from crossfade.stages import PLANS, Side, Stage, Topology, has_begun

BEGUN = [stage for stage in Stage if has_begun(stage)]
SEPARATE = PLANS[Topology.SEPARATE]
BOOK = {"title": "T", "author_id": "a1"}


def client(sides: TwoSides) -> Any:
    """A client of both sides; its models are attributes."""
    return DatabaseClient(sides.repository)


@pytest.mark.parametrize("stage", BEGUN)
async def test_a_committed_transaction_ends_on_both_sides(stage: Stage) -> None:
    """At every stage, with the values that the authority gave."""
    async with TwoSides(stage) as sides:
        async with client(sides).tx() as tx:
            await tx.author.create(data=AUTHOR)
            created = await tx.book.create(data=BOOK)
            assert created.id == (await tx.book.find_first(where={"title": "T"})).id
        await sides.rest()

    assert sides.both_equal()
    assert 1 == len(sides.rows(Side.PRISMA, "Book"))


async def test_a_transaction_is_followed_as_one() -> None:
    """Each of its writes is compared, and the follower does them in one transaction, after the commit."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        async with client(sides).tx() as tx:
            await tx.author.create(data=AUTHOR)
            await tx.author.update(where={"id": "a1"}, data={"name": "N"})
            assert {} == sides.rows(Side.SQLALCHEMY)
        await sides.repository.queue.settle(["Author"])

        assert "N" == next(iter(sides.rows(Side.SQLALCHEMY).values()))["name"]
    assert [Verdict.MATCHED] * 2 == [event.verdict for event in sides.observer.of(WriteCompared)]


@pytest.mark.parametrize("stage", Stage)
async def test_an_exception_rolls_back_and_nothing_is_followed(stage: Stage) -> None:
    """The exception is the caller's own."""
    async with TwoSides(stage) as sides:
        with pytest.raises(ZeroDivisionError):
            async with client(sides).tx() as tx:
                await tx.author.create(data=AUTHOR)
                raise ZeroDivisionError
        await sides.rest()

        assert {} == sides.rows(Side.PRISMA) == sides.rows(Side.SQLALCHEMY)


async def test_a_transaction_that_saw_an_error_is_not_followed() -> None:
    """Its commit undoes it, as PostgreSQL's does, even if the caller made nothing of the error."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        async with client(sides).tx() as tx:
            await tx.author.create(data=AUTHOR)
            with pytest.raises(UniqueViolationError):
                await tx.author.create(data=AUTHOR | {"id": "a2"})
        await sides.repository.queue.settle(["Author"])

        assert {} == sides.rows(Side.PRISMA) == sides.rows(Side.SQLALCHEMY)


async def test_models_of_two_authorities_cannot_be_written_together() -> None:
    """Refused by name; nothing of it is left on either side."""
    async with TwoSides(author=Stage.LIVE, book=Stage.SHADOW) as sides:
        with pytest.raises(MixedAuthorityError, match="Author, Book"):
            async with client(sides).tx() as tx:
                await tx.author.create(data=AUTHOR)
                await tx.book.create(data=BOOK)
        await sides.rest()

        assert {} == sides.rows(Side.PRISMA) == sides.rows(Side.SQLALCHEMY)


async def test_a_transaction_that_began_with_a_read_writes_to_the_right_side_or_not_at_all() -> None:
    """A model of the other side may be read in it, if it is read first, but not be written beside."""
    async with TwoSides(author=Stage.LIVE, book=Stage.SHADOW) as sides:
        with pytest.raises(MixedAuthorityError):
            async with client(sides).tx() as tx:
                await tx.book.find_many()
                await tx.author.create(data=AUTHOR)

        assert {} == sides.rows(Side.PRISMA) == sides.rows(Side.SQLALCHEMY)


async def test_a_transaction_is_started_once_and_ended_once() -> None:
    """By hand, as with Prisma Client Python."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        manager = client(sides).tx(max_wait=timedelta(seconds=1), timeout=2.0)
        tx = await manager.start()
        with pytest.raises(TransactionError):
            await manager.start()
        await tx.author.create(data=AUTHOR)
        await manager.commit()
        for call in (manager.commit, manager.rollback, tx.author.find_many):
            with pytest.raises(TransactionError):
                await call()


def refuse_holds(sides: TwoSides, side: Side, when: Callable[[int], bool]) -> None:
    """Have a path's transactions refuse a hold, as a store does that has lost the authority."""
    path, holds = sides.path(side), iter(range(100))
    begin = path.begin

    async def begun(**arguments: Any) -> Any:
        transaction = await begin(**arguments)
        hold: Callable[[Any], Awaitable[None]] = transaction.hold

        async def held(models: Any) -> None:
            if when(next(holds)):
                raise WrongAuthorityError("crossfade XF001")
            await hold(models)

        transaction.hold = held
        return transaction

    path.begin = begun  # type: ignore[method-assign]


async def test_a_transaction_that_meets_a_move_at_its_start_begins_again_on_the_right_side() -> None:
    """Nothing had been done yet, so the caller does not notice."""
    async with TwoSides(Stage.SHADOW) as sides:
        refuse_holds(sides, Side.PRISMA, lambda _: True)
        sides.repository.place("Author", Stage.SHADOW, 1)

        async def announce(model: str, _epoch: int, _seconds: float) -> None:
            sides.repository.place(model, Stage.LIVE, 2)

        sides.records.newer_than = announce  # type: ignore[method-assign]
        async with client(sides).tx() as tx:
            await tx.author.create(data=AUTHOR)

        assert 1 == len(sides.rows(Side.SQLALCHEMY))


async def test_a_transaction_that_meets_a_move_later_is_to_be_tried_again() -> None:
    """With the code that Prisma has for it; what it had done is undone."""
    async with TwoSides(Stage.SHADOW) as sides:
        refuse_holds(sides, Side.PRISMA, lambda number: number == 1)
        with pytest.raises(TransactionError) as caught:
            async with client(sides).tx() as tx:
                await tx.author.create(data=AUTHOR)
                await tx.book.create(data=BOOK)

        assert "P2034" == caught.value.code
        assert {} == sides.rows(Side.PRISMA)


@pytest.mark.parametrize("stage", BEGUN)
async def test_a_batch_ends_on_both_sides(stage: Stage) -> None:
    """Also with ids that the database mints."""
    async with TwoSides(stage) as sides:
        async with client(sides).batch_() as batch:
            batch.author.create(data=AUTHOR)
            batch.book.create(data=BOOK)
            batch.book.create_many(data=[BOOK | {"title": "U"}])
            batch.author.update(where={"id": "a1"}, data={"name": "N"})
        await sides.rest()

    assert sides.both_equal()
    assert 2 == len(sides.rows(Side.PRISMA, "Book"))


async def test_a_batch_is_followed_at_once() -> None:
    """Not only by capture."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        batch = client(sides).batch_()
        batch.author.create(data=AUTHOR)
        await batch.commit()
        await sides.repository.queue.settle(["Author"])

        assert 1 == len(sides.rows(Side.SQLALCHEMY))


@pytest.mark.parametrize("stage", Stage)
async def test_a_batch_is_all_or_nothing(stage: Stage) -> None:
    """On both sides; the error is the authority's."""
    async with TwoSides(stage) as sides:
        with pytest.raises(UniqueViolationError):
            async with client(sides).batch_() as batch:
                batch.author.create(data=AUTHOR)
                batch.author.create(data=AUTHOR | {"id": "a2"})
        with pytest.raises(RecordNotFoundError):
            async with client(sides).batch_() as batch:
                batch.author.create(data=AUTHOR)
                batch.author.update(where={"id": "nobody"}, data={"name": "N"})
        await sides.rest()

        assert {} == sides.rows(Side.PRISMA) == sides.rows(Side.SQLALCHEMY)


async def test_an_exception_in_a_batchs_block_sends_nothing() -> None:
    """It is only a list until its end."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        with pytest.raises(ZeroDivisionError):
            async with client(sides).batch_() as batch:
                batch.author.create(data=AUTHOR)
                raise ZeroDivisionError

        assert {} == sides.rows(Side.PRISMA)


async def test_a_batch_of_two_authorities_is_refused() -> None:
    """Before anything is sent."""
    async with TwoSides(author=Stage.LIVE, book=Stage.SHADOW) as sides:
        with pytest.raises(MixedAuthorityError):
            async with client(sides).batch_() as batch:
                batch.author.create(data=AUTHOR)
                batch.book.create(data=BOOK)

        assert {} == sides.rows(Side.PRISMA) == sides.rows(Side.SQLALCHEMY)


async def test_an_empty_batch_asks_nobody() -> None:
    """There is nothing to do."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        await client(sides).batch_().commit()

        assert [] == sides.prisma.executed


async def test_a_batch_that_meets_a_move_is_sent_to_the_right_side() -> None:
    """All of it, with the same values."""
    async with TwoSides(Stage.SHADOW) as sides:

        async def refuse(_: list[Operation]) -> None:
            raise WrongAuthorityError("crossfade XF001")

        async def announce(model: str, _epoch: int, _seconds: float) -> None:
            sides.repository.place(model, Stage.LIVE, 2)

        sides.prisma.batch = refuse  # type: ignore[method-assign, assignment]
        sides.records.newer_than = announce  # type: ignore[method-assign]
        async with client(sides).batch_() as batch:
            batch.author.create(data=AUTHOR)

        assert 1 == len(sides.rows(Side.SQLALCHEMY))


async def test_a_batch_waits_for_whichever_of_its_models_moves() -> None:
    """The store does not say which of them it has refused, and it need not be the first."""
    async with TwoSides(Stage.SHADOW) as sides:
        sent: list[int] = []
        really = sides.prisma.batch

        async def refuse_once(operations: list[Operation]) -> None:
            sent.append(len(operations))
            if len(sent) == 1:
                raise WrongAuthorityError("crossfade XF001")
            await really(operations)

        async def announce(model: str, _epoch: int, _seconds: float) -> None:
            if model == "Author":
                await asyncio.Event().wait()
            sides.repository.place(model, Stage.SHADOW, 3)

        sides.prisma.batch = refuse_once  # type: ignore[method-assign, assignment]
        sides.records.newer_than = announce  # type: ignore[method-assign]
        async with asyncio.timeout(5), client(sides).batch_() as batch:
            batch.author.create(data=AUTHOR)
            batch.book.create(data=BOOK)

        assert [2, 2] == sent


async def test_a_follower_that_is_down_drops_a_transactions_writes_and_counts_them() -> None:
    """Each write by itself; the caller has its commit."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        sides.repository.breakers[Side.SQLALCHEMY].allows = lambda: False  # type: ignore[method-assign]
        async with client(sides).tx() as tx:
            await tx.author.create(data=AUTHOR)
            await tx.author.update(where={"id": "a1"}, data={"name": "N"})
        await sides.repository.queue.settle(["Author"])

    reasons = [(event.action, event.reason) for event in sides.observer.of(FollowDropped)]
    assert [(Action.CREATE, "breaker_open"), (Action.UPDATE, "breaker_open")] == reasons
