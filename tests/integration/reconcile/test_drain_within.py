"""The drain under the lock: within somebody else's transaction, who decides whether it counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from twins import P, S, Twins, identifier, referred, refers, schema_of

from crossfade.errors import LateWriteError, UnsettledError
from crossfade.store import Fence
from crossfade.store.tables import Connection
from small_schema import scalar

SCHEMA = schema_of(
    Shelf=[identifier(), referred("books", "Book", "Books")],
    Book=[identifier(), *refers("shelf", "Shelf", "Books"), scalar("code", isUnique=True)],
)
DDL = """
CREATE TABLE "Shelf" (id integer PRIMARY KEY);
CREATE TABLE "Book" (id integer PRIMARY KEY, shelf_id integer REFERENCES "Shelf" ON DELETE RESTRICT, code text UNIQUE);
"""


@pytest.fixture
async def books(make: Any) -> Twins:
    """Books on shelves; the legacy store is frozen for books."""
    pair = await make(SCHEMA, DDL)
    await pair.write(P, 'INSERT INTO "Shelf" VALUES (1), (2)')
    await pair.write(P, """INSERT INTO "Book" VALUES (1, 1, 'a'), (2, 2, 'b'), (3, NULL, 'c')""")
    return pair


@asynccontextmanager
async def locked(books: Twins, *, follower: bool = True) -> AsyncIterator[Connection]:
    """A transaction on the target that keeps other writers from the books."""
    await books.fence(P, Fence.FROZEN, "Book")
    async with books.stores[S].transaction(follower=follower) as connection:
        await connection.execute('LOCK TABLE "Book" IN SHARE ROW EXCLUSIVE MODE')
        yield connection


async def test_everything_is_level_before_the_transaction_ends(books: Twins) -> None:
    """Its repairs, the parents that they need, and the repairs' own entries."""
    reconciler = books.reconciler()
    async with locked(books) as connection:
        await reconciler.drain_within(connection, S, ["Book"])
        assert [1, 2, 3] == [row["id"] for row in await connection.fetch('SELECT id FROM "Book" ORDER BY id')]
        assert [] == await books.column(S, 'SELECT id FROM "Book"')

    assert await reconciler.drain(["Shelf", "Book"], 10)
    await books.assert_level()


async def test_what_was_rolled_back_is_done_again(books: Twins) -> None:
    """No entry of either store has gone with it."""
    reconciler = books.reconciler()
    with suppress(ZeroDivisionError):
        async with locked(books) as connection:
            await reconciler.drain_within(connection, S, ["Book"])
            raise ZeroDivisionError

    assert [] == await books.column(S, 'SELECT id FROM "Book"')
    assert 3 == await books.plain[P].fetchval("SELECT count(*) FROM crossfade.change WHERE model = 'Book'")
    assert await reconciler.drain(["Shelf", "Book"], 10)
    await books.assert_level()


async def test_another_reconciler_in_mid_repair_is_not_waited_for(books: Twins) -> None:
    """It holds entries and waits for the lock: waiting for it would last for ever."""
    assert await books.reconciler().drain(["Shelf", "Book"], 10)
    await books.write(P, """UPDATE "Book" SET code = code || '!'""")
    other = books.reconciler(lock_timeout=30.0)
    async with locked(books) as connection:
        repair = asyncio.create_task(other.run_once(["Book"], settle=0))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '\"Book\"'::regclass"
        async with asyncio.timeout(10):
            while not await books.plain[S].fetchval(waiting):
                await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            await books.reconciler().drain_within(connection, S, ["Book"])
        assert ["a!", "b!", "c!"] == [
            row["code"] for row in await connection.fetch('SELECT code FROM "Book" ORDER BY id')
        ]
    await repair
    assert await other.drain(["Shelf", "Book"], 10)
    await books.assert_level()


async def test_a_truncated_table_is_emptied(books: Twins) -> None:
    """A whole table is suspect then, in both stores."""
    assert await books.reconciler().drain(["Shelf", "Book"], 10)
    await books.write(P, 'TRUNCATE "Book"', """INSERT INTO "Book" VALUES (9, 1, 'z')""")
    async with locked(books) as connection:
        await books.reconciler().drain_within(connection, S, ["Book"])
        assert [9] == [row["id"] for row in await connection.fetch('SELECT id FROM "Book"')]
    assert await books.reconciler().drain(["Shelf", "Book"], 10)
    await books.assert_level()


async def test_what_cannot_be_written_stops_it(books: Twins) -> None:
    """And says which constraint is in the way."""
    await books.plain[S].execute("""ALTER TABLE "Book" ADD CONSTRAINT nice CHECK (code <> 'b')""")
    with pytest.raises(UnsettledError, match="23514 nice"):
        async with locked(books) as connection:
            await books.reconciler().drain_within(connection, S, ["Book"])


async def test_a_store_that_is_not_the_follower_stops_it(books: Twins) -> None:
    """A mover that was overtaken finds another's fence."""
    await books.fence(S, Fence.AUTHORITY, "Book")
    with pytest.raises(LateWriteError):
        async with locked(books) as connection:
            await books.reconciler().drain_within(connection, S, ["Book"])


async def test_a_parent_that_died_on_the_new_side_returns_there(books: Twins) -> None:
    """The shelf's authority has moved before; the book on it has not, and moves now."""
    assert await books.reconciler().drain(["Shelf", "Book"], 10)
    await books.give(S, "Shelf")
    await books.write(S, 'INSERT INTO "Shelf" VALUES (3)')
    assert await books.reconciler().drain(["Shelf"], 10)
    await books.write(P, """INSERT INTO "Book" VALUES (4, 3, 'd')""")
    await books.write(S, 'DELETE FROM "Shelf" WHERE id = 3')
    async with locked(books) as connection:
        await books.reconciler().drain_within(connection, S, ["Book"])
        assert 3 == await connection.fetchval('SELECT shelf_id FROM "Book" WHERE id = 4')
    assert await books.reconciler().drain(["Shelf", "Book"], 10)
    await books.assert_level()
    assert ["parent-returns"] == await books.column(S, "SELECT policy FROM crossfade.conflict")
