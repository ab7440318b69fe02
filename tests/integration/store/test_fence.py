"""The fence refuses every kind of statement of whom it should, and nothing that the server does by itself."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import asyncpg
import pytest
from captured import Captive, captive, renamed

from crossfade.stages import Side
from crossfade.store import Fence
from crossfade.store.objects import set_fence
from databases import FreshDatabase

TABLES = """
CREATE TABLE author (id text PRIMARY KEY, name text);
CREATE TABLE book (id int PRIMARY KEY, author_id text REFERENCES author ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE note (id int PRIMARY KEY, author_id text REFERENCES author ON DELETE SET NULL);
INSERT INTO author VALUES ('a', 'Ada'), ('b', 'Bob');
INSERT INTO book VALUES (1, 'a'), (2, 'b');
INSERT INTO note VALUES (1, 'a');
"""
MODELS = {"Author": "author", "Book": "book", "Note": "note"}
FOLLOWER = "SET crossfade.role = 'follower'"


@pytest.fixture
async def legacy(fresh_database: FreshDatabase) -> AsyncIterator[Captive]:
    """A store that has the authority: it refuses followers."""
    async with captive(await fresh_database(), TABLES, MODELS) as opened:
        yield opened


@pytest.fixture
async def target(fresh_database: FreshDatabase) -> AsyncIterator[Captive]:
    """A store that follows: it refuses authors."""
    async with captive(await fresh_database(), TABLES, MODELS, Side.SQLALCHEMY) as opened:
        yield opened


STATEMENTS = [
    "INSERT INTO author VALUES ('c', 'Cem')",
    "INSERT INTO author SELECT id || '!', name FROM author",
    "INSERT INTO author VALUES ('a') ON CONFLICT DO NOTHING",
    "INSERT INTO author VALUES ('a') ON CONFLICT (id) DO UPDATE SET name = 'New'",
    "UPDATE author SET name = 'New' WHERE id = 'a'",
    "UPDATE author SET name = 'New' WHERE false",
    "DELETE FROM author WHERE id = 'a'",
    "DELETE FROM author",
    "TRUNCATE note",
    "TRUNCATE author CASCADE",
    "WITH gone AS (DELETE FROM book RETURNING author_id) SELECT * FROM gone",
    "DO $$ BEGIN UPDATE author SET name = 'New'; END $$",
    "COPY author FROM STDIN",
    """MERGE INTO author USING (VALUES ('a')) AS s (id) ON author.id = s.id
    WHEN MATCHED THEN UPDATE SET name = 'Merged'""",
]


async def write(session: asyncpg.Connection, statement: str) -> None:
    if statement.startswith("COPY"):
        await session.copy_to_table("author", source=io.BytesIO(b"c\tCem\n"))
    elif statement.startswith("MERGE") and session.get_server_version().major < 15:
        pytest.skip("MERGE came with PostgreSQL 15")
    else:
        await session.execute(statement)


async def rows(session: asyncpg.Connection) -> list[tuple[object, ...]]:
    found = await session.fetch(
        "SELECT 'author', id, name FROM author UNION ALL SELECT 'book', id::text, author_id FROM book"
        " UNION ALL SELECT 'note', id::text, author_id FROM note ORDER BY 1, 2"
    )
    return [tuple(row) for row in found]


async def test_follower_store_refuses_authors_and_takes_followers(target: Captive) -> None:
    """Every kind of statement of an author's fails with XF001 and leaves nothing; a follower's passes."""
    before = await rows(target.author)
    for statement in STATEMENTS:
        with pytest.raises(asyncpg.PostgresError) as caught:
            await write(target.author, statement)
        assert (statement, "XF001") == (statement, caught.value.sqlstate)
    assert before == await rows(target.author)
    assert await target.captured() == []

    await target.run(FOLLOWER)
    for statement in STATEMENTS:
        await write(target.author, statement)
    assert await target.captured() != []


async def test_authority_refuses_followers_and_takes_authors(legacy: Captive) -> None:
    """Every kind of statement of a follower's fails with XF002 and leaves nothing; an author's passes."""
    await legacy.run(FOLLOWER)
    before = await rows(legacy.author)
    for statement in STATEMENTS:
        with pytest.raises(asyncpg.PostgresError) as caught:
            await write(legacy.author, statement)
        assert (statement, "XF002") == (statement, caught.value.sqlstate)
    assert before == await rows(legacy.author)
    assert await legacy.captured() == []

    await legacy.run("RESET crossfade.role")
    for statement in STATEMENTS:
        await write(legacy.author, statement)
    assert await legacy.captured() != []


async def test_role_of_one_transaction(target: Captive) -> None:
    """A role set for a transaction ends with it, also when the session had one before."""
    async with target.author.transaction():
        await target.run("SET LOCAL crossfade.role = 'follower'", "DELETE FROM note")
    with pytest.raises(asyncpg.PostgresError, match="crossfade XF001"):
        await target.run("DELETE FROM note")
    await target.run("SET crossfade.role = 'somebody'")
    with pytest.raises(asyncpg.PostgresError, match="crossfade XF001"):
        await target.run("DELETE FROM note")


async def test_refused_author_learns_where_to_write(target: Captive) -> None:
    """The error names table and model, says that nothing was written, and where to look."""
    with pytest.raises(asyncpg.PostgresError) as caught:
        await target.run("UPDATE author SET name = 'New'")

    assert caught.value.args[0].splitlines()[0] == (
        "crossfade XF001: public.author takes no writes here: those of Author belong to the other store now;"
        " nothing was written"
    )
    assert caught.value.hint == (
        "`crossfade status Author` shows which store has them. Write there, or through the application."
    )


async def test_refused_follower_learns_that_nothing_is_lost(legacy: Captive) -> None:
    """The error of a late write says that it is of no use."""
    with pytest.raises(asyncpg.PostgresError) as caught:
        await legacy.run(FOLLOWER, "UPDATE author SET name = 'New'")

    assert caught.value.args[0].splitlines()[0] == (
        "crossfade XF002: public.author takes no follower writes: this store has the authority over Author;"
        " nothing was written"
    )
    assert "nothing is lost" in (caught.value.hint or "")


async def test_replica_role_does_not_pass_the_fence(target: Captive) -> None:
    """`session_replication_role = replica` is refused like any author."""
    with pytest.raises(asyncpg.PostgresError, match="crossfade XF001"):
        await target.run("SET session_replication_role = replica", "DELETE FROM note")


async def test_what_foreign_keys_do_passes(legacy: Captive) -> None:
    """A cascade into a model that belongs to the other store passes, and is captured; a TRUNCATE is refused."""
    async with legacy.store.transaction() as connection:
        for model in ("Book", "Note"):
            for statement in set_fence(legacy.store.tables[model], Fence.FOLLOWER):
                await connection.execute(statement)
    with pytest.raises(asyncpg.PostgresError, match=r"crossfade XF001: public\.(book|note) "):
        await legacy.run("TRUNCATE author CASCADE")

    expected = [
        ("Author", "D", ("a",)), ("Book", "D", ("1",)), ("Note", "U", ("1",)),
        *renamed("Author", ("b",), ("z",)), ("Book", "U", ("2",)),
    ]  # fmt: skip
    captured = await legacy.captured_by(
        "DELETE FROM author WHERE id = 'a'", "UPDATE author SET id = 'z' WHERE id = 'b'"
    )
    assert sorted(expected, key=repr) == captured


async def test_triggers_of_the_tables_own_pass(legacy: Captive) -> None:
    """What a trigger of the legacy schema writes to a model of the other store passes, at whatever depth."""
    async with legacy.store.transaction() as connection:
        for statement in set_fence(legacy.store.tables["Author"], Fence.FOLLOWER):
            await connection.execute(statement)
    await legacy.run(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN UPDATE author SET name = 'Touched' WHERE id = 'a'; RETURN NULL; END $$",
        "CREATE TRIGGER touch AFTER UPDATE ON book FOR EACH ROW EXECUTE FUNCTION touch()",
    )

    assert [("Author", "U", ("a",)), ("Book", "U", ("1",))] == await legacy.captured_by(
        "UPDATE book SET id = 1 WHERE id = 1"
    )


@pytest.mark.parametrize(
    ("state", "author", "follower"),
    [
        (Fence.AUTHORITY, None, "XF002"),
        (Fence.FOLLOWER, "XF001", None),
        (Fence.FROZEN, "XF001", "XF002"),
        (Fence.HANDED, None, None),
    ],
)
async def test_states_of_a_fence(
    legacy: Captive, state: Fence, author: str | None, follower: str | None
) -> None:
    """Each state refuses whom it says."""
    async with legacy.store.transaction() as connection:
        for statement in set_fence(legacy.store.tables["Note"], state):
            await connection.execute(statement)
    found = []
    for role in ("", "follower"):
        await legacy.run(f"SET crossfade.role = '{role}'")
        try:
            await legacy.run("DELETE FROM note")
        except asyncpg.PostgresError as error:
            found.append(error.sqlstate)
        else:
            found.append(None)

    assert [author, follower] == found


async def test_fence_of_a_partitioned_table(fresh_database: FreshDatabase) -> None:
    """Partitions are fenced like their table, and the fence of all of them is toggled at once."""
    ddl = """
    CREATE TABLE event (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE event_eu PARTITION OF event FOR VALUES IN ('eu');
    """
    insert = "INSERT INTO event_eu VALUES (1, 'eu')"
    async with captive(await fresh_database(), ddl, {"Event": "event"}, Side.SQLALCHEMY) as opened:
        for statement in (insert, "INSERT INTO event VALUES (1, 'eu')"):
            with pytest.raises(asyncpg.PostgresError, match="those of Event belong to the other store"):
                await opened.run(statement)
        async with opened.store.transaction() as connection:
            for statement in set_fence(opened.store.tables["Event"], Fence.AUTHORITY):
                await connection.execute(statement)

        assert [("Event", "I", ("1", "eu"))] == await opened.captured_by(insert)


# --- the fence as a barrier --------------------------------------------------------------------------------------


async def waiting(observer: asyncpg.Connection, *sessions: asyncpg.Connection) -> None:
    """Return once each of `sessions` waits for a lock."""
    pids = [session.get_server_pid() for session in sessions]
    async with asyncio.timeout(10):
        while await observer.fetchval(
            "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid = ANY ($1)", pids
        ) < len(pids):
            await asyncio.sleep(0.005)


async def test_fence_waits_for_writers_and_refuses_those_behind_it(legacy: Captive) -> None:
    """A write in flight ends before the fence stands; one that waited behind the DDL is refused: there is no gap.

    However old the plan or the snapshot of the one behind is.
    """
    arguments = legacy.store.dsn.asyncpg_kwargs()
    ddl, planned, snapshot, observer = [await asyncpg.connect(**arguments) for _ in range(4)]
    try:
        late = await planned.prepare("UPDATE author SET name = 'Late' WHERE id = $1")
        for _ in range(6):  # from the sixth time on the plan is a generic one
            await late.fetch("b")
        await snapshot.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM author")
        await legacy.run("BEGIN", "UPDATE author SET name = 'Early' WHERE id = 'a'")

        toggling = asyncio.create_task(
            ddl.execute(
                "; ".join(["BEGIN", *set_fence(legacy.store.tables["Author"], Fence.FROZEN), "COMMIT"])
            )
        )
        await waiting(observer, ddl)
        behind = [
            asyncio.create_task(late.fetch("b")),
            asyncio.create_task(snapshot.execute("UPDATE author SET name = 'Late' WHERE id = 'b'")),
        ]
        await waiting(observer, ddl, planned, snapshot)
        await legacy.run("COMMIT")
        await toggling

        outcomes = await asyncio.gather(*behind, return_exceptions=True)
        assert ["XF001", "XF001"] == [getattr(outcome, "sqlstate", outcome) for outcome in outcomes]
        assert [("author", "a", "Early")] == [row for row in await rows(observer) if row[1] == "a"]
    finally:
        for session in (ddl, planned, snapshot, observer):
            await session.close()
