"""Transactions, batches and fences: the same on both sides, errors included."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from crossfade.errors import (
    DataError,
    LateWriteError,
    QueryError,
    RecordNotFoundError,
    TransactionError,
    UniqueViolationError,
    UnknownModelError,
    WrongAuthorityError,
)
from crossfade.operation import Action, Operation
from crossfade.paths import PathTransaction
from fences import FOLLOWERS, fence, message
from sides import OpenSide

from .calls import Calls

ONE = {"where": {"id": "u"}}


def user(action: Action, **arguments: Any) -> Operation:
    """An operation on users."""
    return Operation("User", action, arguments)


def create(db: Calls, name: str) -> Operation:
    """The creation of a user whose id is its name."""
    return db.pinned(user(Action.CREATE, data={"id": name, "email": f"{name}@example.com"}))


def rename(db: Calls, name: str, new: str) -> Operation:
    """The change of a user's name."""
    return db.pinned(user(Action.UPDATE, where={"id": name}, data={"name": new}))


async def ids(db: Calls) -> list[str]:
    """The ids of all users, as anybody sees them."""
    return [row.id for row in await db.user.find_many(order={"id": "asc"})]


async def wait_for(store: asyncpg.Connection, condition: str) -> None:
    """Wait until the server's view of the other sessions of this database meets a condition."""
    query = (
        "SELECT coalesce(bool_or(state LIKE 'idle in transaction%'), false) AS open,"
        " coalesce(bool_or(wait_event_type = 'Lock'), false) AS blocked,"
        " coalesce(max(clock_timestamp() - xact_start), interval '0') AS age"
        " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    while not await store.fetchval(f"SELECT {condition} FROM ({query}) AS session"):
        await asyncio.sleep(0.005)


# --- commit and rollback --------------------------------------------------------------------------------------


async def test_commit(empty: Calls, opened: OpenSide) -> None:
    """What a transaction does is its own until it is committed."""
    tx = await opened.path.begin()

    assert "a" == (await tx.execute(create(empty, "a"))).id
    assert "new" == (await tx.execute(rename(empty, "a", "new"))).name
    assert 1 == await tx.execute(user(Action.COUNT))
    assert [] == await ids(empty)
    await tx.commit()
    assert ["a"] == await ids(empty)
    assert opened.path.side is tx.side


async def test_rollback(empty: Calls, opened: OpenSide) -> None:
    """A rollback leaves nothing, whatever the operations were made of."""
    await empty.user.create(data={"id": "there", "email": "there@example.com"})
    tx = await opened.path.begin()
    await tx.execute(create(empty, "a"))
    data = {"create": {"id": "b", "email": "b@example.com"}, "update": {"name": "x"}}
    await tx.execute(empty.pinned(user(Action.UPSERT, where={"email": "there@example.com"}, data=data)))
    chat = {"subject": "s", "participants": {"connect": [{"id": "a"}]}}
    await tx.execute(empty.pinned(Operation("Conversation", Action.CREATE, {"data": chat})))
    await tx.execute(user(Action.DELETE, where={"id": "there"}, include={"items": True}))
    await tx.rollback()

    assert ["there"] == await ids(empty)
    assert (await empty.user.find_unique(where={"id": "there"})).name is None
    assert 0 == await empty.conversation.count()


async def test_read_committed(empty: Calls, opened: OpenSide) -> None:
    """A transaction sees what others have committed since it began."""
    tx = await opened.path.begin()

    assert 0 == await tx.execute(user(Action.COUNT))
    await empty.execute(create(empty, "a"))
    assert 1 == await tx.execute(user(Action.COUNT))
    await tx.rollback()


async def test_calls_of_several_tasks(empty: Calls, opened: OpenSide) -> None:
    """Calls that are made at the same time are executed one after the other."""
    tx = await opened.path.begin()
    await asyncio.gather(*(tx.execute(create(empty, name)) for name in "cab"))
    await tx.commit()

    assert ["a", "b", "c"] == await ids(empty)


async def test_a_missing_row_is_no_error(empty: Calls, opened: OpenSide) -> None:
    """Nothing to update or delete is None, and what is required and not found leaves the transaction as it is."""
    tx = await opened.path.begin()
    await tx.execute(create(empty, "a"))

    assert await tx.execute(rename(empty, "nobody", "x")) is None
    assert await tx.execute(user(Action.DELETE, where={"id": "nobody"})) is None
    with pytest.raises(RecordNotFoundError):
        await tx.execute(user(Action.FIND_UNIQUE_OR_RAISE, where={"id": "nobody"}))
    await tx.commit()
    assert ["a"] == await ids(empty)


async def test_an_error_aborts(empty: Calls, opened: OpenSide) -> None:
    """After an error of the store nothing more is done; to commit is no error, and writes nothing."""
    await empty.execute(create(empty, "there"))
    tx = await opened.path.begin()
    await tx.execute(create(empty, "a"))
    with pytest.raises(UniqueViolationError):
        await tx.execute(create(empty, "there"))

    with pytest.raises(DataError, match="transaction is aborted"):
        await tx.execute(create(empty, "b"))
    with pytest.raises(DataError, match="transaction is aborted"):
        await tx.execute(user(Action.COUNT))
    await tx.commit()
    assert ["there"] == await ids(empty)


async def test_wrong_arguments_do_not_abort(empty: Calls, opened: OpenSide) -> None:
    """What never reaches the store leaves the transaction as it is."""
    tx = await opened.path.begin()
    await tx.execute(create(empty, "a"))
    with pytest.raises(DataError):
        await tx.execute(user(Action.FIND_MANY, where={"nothing": 1}))
    await tx.commit()

    assert ["a"] == await ids(empty)


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_a_transaction_ends_once(empty: Calls, opened: OpenSide, ending: str) -> None:
    """Nothing can be asked of a transaction that is over."""
    tx = await opened.path.begin()
    await getattr(tx, ending)()
    reason = {"commit": "a committed transaction", "rollback": "a transaction that was rolled back"}[ending]

    asked = {
        "query": lambda: tx.execute(create(empty, "a")),
        "commit": tx.commit,
        "rollback": tx.rollback,
    }
    for verb, ask in asked.items():
        with pytest.raises(TransactionError, match=f"A {verb} cannot be executed on {reason}") as caught:
            await ask()
        assert "P2028" == caught.value.code
    with pytest.raises(TransactionError):
        await tx.hold(["User"])
    assert [] == await ids(empty)


async def test_a_time_that_is_over(empty: Calls, opened: OpenSide) -> None:
    """A transaction that nobody ends is rolled back by itself, and says so whatever is asked of it."""
    tx = await opened.path.begin(timeout=0.1)
    await tx.execute(create(empty, "a"))
    await wait_for(opened.store, "NOT open")

    for ask in (
        lambda: tx.execute(create(empty, "b")),
        lambda: tx.batch([create(empty, "c")]),
        tx.commit,
        tx.rollback,
    ):
        with pytest.raises(
            TransactionError, match=r"expired transaction. The timeout .* was 100 ms"
        ) as caught:
            await ask()
        assert "P2028" == caught.value.code
    assert [] == await ids(empty)


async def test_a_call_under_way_when_the_time_is_over(empty: Calls, opened: OpenSide) -> None:
    """It gets its answer, and then everything is rolled back."""
    await empty.execute(create(empty, "u"))
    tx = await opened.path.begin(timeout=0.1)
    async with opened.store.transaction():
        await opened.store.execute("SELECT 1 FROM users FOR UPDATE")
        waiting = asyncio.create_task(tx.execute(rename(empty, "u", "late")))
        await wait_for(opened.store, "blocked AND age > interval '0.15 s'")

    assert "late" == (await waiting).name
    with pytest.raises(TransactionError, match="Transaction already closed"):
        await tx.commit()
    assert (await empty.user.find_unique(where={"id": "u"})).name is None


# --- hold -----------------------------------------------------------------------------------------------------


async def locks(store: asyncpg.Connection, table: str) -> bool:
    """Whether the lock that changes a trigger can be had on a table."""
    await store.execute("SET lock_timeout = '30ms'")
    try:
        await store.execute(f'ALTER TABLE "{table}" ENABLE TRIGGER USER')
    except asyncpg.LockNotAvailableError:
        return False
    finally:
        await store.execute("RESET lock_timeout")
    return True


async def test_hold(empty: Calls, opened: OpenSide) -> None:
    """Whoever wants to change a fence waits until the transaction is over; readers and writers do not."""
    tx = await opened.path.begin()
    await tx.hold(["User"])

    assert not await locks(opened.store, "users")
    assert await locks(opened.store, "items")
    await empty.execute(create(empty, "a"))
    await tx.execute(create(empty, "b"))
    await tx.commit()
    assert await locks(opened.store, "users")


async def test_hold_is_given_up_with_a_rollback(empty: Calls, opened: OpenSide) -> None:
    """A lock does not outlive its transaction."""
    tx = await opened.path.begin()
    await tx.hold(["Item", "User", "Listing"])
    await tx.hold([])
    assert not await locks(opened.store, "items")
    await tx.rollback()

    assert await locks(opened.store, "items")


async def test_hold_of_an_unknown_model(empty: Calls, opened: OpenSide) -> None:
    """It is refused by name, and the transaction goes on."""
    tx = await opened.path.begin()
    with pytest.raises(UnknownModelError):
        await tx.hold(["Nobody"])
    await tx.execute(create(empty, "a"))
    await tx.commit()

    assert ["a"] == await ids(empty)


# --- batch ----------------------------------------------------------------------------------------------------


async def test_batch(empty: Calls, opened: OpenSide) -> None:
    """Several writes of every kind are done in turn."""
    people = [{"id": name, "email": f"{name}@example.com"} for name in "xyz"]
    upsert = {"create": {"id": "n", "email": "n@example.com"}, "update": {"name": "no"}}
    await opened.path.batch(
        [
            create(empty, "a"),
            create(empty, "b"),
            empty.pinned(user(Action.CREATE_MANY, data=people)),
            rename(empty, "a", "first"),
            empty.pinned(user(Action.UPDATE_MANY, where={"id": {"in": ["x", "y"]}}, data={"name": "many"})),
            empty.pinned(user(Action.UPSERT, where={"id": "n"}, data=upsert)),
            user(Action.DELETE, where={"id": "b"}, include={"items": True}),
            user(Action.DELETE_MANY, where={"id": "z"}),
            user(Action.DELETE_MANY, where={"id": "nobody"}),
            empty.pinned(user(Action.CREATE_MANY, data=[])),
        ]
    )
    rows = await empty.user.find_many(order={"id": "asc"})

    assert [("a", "first"), ("n", None), ("x", "many"), ("y", "many")] == [(row.id, row.name) for row in rows]


async def test_a_batch_is_all_or_nothing(empty: Calls, opened: OpenSide) -> None:
    """One refusal undoes the rest."""
    with pytest.raises(UniqueViolationError) as caught:
        await opened.path.batch([create(empty, "a"), create(empty, "b"), create(empty, "a")])

    assert ["id"] == caught.value.meta["target"]
    assert [] == await ids(empty)


@pytest.mark.parametrize(
    ("operation", "cause"),
    [
        (user(Action.UPDATE, where={"id": "nobody"}, data={"name": "x"}), "Record to update not found."),
        (user(Action.UPDATE, where={"id": "nobody"}, data={}), "Record to update not found."),
        (user(Action.DELETE, where={"id": "nobody"}), "Record to delete does not exist."),
        (
            user(Action.DELETE, where={"id": "nobody"}, include={"items": True}),
            "Record to delete does not exist.",
        ),
    ],
)
async def test_a_missing_row_in_a_batch(
    empty: Calls, opened: OpenSide, operation: Operation, cause: str
) -> None:
    """Alone it would be None; in a batch, whose answers nobody sees, it is an error."""
    with pytest.raises(RecordNotFoundError) as caught:
        await opened.path.batch([create(empty, "a"), empty.pinned(operation)])

    assert ("P2025", cause) == (caught.value.code, caught.value.meta["cause"])
    assert [] == await ids(empty)


async def test_a_connection_to_nothing_in_a_batch(empty: Calls, opened: OpenSide) -> None:
    """A row that is to be connected and is not there undoes the batch."""
    chat = {"subject": "s", "participants": {"connect": [{"id": "nobody"}]}}
    with pytest.raises(RecordNotFoundError):
        await opened.path.batch(
            [create(empty, "a"), empty.pinned(Operation("Conversation", Action.CREATE, {"data": chat}))]
        )

    assert [] == await ids(empty)
    assert 0 == await empty.conversation.count()


async def test_a_batch_takes_writes_only(empty: Calls, opened: OpenSide) -> None:
    """A read, or an argument that cannot be used, is refused before anything is done."""
    with pytest.raises(QueryError, match="find_many: a batch takes writes only"):
        await opened.path.batch([create(empty, "a"), user(Action.FIND_MANY)])
    with pytest.raises(DataError):
        await opened.path.batch([create(empty, "a"), user(Action.DELETE_MANY, where={"nothing": 1})])
    with pytest.raises(UnknownModelError):
        await opened.path.batch([create(empty, "a"), Operation("Nobody", Action.DELETE_MANY, {})])

    assert [] == await ids(empty)


async def test_an_empty_batch(empty: Calls, opened: OpenSide) -> None:
    """Nothing to do is done at once."""
    await opened.path.batch([])

    assert [] == await ids(empty)


async def test_a_batch_in_a_transaction(empty: Calls, opened: OpenSide) -> None:
    """It belongs to the transaction; a row that is missing leaves what was done before to it."""
    tx = await opened.path.begin()
    await tx.batch([create(empty, "a"), rename(empty, "a", "x")])
    with pytest.raises(RecordNotFoundError):
        await tx.batch([create(empty, "b"), rename(empty, "nobody", "x")])
    assert [] == await ids(empty)
    await tx.commit()

    assert ["a", "b"] == await ids(empty)


# --- fences ---------------------------------------------------------------------------------------------------

_ROW = {"id": "new", "email": "new@example.com"}
WRITES = {
    "create": user(Action.CREATE, data=_ROW),
    "create and include": user(Action.CREATE, data=_ROW, include={"items": True}),
    "create_many": user(Action.CREATE_MANY, data=[_ROW]),
    "create_many of two shapes": user(
        Action.CREATE_MANY, data=[_ROW, {"id": "o", "email": "o@example.com", "name": "n"}]
    ),
    "create_many and skip": user(Action.CREATE_MANY, data=[_ROW], skip_duplicates=True),
    "update": user(Action.UPDATE, **ONE, data={"name": "x"}),
    "update of nothing": user(Action.UPDATE, where={"id": "nobody"}, data={"name": "x"}),
    "update_many": user(Action.UPDATE_MANY, where={}, data={"name": "x"}),
    "upsert, native": user(
        Action.UPSERT, **ONE, data={"create": {"id": "u", "email": "n@example.com"}, "update": {"name": "x"}}
    ),
    "upsert, found": user(Action.UPSERT, **ONE, data={"create": _ROW, "update": {"name": "x"}}),
    "upsert, new": user(Action.UPSERT, where={"id": "n"}, data={"create": _ROW, "update": {"name": "x"}}),
    "delete": user(Action.DELETE, **ONE),
    "delete and include": user(Action.DELETE, **ONE, include={"items": True}),
    "delete_many": user(Action.DELETE_MANY, where={}),
}


async def alone(opened: OpenSide, operation: Operation, expected: Any) -> None:
    """Execute a write that is refused."""
    with expected:
        await opened.path.execute(operation)


async def within(opened: OpenSide, operation: Operation, expected: Any) -> None:
    """Execute it in a transaction, which is aborted by it."""
    tx: PathTransaction = await opened.path.begin()
    with expected:
        await tx.execute(operation)
    with pytest.raises(DataError, match="transaction is aborted"):
        await tx.execute(user(Action.COUNT))
    await tx.rollback()


async def together(opened: OpenSide, operation: Operation, expected: Any) -> None:
    """Execute it in a batch."""
    with expected:
        await opened.path.batch([operation])


Way = Callable[[OpenSide, Operation, Any], Awaitable[None]]


@pytest.mark.parametrize("way", [alone, within, together])
@pytest.mark.parametrize("write", list(WRITES))
async def test_a_fence_refuses_authors(empty: Calls, opened: OpenSide, write: str, way: Way) -> None:
    """Every write of an author is refused by one class of error, in the fence's own words, and nothing is written."""
    before = await empty.execute(create(empty, "u"))
    async with fence(opened.store, "users"):
        expected = pytest.raises(WrongAuthorityError)
        await way(opened, empty.pinned(WRITES[write]), expected)

        assert message("XF001", "users") == str(expected.excinfo.value)
        assert [before] == await empty.user.find_many()


async def test_a_fence_refuses_what_reaches_another_model(empty: Calls, opened: OpenSide) -> None:
    """A write that is refused on the way undoes what it did before."""
    await empty.execute(create(empty, "u"))
    chat = {"subject": "s", "participants": {"connect": [{"id": "u"}]}}
    async with fence(opened.store, "_ConversationParticipants"):
        with pytest.raises(WrongAuthorityError):
            await empty.conversation.create(data=chat)

    assert 0 == await empty.conversation.count()


async def test_a_hold_meets_the_fence(empty: Calls, opened: OpenSide) -> None:
    """Before anything is read or written on a side that has lost the authority."""
    tx = await opened.path.begin()
    await tx.hold(["Item"])
    async with fence(opened.store, "users"):
        with pytest.raises(WrongAuthorityError):
            await tx.hold(["User"])
        await tx.rollback()

    assert 0 == await empty.user.count()


async def test_a_fence_undoes_a_batch(empty: Calls, opened: OpenSide) -> None:
    """A batch that meets a fence half-way leaves nothing."""
    await empty.execute(create(empty, "u"))
    async with fence(opened.store, "items"):
        with pytest.raises(WrongAuthorityError):
            await opened.path.batch(
                [create(empty, "v"), Operation("Item", Action.DELETE_MANY, {"where": {}})]
            )

    assert ["u"] == await ids(empty)


@pytest.mark.parametrize("way", [alone, within, together])
async def test_a_late_write(empty: Calls, opened: OpenSide, way: Way) -> None:
    """What a fence says to followers is an error of its own, whoever it is said to."""
    before = await empty.execute(create(empty, "u"))
    async with fence(opened.store, "users", FOLLOWERS, everybody=True):
        expected = pytest.raises(LateWriteError)
        await way(opened, empty.pinned(WRITES["update"]), expected)

        assert message(FOLLOWERS, "users") == str(expected.excinfo.value)
        assert [before] == await empty.user.find_many()


async def test_an_author_passes_the_fence_for_followers(empty: Calls, opened: OpenSide) -> None:
    """Only those who say that they are followers are refused."""
    async with fence(opened.store, "users", FOLLOWERS):
        await empty.execute(create(empty, "a"))

    assert ["a"] == await ids(empty)
