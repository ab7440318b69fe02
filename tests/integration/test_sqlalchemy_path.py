"""The SQLAlchemy path on a real server: what its pool, its transactions and its second tries promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine

from crossfade import errors
from crossfade.dsn import Dsn
from crossfade.operation import Action, Operation, Pinner
from crossfade.paths import SessionRole
from crossfade.paths.pool import ConnectionPool
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from crossfade.stages import Side
from fences import FOLLOWERS, fence
from marketplace.records import RECORDS
from marketplace.setup import apply_legacy_schema, upgrade_target
from sides import TABLES, marketplace_schema

FreshDatabase = Callable[..., Awaitable[Dsn]]
PINNER = Pinner(marketplace_schema())


@pytest.fixture
async def dsn(fresh_database: FreshDatabase) -> Dsn:
    """A database with the marketplace's tables."""
    dsn = await fresh_database()
    await upgrade_target(dsn)
    return dsn


@pytest.fixture
async def other(dsn: Dsn) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else's connection to the same database."""
    connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
    yield connection
    await connection.close()


@asynccontextmanager
async def opened(dsn: Dsn, **settings: Any) -> AsyncIterator[SqlAlchemyPath]:
    """A path that is connected, and closed in the end."""
    path = SqlAlchemyPath(marketplace_schema(), TABLES, RECORDS, dsn, **settings)
    await path.connect()
    yield path
    await path.close()


async def call(path: SqlAlchemyPath, action: str, model: str = "User", **arguments: Any) -> Any:
    """Execute one operation, pinned as the repository does it."""
    return await path.execute(PINNER.pin(Operation(model, Action(action), arguments)))


async def create_user(path: SqlAlchemyPath, name: str) -> Any:
    """Create a user whose id is its name."""
    return await call(path, "create", data={"id": name, "email": f"{name}@example.com", "name": name})


async def blocked(other: asyncpg.Connection, count: int = 1) -> list[int]:
    """Wait until `count` backends wait for a lock, and return their process ids."""
    while True:
        rows = await other.fetch(
            "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        if len(rows) == count:
            return [row["pid"] for row in rows]


async def test_no_io_before_connect() -> None:
    """Making a path asks nobody; connecting to nothing says where."""
    dsn = Dsn.parse("postgresql://user:secret@127.0.0.1:1/nowhere")
    path = SqlAlchemyPath(marketplace_schema(), TABLES, RECORDS, dsn)

    with pytest.raises(errors.StoreUnavailableError) as caught:
        await path.connect()
    assert "127.0.0.1:1/nowhere" == caught.value.where
    assert "secret" not in str(caught.value)
    assert Side.SQLALCHEMY is path.side
    await path.close()


async def test_a_closed_path_can_be_connected_again(dsn: Dsn) -> None:
    """Calls on a closed path are refused at once; connecting opens it again."""
    async with opened(dsn) as path:
        await path.close()
        with pytest.raises(errors.ConnectionLostError, match="closed"):
            await call(path, "count")
        await path.connect()

        assert 0 == await call(path, "count")


async def test_close_waits_for_what_is_under_way(dsn: Dsn, other: asyncpg.Connection) -> None:
    """A write that has begun is finished before the connections go."""
    async with opened(dsn) as path:
        await create_user(path, "u")
        async with other.transaction():
            await other.execute("LOCK TABLE users")
            write = asyncio.create_task(call(path, "update", where={"id": "u"}, data={"name": "late"}))
            await blocked(other)
            closing = asyncio.create_task(path.close())
        await closing

        assert "late" == (await write).name


async def test_waiters_are_served_in_turn(dsn: Dsn, other: asyncpg.Connection) -> None:
    """With fewer connections than tasks, the first to come is the first to be served."""
    served: list[int] = []

    async with opened(dsn, pool_size=1) as path:

        async def ask(number: int) -> None:
            await call(path, "count")
            served.append(number)

        async with other.transaction():
            await other.execute("LOCK TABLE users")
            asked = [asyncio.create_task(ask(number)) for number in range(20)]
            await blocked(other)
        await asyncio.gather(*asked)

    assert list(range(20)) == served


async def test_a_wait_that_is_too_long(dsn: Dsn, other: asyncpg.Connection) -> None:
    """Waiting for a connection ends after the pool's timeout, with Prisma's code, and costs nobody a connection."""
    async with opened(dsn, pool_size=1, acquire_timeout=0.05) as path:
        async with other.transaction():
            await other.execute("LOCK TABLE users")
            first = asyncio.create_task(call(path, "count"))
            await blocked(other)
            with pytest.raises(errors.ConnectionLostError, match=r"connection limit: 1\)") as caught:
                await call(path, "count")
        await first

        assert "P2024" == caught.value.code
        assert 0 == await call(path, "count")


async def test_cancelled_waiters_leave_the_queue(dsn: Dsn, other: asyncpg.Connection) -> None:
    """A task that is cancelled while it waits takes no connection with it."""
    async with opened(dsn, pool_size=1) as path:
        async with other.transaction():
            await other.execute("LOCK TABLE users")
            asked = [asyncio.create_task(call(path, "count")) for _ in range(5)]
            await blocked(other)
            for task in asked[1:4]:
                task.cancel()
        answers = await asyncio.gather(*asked, return_exceptions=True)

        assert [0, 0] == [answers[0], answers[4]]
        assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[1:4])
        assert 0 == await call(path, "count")


async def test_a_waiter_that_is_cancelled_in_its_turn(dsn: Dsn) -> None:
    """A connection handed to a task that is cancelled before it wakes goes on to the next."""
    engine = create_async_engine(dsn.sqlalchemy_url(), connect_args=dsn.connect_args(), pool_size=1)
    pool = ConnectionPool(engine, size=1, acquire_timeout=None)
    held = await pool.take()
    second, third = (asyncio.create_task(pool.take()) for _ in range(2))
    await asyncio.sleep(0)  # both stand in the queue now
    pool.give_back(held)
    second.cancel()
    pool.give_back(await third)

    assert second.cancelled()
    assert await third is held
    await pool.close()
    await engine.dispose()


async def test_a_write_that_is_cancelled_in_flight(dsn: Dsn, other: asyncpg.Connection) -> None:
    """A cancelled write is stopped on the server too, and its connection serves the next call."""
    async with opened(dsn, pool_size=1) as path:
        await create_user(path, "u")
        async with other.transaction():
            await other.execute("SELECT 1 FROM users WHERE id = 'u' FOR UPDATE")
            write = asyncio.create_task(call(path, "update", where={"id": "u"}, data={"name": "never"}))
            (pid,) = await blocked(other)
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
            assert "u" == (await call(path, "find_unique", where={"id": "u"})).name
        found = await call(path, "find_unique", where={"id": "u"})

        assert "u" == found.name
        assert pid == await other.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_a_transaction_that_is_cancelled(dsn: Dsn, other: asyncpg.Connection) -> None:
    """Several statements of one operation are undone together when it is cancelled between them."""
    async with opened(dsn, pool_size=1) as path:
        await create_user(path, "u")
        upsert = {
            "where": {"id": "u"},
            "data": {"create": {"id": "other", "email": "o@example.com"}, "update": {"name": "never"}},
        }
        async with other.transaction():
            await other.execute("SELECT 1 FROM users WHERE id = 'u' FOR UPDATE")
            write = asyncio.create_task(call(path, "upsert", **upsert))
            await blocked(other)
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
        idle = await call(path, "find_unique", where={"id": "u"})
        states = await other.fetch(
            "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

        assert "u" == idle.name
        assert ["idle"] == [row["state"] for row in states]


async def kill_backends(other: asyncpg.Connection) -> None:
    """End every other connection to the database, as a restart would."""
    await other.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for _ in range(3):  # the loop hears the server's last words first, and then that it has hung up
        await other.execute("SELECT 1")


async def test_connections_that_died_while_idle(dsn: Dsn, other: asyncpg.Connection) -> None:
    """After a restart of the server reads and writes go on, each on a connection that lives."""
    async with opened(dsn, pool_size=4) as path:
        await asyncio.gather(*(create_user(path, f"u{number}") for number in range(8)))
        await kill_backends(other)
        await create_user(path, "after")
        counts = await asyncio.gather(*(call(path, "count") for _ in range(8)))

        assert [9] * 8 == counts
        await kill_backends(other)
        assert 9 == await call(path, "count")


async def test_a_read_whose_connection_breaks(dsn: Dsn, other: asyncpg.Connection) -> None:
    """A read that loses its connection is asked once more on a fresh one, whatever else is idle."""
    async with opened(dsn, pool_size=3) as path:
        await asyncio.gather(*(call(path, "count") for _ in range(3)))
        async with other.transaction():
            await other.execute("LOCK TABLE users")
            read = asyncio.create_task(call(path, "find_many"))
            await blocked(other)
            await kill_backends(other)

        assert [] == await read


async def test_a_write_whose_connection_breaks(dsn: Dsn, other: asyncpg.Connection) -> None:
    """A write that loses its connection is not tried again: it may have been done."""
    async with opened(dsn, pool_size=1) as path:
        await create_user(path, "u")
        async with other.transaction():
            await other.execute("LOCK TABLE users")
            write = asyncio.create_task(call(path, "update", where={"id": "u"}, data={"name": "twice"}))
            await blocked(other)
            await kill_backends(other)
            with pytest.raises(errors.ConnectionLostError):
                await write

        assert "u" == (await call(path, "find_unique", where={"id": "u"})).name


async def test_a_column_that_changes_its_type(dsn: Dsn, other: asyncpg.Connection) -> None:
    """Statements prepared before a migration do not disturb the calls after it."""
    async with opened(dsn, pool_size=1) as path:
        await create_user(path, "u")
        before = await call(path, "find_unique", where={"id": "u"})
        await other.execute("ALTER TABLE users ALTER COLUMN name TYPE varchar(80)")

        assert before == await call(path, "find_unique", where={"id": "u"})
        assert "x" == (await call(path, "update", where={"id": "u"}, data={"name": "x"})).name


async def test_rows_of_many_to_many_are_replaced(dsn: Dsn) -> None:
    """`set` leaves exactly the rows it names; `disconnect` of a row that is not connected does nothing."""
    async with opened(dsn) as path:
        for name in ("a", "b", "c"):
            await create_user(path, name)
        people = {"connect": [{"id": "a"}, {"id": "b"}]}
        made = await call(path, "create", "Conversation", data={"participants": people})
        include = {"participants": {"order_by": {"id": "asc"}}}

        async def change(**participants: Any) -> list[str]:
            data = {"participants": participants}
            changed = await call(
                path, "update", "Conversation", where={"id": made.id}, data=data, include=include
            )
            return [user.id for user in changed.participants]

        assert ["b", "c"] == await change(set=[{"id": "c"}, {"id": "b"}])
        assert ["b", "c"] == await change(disconnect=[{"id": "a"}])
        assert ["c"] == await change(disconnect={"id": "b"})
        assert [] == await change(set=[])


async def test_included_rows_belong_to_their_parent(dsn: Dsn) -> None:
    """Two parents that include the same row get a record each, and changing one leaves the other."""
    async with opened(dsn) as path:
        await create_user(path, "u")
        for sku in ("one", "two"):
            data = {"id": sku, "sku": sku, "owner_id": "u", "title": sku, "price": Decimal(1)}
            await call(path, "create", "Item", data=data)
        one, two = await call(path, "find_many", "Item", order={"id": "asc"}, include={"owner": True})
        one.owner.name = "changed"

        assert "u" == two.owner.name


async def test_an_engine_of_the_application(dsn: Dsn) -> None:
    """An engine with default settings serves the path and sessions side by side, and stays open after it."""
    engine = create_async_engine(dsn.sqlalchemy_url(), connect_args=dsn.connect_args(), pool_size=2)
    async with opened(dsn) as maker:
        await create_user(maker, "u")
    path = SqlAlchemyPath(marketplace_schema(), TABLES, RECORDS, engine, pool_size=2)
    await path.connect()
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        assert ["u"] == [user.id for user in await call(path, "find_many")]
    await asyncio.gather(*(call(path, "count") for _ in range(10)))
    await path.close()
    async with engine.connect() as connection:
        assert 1 == (await connection.execute(text("SELECT count(*) FROM users"))).scalar_one()
    await engine.dispose()


async def test_a_database_behind_a_pooler(dsn: Dsn) -> None:
    """`pgbouncer=true` works without statements that are prepared once and used again."""
    pooled = Dsn.parse(f"{dsn.libpq_url()}?pgbouncer=true&connection_limit=1")
    async with opened(pooled) as path:
        await create_user(path, "u")

        assert ["u", "u"] == [(await call(path, "find_unique", where={"id": "u"})).id for _ in range(2)]


async def test_sequences(dsn: Dsn) -> None:
    """Values are taken from the sequence behind a field, and it is moved forward, never back."""
    async with opened(dsn) as path:
        assert 0 == await path.sequence_value("Shipment", "id")
        assert [1, 2, 3] == await path.reserve("Shipment", "id", 3)
        assert 3 == await path.sequence_value("Shipment", "id")
        await path.advance_sequence("Shipment", "id", 40)
        await path.advance_sequence("Shipment", "id", 10)

        assert [41] == await path.reserve("Shipment", "id", 1)


async def test_the_meta_of_a_foreign_key_fault(dsn: Dsn) -> None:
    """A foreign key that points at nothing is named as Prisma names it."""
    async with opened(dsn) as path:
        data = {"sku": "s", "owner_id": "nobody", "title": "t", "price": Decimal(1)}
        with pytest.raises(errors.ForeignKeyViolationError) as caught:
            await call(path, "create", "Item", data=data)

    assert "items_owner_user_id_fkey (index)" == caught.value.meta["field_name"]
    assert isinstance(caught.value.__cause__, asyncpg.ForeignKeyViolationError)


async def test_a_table_that_changes_under_prepared_statements(dsn: Dsn, other: asyncpg.Connection) -> None:
    """Calls go on, those of several statements too, and a write is done once."""
    async with opened(dsn) as path:
        await create_user(path, "u")
        write = {"where": {"id": "u"}, "data": {"login_count": {"increment": 1}}, "include": {"items": True}}
        await asyncio.gather(*(call(path, "update", **write) for _ in range(3)))
        await other.execute("ALTER TABLE users ALTER COLUMN login_count TYPE bigint")

        found = await asyncio.gather(*(call(path, "update", **write) for _ in range(3)))
        assert [4, 5, 6] == sorted(user.login_count for user in found)


async def test_a_table_that_is_not_there(dsn: Dsn, other: asyncpg.Connection) -> None:
    """A missing table is an error of its own."""
    await other.execute('DROP TABLE "AnalyticsSnapshot"')
    async with opened(dsn) as path:
        with pytest.raises(errors.TableNotFoundError, match="AnalyticsSnapshot"):
            await call(path, "count", "AnalyticsSnapshot")


# --- who writes, and where ------------------------------------------------------------------------------------

WRITES: tuple[Operation, ...] = tuple(
    PINNER.pin(Operation("User", action, arguments))
    for action, arguments in (
        (Action.CREATE, {"data": {"id": "u", "email": "u@example.com"}}),
        (Action.CREATE_MANY, {"data": [{"email": "a@example.com"}, {"email": "b@example.com", "name": "b"}]}),
        (Action.UPDATE, {"where": {"id": "u"}, "data": {"name": "x"}, "include": {"items": True}}),
        (Action.UPDATE_MANY, {"where": {}, "data": {"login_count": {"increment": 1}}}),
        (
            Action.UPSERT,
            {
                "where": {"id": "v"},
                "data": {"create": {"id": "w", "email": "w@example.com"}, "update": {"name": "x"}},
            },
        ),
        (Action.DELETE, {"where": {"id": "u"}}),
        (Action.DELETE_MANY, {"where": {}}),
    )
)


@pytest.fixture(params=["", "?pgbouncer=true"], ids=["direct", "pooled"])
async def follower(request: pytest.FixtureRequest, dsn: Dsn) -> AsyncIterator[SqlAlchemyPath]:
    """A path whose sessions are followers, with one connection; once as if a transaction pooler stood between."""
    store = Dsn.parse(dsn.libpq_url() + request.param)
    async with opened(store, role="follower", pool_size=1) as path:
        yield path


async def write_in_every_way(path: SqlAlchemyPath) -> None:
    """Do every kind of write alone, in a batch and in a transaction; nothing is left of them."""
    for operation in WRITES:
        await path.execute(operation)
    await path.batch(WRITES)
    tx = await path.begin()
    for operation in WRITES:
        await tx.execute(operation)
    await tx.commit()


async def test_followers_pass_where_authors_do_not(
    dsn: Dsn, follower: SqlAlchemyPath, other: asyncpg.Connection
) -> None:
    """A store that is not the authority takes the writes of followers, and no others."""
    async with opened(dsn) as author, fence(other, "users"):
        await write_in_every_way(follower)
        with pytest.raises(errors.WrongAuthorityError):
            await author.batch(WRITES)

        assert 0 == await call(author, "count")
        assert 0 == await call(follower, "count")


async def test_followers_are_refused_where_authors_are_not(
    dsn: Dsn, follower: SqlAlchemyPath, other: asyncpg.Connection
) -> None:
    """A store that is the authority takes the writes of authors, and none of followers."""
    async with opened(dsn) as author, fence(other, "users", FOLLOWERS):
        await write_in_every_way(author)
        for operation in WRITES:
            with pytest.raises(errors.LateWriteError):
                await follower.execute(operation)
            with pytest.raises(errors.LateWriteError):
                await follower.batch([operation])
            tx = await follower.begin()
            with pytest.raises(errors.LateWriteError):
                await tx.execute(operation)
            await tx.rollback()

        assert 0 == await call(follower, "count")


async def test_a_follower_does_what_others_do(follower: SqlAlchemyPath) -> None:
    """Answers, errors and sequences are those of any path."""
    await create_user(follower, "u")
    with pytest.raises(errors.UniqueViolationError):
        await create_user(follower, "u")
    chat = await call(follower, "create", "Conversation", data={"participants": {"connect": [{"id": "u"}]}})

    assert ["u"] == [user.id for user in await call(follower, "find_many")]
    assert await call(follower, "update", where={"id": "nobody"}, data={"name": "x"}) is None
    assert (
        "new"
        == (
            await call(follower, "update", "Conversation", where={"id": chat.id}, data={"subject": "new"})
        ).subject
    )
    assert [1, 2] == await follower.reserve("Shipment", "id", 2)
    await follower.advance_sequence("Shipment", "id", 9)
    assert 9 == await follower.sequence_value("Shipment", "id")


async def test_an_update_that_connects_to_nothing(follower: SqlAlchemyPath) -> None:
    """It answers None, and what came before it in the same call is undone."""
    await create_user(follower, "u")
    item = {"id": "i", "sku": "s", "owner_id": "u", "title": "old", "price": Decimal(1)}
    await call(follower, "create", "Item", data=item)
    change = {"title": "new", "parent": {"connect": {"id": "nobody"}}}

    assert await call(follower, "update", "Item", where={"id": "i"}, data=change) is None
    assert "old" == (await call(follower, "find_unique", "Item", where={"id": "i"})).title


async def test_a_pooled_session_keeps_no_role(dsn: Dsn, other: asyncpg.Connection) -> None:
    """Behind a transaction pooler the next transaction on a connection may be an author's."""
    async with opened(Dsn.parse(f"{dsn.libpq_url()}?pgbouncer=true"), role="follower", pool_size=1) as path:
        await create_user(path, "u")
        held = await path._pool.take()
        role = await held.driver.fetchval("SELECT current_setting('crossfade.role', true)")
        path._pool.give_back(held)

    assert "" == role


async def test_an_engine_cannot_be_made_a_follower(dsn: Dsn) -> None:
    """Its connections are opened by somebody else, who is told what to do."""
    engine = create_async_engine(dsn.sqlalchemy_url())

    with pytest.raises(errors.ConfigurationError, match="give it a DSN"):
        SqlAlchemyPath(marketplace_schema(), TABLES, RECORDS, engine, role="follower")
    await engine.dispose()


@pytest.mark.parametrize("models_live_in", [None, "app"])
async def test_the_follower_of_the_prisma_side(
    fresh_database: FreshDatabase, models_live_in: str | None
) -> None:
    """The legacy tables can be written without an engine, in whatever schema they are and the models are not."""
    legacy = (await fresh_database()).replace(schema="old shop")
    await apply_legacy_schema(legacy)
    tables = TABLES
    if models_live_in is not None:
        metadata = MetaData()
        tables = {name: table.to_metadata(metadata, schema=models_live_in) for name, table in TABLES.items()}
    store = await asyncpg.connect(**legacy.asyncpg_kwargs())
    path = SqlAlchemyPath(
        marketplace_schema(), tables, RECORDS, legacy, side=Side.PRISMA, role=SessionRole.FOLLOWER
    )
    await path.connect()
    try:
        async with fence(store, "users"):
            user = await call(
                path,
                "create",
                data={
                    "email": "u@example.com",
                    "role": "ADMIN",
                    "notify_by": ["SMS", "EMAIL"],
                    "tags": ["t"],
                },
            )
            tx = await path.begin()
            await tx.hold(["User"])
            await tx.execute(Operation("User", Action.UPDATE_MANY, {"where": {}, "data": {"role": "SELLER"}}))
            await tx.commit()
            with pytest.raises(errors.UniqueViolationError) as caught:
                await call(path, "create", data={"email": "u@example.com"})
        chat = await call(
            path,
            "create",
            "Conversation",
            data={"participants": {"connect": [{"id": user.id}]}},
            include={"participants": True},
        )

        assert Side.PRISMA is path.side is tx.side
        assert ["email"] == caught.value.meta["target"]
        assert [("SELLER", ["SMS", "EMAIL"], ["t"])] == [
            (row.role, row.notify_by, row.tags) for row in chat.participants
        ]
        assert [1] == await path.reserve("Shipment", "id", 1)
        assert 1 == await store.fetchval('SELECT count(*) FROM "old shop".users')
    finally:
        await path.close()
        await store.close()
