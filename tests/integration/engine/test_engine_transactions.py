"""Interactive transactions on our engine."""

from __future__ import annotations

from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_what_is_committed_stays_and_is_hidden_until_then(db: Any) -> None:
    """A transaction sees its own rows, others see them after the commit; a batch inside joins it."""
    async with db.tx() as tx:
        await tx.tag.create(data={"id": 1, "label": "1"})
        batch = tx.batch_()
        batch.tag.create(data={"id": 2, "label": "2"})
        await batch.commit()
        inside, outside = await tx.tag.count(), await db.tag.count()

    assert (2, 0, 2) == (inside, outside, await db.tag.count())


async def test_an_exception_rolls_back(db: Any) -> None:
    """Leaving the context by an exception undoes everything."""

    async def fail() -> None:
        async with db.tx() as tx:
            await tx.tag.create(data={"id": 10, "label": "10"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert None is await db.tag.find_unique(where={"id": 10})


async def test_an_expired_transaction_is_rolled_back_and_says_so(db: Any, prisma_package: ModuleType) -> None:
    """After its timeout, a query in a transaction is TransactionExpiredError, its end is refused, nothing stays."""
    manager = db.tx(timeout=timedelta(milliseconds=100))
    tx = await manager.start()
    await tx.tag.create(data={"id": 20, "label": "20"})
    await db.query_raw(
        "SELECT 1 FROM pg_sleep(0.3)"
    )  # the server's clock passes, whatever this machine is busy with

    with pytest.raises(prisma_package.errors.TransactionExpiredError, match=r"100 ms, however [1-9]\d\d"):
        await tx.tag.count()
    with pytest.raises(prisma_package.engine.errors.UnprocessableEntityError):
        await manager.commit()

    assert None is await db.tag.find_unique(where={"id": 20})


async def test_a_finished_transaction_is_closed(db: Any, prisma_package: ModuleType) -> None:
    """After the commit, a query is TransactionExpiredError and another commit is refused."""
    manager = db.tx()
    tx = await manager.start()
    await manager.commit()

    with pytest.raises(prisma_package.errors.TransactionExpiredError, match="committed"):
        await tx.tag.count()
    with pytest.raises(prisma_package.engine.errors.UnprocessableEntityError):
        await manager.commit()


async def test_an_unknown_transaction_is_refused(db: Any, prisma_package: ModuleType) -> None:
    """An id that was never given out is refused, and the engine lives on."""
    stranger = db._copy()
    stranger._tx_id = "never-begun"

    with pytest.raises(prisma_package.errors.TransactionError, match="not found"):
        await stranger.tag.count()
    with pytest.raises(prisma_package.engine.errors.EngineRequestError, match="404"):
        await db._engine.commit_transaction("never-begun")

    assert 0 <= await db.tag.count()


async def test_waiting_for_a_connection_ends(db: Any, prisma_package: ModuleType) -> None:
    """When every connection is taken, a transaction gives up after max_wait, and does not linger."""
    holders = [db.tx() for _ in range(4)]
    for holder in holders:
        await holder.start()

    with pytest.raises(
        prisma_package.engine.errors.EngineRequestError, match="Unable to start a transaction"
    ):
        await db.tx(max_wait=timedelta(milliseconds=50)).start()
    for holder in holders:
        await holder.rollback()

    async with db.tx() as tx:
        assert 0 <= await tx.tag.count()


async def test_a_transaction_whose_connection_breaks_gives_it_back(
    db: Any, prisma_package: ModuleType
) -> None:
    """More broken transactions than there are connections leave the engine as able as before."""
    for _ in range(6):
        manager = db.tx()
        tx = await manager.start()
        with pytest.raises(prisma_package.errors.DataError) as lost:
            await tx.query_raw("SELECT pg_terminate_backend(pg_backend_pid())")
        assert "P1017" == lost.value.code
        with pytest.raises(prisma_package.engine.errors.EngineRequestError):
            await manager.rollback()

    async with db.tx() as tx:
        assert 0 <= await tx.tag.count()
