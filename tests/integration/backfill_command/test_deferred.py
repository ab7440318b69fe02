"""Indexes and foreign keys come off the target's tables and go back as they were, whatever happens in between."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from own_target import Target

from crossfade.backfill.deferred import Kind, Step, defer, deferrable, outstanding, restore
from crossfade.errors import BackfillError, LockedOutError

MODELS = ["Author", "Book"]
COME_OFF = {"Author manager", "Author name", "author_score", "books_author", "books_title"}
STAY = {"Author_pkey", "Author_email_key", "author_noted", "books_pkey", "books_author_id_title_key"}


class KilledError(Exception):
    """A process died."""


def dies_at(step: Step, times: int = 1):
    """A hook that raises when `step` is reached for the `times`-th time."""
    left = times

    async def at(reached: Step) -> None:
        nonlocal left
        if reached is step:
            left -= 1
            if left == 0:
                raise KilledError

    return at


async def test_off_and_back(target: Target) -> None:
    """What only makes writing slow comes off; afterwards everything is defined as it was."""
    before = await target.definitions()
    would = await deferrable(target.store, MODELS)

    taken = await defer(target.store, MODELS)

    assert would == taken
    assert sorted(COME_OFF) == sorted(one.name for one in taken)
    assert await target.names() == STAY
    assert [(Kind.INDEX, "Author name"), (Kind.INDEX, "author_score"), (Kind.INDEX, "books_title")] == [
        (one.kind, one.name) for one in await outstanding(target.store, MODELS)
    ][:3]

    said: list[str] = []
    back = await restore(target.store, MODELS, told=said.append)

    assert {one.name for one in taken} == {one.name for one in back}
    assert "index books_title of books" in said
    assert before == await target.definitions()
    assert [] == await outstanding(target.store, MODELS)
    assert [] == await restore(target.store, MODELS)
    # And once more, over the notes of the first time.
    assert taken == await defer(target.store, MODELS)
    await restore(target.store, MODELS)
    assert before == await target.definitions()


async def test_only_the_models_that_were_named(target: Target) -> None:
    """Other tables keep what they have."""
    assert {"books_author", "books_title"} == {one.name for one in await defer(target.store, ["Book"])}
    assert [] == await outstanding(target.store, ["Author"])
    assert STAY | {"Author manager", "Author name", "author_score"} == await target.names()


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("stage = 'dualwrite'", "it is at dualwrite: leave"),
        ("moving_to = 'dualwrite'", "it is at off, moving to dualwrite: leave"),
        ("final = true", "it is at off: leave"),
    ],
)
async def test_a_model_that_has_begun_is_refused(target: Target, assignment: str, reason: str) -> None:
    """Once the application writes to the target, its tables keep everything; nothing is changed for the others."""
    before = await target.names()
    await target.plain.execute(f"UPDATE crossfade.record SET {assignment} WHERE model = 'Book'")

    with pytest.raises(BackfillError, match=reason) as refused:
        await defer(target.store, MODELS)

    assert "Book" == refused.value.model
    assert before == await target.names()


async def test_no_move_begins_while_it_is_taken_off(target: Target) -> None:
    """The record of a model stands still until its table is done."""
    blocked: list[bool] = []

    async def at(step: Step) -> None:
        try:
            await target.plain.execute(
                "SET lock_timeout = '50ms'; UPDATE crossfade.record SET moving_to = 'dualwrite' WHERE model = 'Author'"
            )
        except asyncpg.LockNotAvailableError:
            blocked.append(True)

    await defer(target.store, ["Author"], at=at)

    assert [True, True] == blocked


@pytest.mark.parametrize("step", [Step.NOTED, Step.DROPPED])
async def test_a_crash_while_it_is_taken_off(target: Target, step: Step) -> None:
    """A table has all of it, or all of it is noted; the next call takes off the rest."""
    before = await target.definitions()

    with pytest.raises(KilledError):
        await defer(target.store, MODELS, at=dies_at(step, times=2))

    noted = {one.name for one in await outstanding(target.store, MODELS)}
    assert {"Author manager", "Author name", "author_score"} == noted
    assert STAY | COME_OFF == await target.names() | noted
    await defer(target.store, MODELS)
    assert COME_OFF == {one.name for one in await outstanding(target.store, MODELS)}
    await restore(target.store, MODELS)
    assert before == await target.definitions()


@pytest.mark.parametrize(
    ("step", "times"), [(Step.BUILT, 1), (Step.BUILT, 3), (Step.ADDED, 1), (Step.ADDED, 2)]
)
async def test_a_crash_while_it_is_put_back(target: Target, step: Step, times: int) -> None:
    """What is there already is not made a second time, and what is missing is made."""
    before = await target.definitions()
    await defer(target.store, MODELS)

    with pytest.raises(KilledError):
        await restore(target.store, MODELS, at=dies_at(step, times))

    assert await outstanding(target.store, MODELS)
    await restore(target.store, MODELS)
    assert before == await target.definitions()
    assert [] == await outstanding(target.store, MODELS)


async def test_an_index_that_was_broken_off(target: Target) -> None:
    """What a cancelled build leaves behind is not valid, and is built anew."""
    before = await target.definitions()
    await defer(target.store, MODELS)
    blocker = await asyncpg.connect(**target.store.dsn.asyncpg_kwargs())
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("LOCK TABLE books IN ROW EXCLUSIVE MODE")
    task = asyncio.create_task(restore(target.store, ["Book"]))
    broken = "SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass('books_title')"
    try:
        async with asyncio.timeout(20):
            while not await target.plain.fetchval(broken):
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await target.plain.fetchval(broken)
    finally:
        await transaction.rollback()
        await blocker.close()

    await restore(target.store, MODELS)

    assert before == await target.definitions()


async def test_two_at_once(target: Target) -> None:
    """One puts everything back, the other waits for it and has nothing to do."""
    before = await target.definitions()
    await defer(target.store, MODELS)

    results = await asyncio.gather(*(restore(target.store, MODELS) for _ in range(2)))

    assert [0, len(COME_OFF)] == sorted(len(back) for back in results)
    assert before == await target.definitions()


async def test_rows_without_a_parent(target: Target) -> None:
    """The foreign key cannot be put back, but keeps new such rows out; the error says where to look."""
    before = await target.definitions()
    await defer(target.store, MODELS)
    await target.plain.execute("INSERT INTO books VALUES (1, 'lost', 'nobody')")

    with pytest.raises(BackfillError) as refused:
        await restore(target.store, MODELS)

    assert (
        'the backfill of Book: the foreign key books_author of "public"."books" could not be put back: some of the'
        " table's rows refer to rows that are not there; `crossfade verify --repair` brings those that the legacy store"
        " has, the others have to be corrected there. Then run `crossfade backfill --restore-indexes`"
    ) == str(refused.value)
    assert ["books_author"] == [one.name for one in await outstanding(target.store, MODELS)]
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await target.plain.execute("INSERT INTO books VALUES (2, 'lost', 'noone')")

    await target.plain.execute("DELETE FROM books")
    await restore(target.store, MODELS)
    assert before == await target.definitions()


async def test_a_name_that_was_taken(target: Target) -> None:
    """Something else under the same name is not taken for what was there, nor touched; the rest goes back."""
    await defer(target.store, MODELS)
    await target.plain.execute("CREATE INDEX books_title ON books (title)")
    await target.plain.execute("ALTER TABLE books ADD CONSTRAINT books_author CHECK (author_id <> '')")

    with pytest.raises(ExceptionGroup) as refused:
        await restore(target.store, MODELS)

    assert 2 == len(refused.value.exceptions)
    assert all("of that name; rename or drop it" in str(error) for error in refused.value.exceptions)
    assert {"Author manager", "Author name", "author_score"} <= await target.names()
    await target.plain.execute("DROP INDEX books_title; ALTER TABLE books DROP CONSTRAINT books_author")
    await restore(target.store, MODELS)
    assert STAY | COME_OFF == await target.names()


async def test_a_locked_table_is_left_as_it_is(target: Target) -> None:
    """Whoever cannot have the table in time leaves it, and says who has it."""
    blocker = await asyncpg.connect(**target.store.dsn.asyncpg_kwargs())
    before = await target.names()
    try:
        async with blocker.transaction():
            await blocker.execute('SELECT FROM "Author"')
            with pytest.raises(LockedOutError, match="Author"):
                await defer(target.store, ["Author"], deadline=0.3)
    finally:
        await blocker.close()

    assert before == await target.names()
    assert [] == await outstanding(target.store, MODELS)
