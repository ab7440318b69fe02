"""Backfill and verify over a mapping: what they copy and compare is what the reconciler would."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping

import asyncpg
import pytest

from crossfade.backfill import Backfill
from crossfade.dsn import Dsn
from crossfade.errors import BackfillError
from crossfade.events import NullObserver
from crossfade.reconcile import Reconciler, ReconcileSettings
from crossfade.stages import Side
from crossfade.store import Fence, Store
from crossfade.store.install import install
from crossfade.store.objects import set_fence
from crossfade.verify.verify import Verify
from databases import FreshDatabase
from workshop import LEGACY, MAPPINGS, MODELS, SAME, TARGET, WORKSHOP

ROWS = f"""
INSERT INTO "Owner" SELECT md5(n::text)::uuid::text, 'e' || n, CASE WHEN n % 3 = 0 THEN NULL ELSE 'n' || n END,
    '2024-01-01'::timestamp + n * interval '1 ms', CASE WHEN n % 2 = 0 THEN 'p' || n END, 'kept', n
    FROM generate_series(1, 60) n;
INSERT INTO "Account" SELECT CASE WHEN n % 2 = 0 THEN 'eu' ELSE 'us' END, n, md5(n::text)::uuid::text, n * 7 - 100,
    (ARRAY['OPEN', 'DONE'])[1 + n % 2]::"Status" FROM generate_series(1, 60) n;
INSERT INTO "Ticket" SELECT n, CASE WHEN n % 2 = 0 THEN 'eu' ELSE 'us' END, n, 't' || n, '{uuid.UUID(int=0xABCD)}', n,
    CASE WHEN n % 4 = 0 THEN n + 1 END FROM generate_series(1, 60) n WHERE n < 60;
INSERT INTO "Tag" SELECT n, 'tag ' || n FROM generate_series(1, 5) n;
INSERT INTO "_Labels" SELECT 1 + n % 5, n FROM generate_series(1, 59) n;
"""


@pytest.fixture
async def stores(fresh_database: FreshDatabase) -> AsyncIterator[Mapping[Side, Store]]:
    """The workshop, with rows that were there before crossfade was."""
    opened: dict[Side, Store] = {}
    for side, ddl in ((Side.PRISMA, LEGACY + ROWS), (Side.SQLALCHEMY, TARGET)):
        dsn = await fresh_database()
        await _run(dsn, ddl)
        opened[side] = Store(side, dsn, WORKSHOP, mappings=MAPPINGS)
        await install(opened[side], by="test")
    yield opened
    for store in opened.values():
        await store.close()


async def _run(dsn: Dsn, *statements: str) -> None:
    connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _rows(dsn: Dsn, query: str) -> list[str]:
    connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        await connection.execute("SET TimeZone = 'UTC'")
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


def _reconciler(stores: Mapping[Side, Store], authority: Side) -> Reconciler:
    return Reconciler(stores, lambda _: authority, NullObserver(), ReconcileSettings(settle=0.05))


async def test_every_row_arrives_and_verifies(stores: Mapping[Side, Store]) -> None:
    """Under its other name, in its other form; a planted difference is found by the legacy store's name."""
    reconciler = _reconciler(stores, Side.PRISMA)
    progress = await Backfill(stores, reconciler).run()

    assert {"done"} == {table.state for table in progress}
    for legacy, target in SAME.values():
        rows = await _rows(stores[Side.PRISMA].dsn, legacy)
        assert rows
        assert rows == await _rows(stores[Side.SQLALCHEMY].dsn, target)
    assert {"clean"} == {report.state for report in await Verify(stores, reconciler).run()}
    await _run(
        stores[Side.SQLALCHEMY].dsn,
        "SET crossfade.role = 'follower'",
        """UPDATE ledger SET balance = balance + 0.01 WHERE "no" = 5""",
        "UPDATE people.owners SET phone_hash = 'other' WHERE email = 'e2'",
        "DELETE FROM desk.labels WHERE ticket = 7",
        "DELETE FROM crossfade.change",
    )
    reports = {report.model: report for report in await Verify(stores, reconciler).run(fresh=True)}
    assert {"cents": 1} == dict(reports["Account"].columns)
    assert {"phone": 1} == dict(reports["Owner"].columns)
    assert 1 == reports["_Labels"].missing
    await Verify(stores, reconciler).run(repair=True, fresh=True)
    assert {"clean"} == {report.state for report in await Verify(stores, reconciler).run(fresh=True)}


async def test_a_key_that_would_be_spelled_differently_stands_alone(stores: Mapping[Side, Store]) -> None:
    """It is told with its reason, and every other row has arrived."""
    capitals = str(uuid.UUID(int=0xABCD)).upper()
    await _run(
        stores[Side.PRISMA].dsn,
        f"INSERT INTO \"Owner\" (id, email, born) VALUES ('{capitals}', 'x', now()::timestamp)",
        "DELETE FROM crossfade.change",
    )
    with pytest.raises(BackfillError, match="22P02"):
        await Backfill(stores, _reconciler(stores, Side.PRISMA)).run(["Owner"])
    assert [60] == await _rows(stores[Side.SQLALCHEMY].dsn, "SELECT count(*) FROM people.owners")


async def test_what_crosses_one_way_is_not_compared_the_other_way(stores: Mapping[Side, Store]) -> None:
    """When the target has the authority, its own value of such a column is no difference."""
    await Backfill(stores, _reconciler(stores, Side.PRISMA)).run()
    for side, store in stores.items():
        state = Fence.AUTHORITY if side is Side.SQLALCHEMY else Fence.FOLLOWER
        await _run(
            store.dsn,
            *(statement for table in store.tables.of(MODELS) for statement in set_fence(table, state)),
            "UPDATE crossfade.record SET stage = 'live', epoch = epoch + 1",
        )
    reconciler = _reconciler(stores, Side.SQLALCHEMY)
    await _run(
        stores[Side.SQLALCHEMY].dsn,
        "UPDATE people.owners SET phone_hash = 'other' WHERE email = 'e2'",
        'UPDATE ledger SET balance = 5 WHERE "no" = 5',
    )
    assert await reconciler.drain(MODELS, 20)
    assert [500] == await _rows(stores[Side.PRISMA].dsn, 'SELECT cents FROM "Account" WHERE number = 5')
    assert {"clean"} == {report.state for report in await Verify(stores, reconciler).run()}
