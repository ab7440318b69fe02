"""The Prisma path and its engine: sequences, a database that is not there, and an engine that dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.errors import (
    ConnectionLostError,
    EngineError,
    FieldNotFoundError,
    QueryError,
    StoreUnavailableError,
    UnknownModelError,
)
from crossfade.operation import Action, Operation
from crossfade.paths.prisma import PrismaPath
from crossfade.stages import Side
from marketplace.records import RECORDS
from sides import OpenSide, marketplace_schema, open_side

COUNT = Operation("User", Action.COUNT, {})


def new_user(number: int) -> Operation:
    """The creation of a user."""
    return Operation("User", Action.CREATE, {"data": {"email": f"{number}@example.com"}})


@pytest.fixture
async def opened(fresh_database: Any) -> AsyncIterator[OpenSide]:
    """The Prisma side on a database of its own."""
    async with open_side(Side.PRISMA, await fresh_database()) as side:
        yield side


def engine_pid(path: Any) -> int:
    """The process id of the engine behind a path."""
    pid: int = path.client._internal_engine.process.pid
    return pid


async def test_a_read_survives_the_end_of_the_engine(opened: OpenSide) -> None:
    """A read that finds the engine gone is answered by a new one."""
    await opened.path.execute(new_user(1))
    os.kill(engine_pid(opened.path), signal.SIGKILL)

    assert 1 == await opened.path.execute(COUNT)


async def test_a_write_is_never_sent_twice(opened: OpenSide) -> None:
    """A write that finds the engine gone fails, and the one after it is done."""
    os.kill(engine_pid(opened.path), signal.SIGKILL)

    with pytest.raises(ConnectionLostError):
        await opened.path.execute(new_user(1))
    await opened.path.execute(new_user(2))
    assert 1 == await opened.path.execute(COUNT)


async def test_many_callers_start_one_engine(opened: OpenSide) -> None:
    """However many callers see the engine go, it is started again once."""
    before = engine_pid(opened.path)
    calls = [asyncio.create_task(opened.path.execute(COUNT)) for _ in range(30)]
    await asyncio.sleep(0)
    os.kill(before, signal.SIGKILL)

    assert [0] * 30 == await asyncio.gather(*calls)
    after = engine_pid(opened.path)
    assert before != after
    assert [0] * 30 == await asyncio.gather(*(opened.path.execute(COUNT) for _ in range(30)))
    assert after == engine_pid(opened.path)


async def test_a_cancelled_call_leaves_the_path_usable(opened: OpenSide) -> None:
    """Cancellation is passed on, and nothing is held back for it."""
    call = asyncio.create_task(opened.path.execute(COUNT))
    await asyncio.sleep(0)
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert 0 == await opened.path.execute(COUNT)


async def test_close_waits_for_calls_under_way(opened: OpenSide) -> None:
    """What was asked before closing is answered."""
    calls = [asyncio.create_task(opened.path.execute(new_user(number))) for number in range(10)]
    await asyncio.sleep(0)
    await opened.path.close()

    assert 10 == len({user.id for user in await asyncio.gather(*calls)})
    await opened.path.connect()
    assert 10 == await opened.path.execute(COUNT)


async def test_a_closed_path_stays_closed(opened: OpenSide) -> None:
    """No engine is started for a call that comes too late."""
    await opened.path.close()

    with pytest.raises(ConnectionLostError):
        await opened.path.execute(COUNT)
    assert not opened.path.client.is_connected()


async def test_sequences(opened: OpenSide) -> None:
    """A sequence gives out values, tells the last one, and only ever moves forward."""
    path = opened.path

    assert 0 == await path.sequence_value("Shipment", "id")
    assert [1, 2, 3] == await path.reserve("Shipment", "id", 3)
    assert 3 == await path.sequence_value("Shipment", "id")
    await path.advance_sequence("Shipment", "id", 100)
    await path.advance_sequence("Shipment", "id", 50)
    assert [101] == await path.reserve("Shipment", "id", 1)
    await asyncio.gather(*(path.advance_sequence("AnalyticsSnapshot", "id", value) for value in range(1, 30)))
    assert 29 == await path.sequence_value("AnalyticsSnapshot", "id")
    assert [] == await path.reserve("Shipment", "id", 0)


async def test_a_database_that_is_not_there(postgres: EmbeddedPostgres) -> None:
    """The reason is told in one line, without the password."""
    dsn = Dsn.parse(postgres.dsn("no_such_database"))
    path = PrismaPath.open(marketplace_schema(), RECORDS, "marketplace.prisma_client", dsn)

    with pytest.raises(StoreUnavailableError) as caught:
        await path.connect()
    await path.close()
    assert "no_such_database" in str(caught.value)
    assert postgres._password not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_client_that_was_never_generated() -> None:
    """The message says what to do."""
    with pytest.raises(EngineError, match="generate it"):
        PrismaPath.open(
            marketplace_schema(), RECORDS, "marketplace.no_such_client", "postgresql://localhost/x"
        )


async def test_arguments_that_cannot_be_sent(opened: OpenSide) -> None:
    """What the client itself refuses is the caller's to correct."""
    with pytest.raises(FieldNotFoundError):
        await opened.path.execute(Operation("User", Action.FIND_MANY, {"where": {"email": object()}}))
    with pytest.raises(FieldNotFoundError):
        await opened.path.execute(Operation("User", Action.FIND_MANY, {"where": {"email": "\ud800"}}))
    with pytest.raises(QueryError):
        await opened.path.execute(Operation("User", Action.FIND_UNIQUE, {}))
    with pytest.raises(UnknownModelError):
        await opened.path.execute(Operation("Nobody", Action.COUNT, {}))


async def test_errors_keep_their_cause(opened: OpenSide) -> None:
    """Prisma's own error is the cause, for who wants to look."""
    operation = Operation("Item", Action.CREATE, {"data": {"sku": "x", "title": "x", "price": Decimal(1)}})

    with pytest.raises(Exception, match="A value is required") as caught:
        await opened.path.execute(operation)
    assert "MissingRequiredValueError" == type(caught.value.__cause__).__name__
