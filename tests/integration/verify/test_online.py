"""Verifying while others write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import asyncpg
import pytest
from planting import SMALL_CHUNKS, fill, filling, one_key, thing_ddl, unseen, verify_one
from twins import MakeTwins, Twins

from crossfade.stages import Side
from crossfade.verify import Kind, Verdict, VerifySettings

P, S = Side.PRISMA, Side.SQLALCHEMY
ROWS = 1_000


async def things(make: MakeTwins) -> Twins:
    twins = await make(one_key("Int"), thing_ddl("id integer PRIMARY KEY"))
    await fill(twins, filling(ROWS, "n"))
    return twins


@asynccontextmanager
async def written(twins: Twins) -> AsyncIterator[None]:
    """Write hot keys all the time, insert, delete and change keys; have a reconciler follow."""
    connection = await asyncpg.connect(**twins.stores[P].dsn.asyncpg_kwargs())

    async def write() -> None:
        for n in count():
            hot = n % 20
            await connection.execute(
                'UPDATE "Thing" SET count = $1, is_new = NOT is_new WHERE id = $2', n, hot
            )
            await connection.execute('INSERT INTO "Thing" (id, name) VALUES ($1, $2)', 10_000 + n, "new")
            await connection.execute('UPDATE "Thing" SET id = -id WHERE id = $1', 10_000 + n - 5)
            await connection.execute('DELETE FROM "Thing" WHERE id = $1', -(10_000 + n - 15))

    async with twins.reconciler(settle=0.02):
        task = asyncio.create_task(write())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await connection.close()


@pytest.mark.parametrize("side", [P, S])
async def test_hot_rows_are_no_differences(make: MakeTwins, side: Side) -> None:
    """Of rows that are written all the time none is said to differ; a cold one that does is found among them."""
    twins = await things(make)
    await unseen(twins, side, "Thing", "UPDATE \"Thing\" SET name = 'planted' WHERE id = 500")
    settings = VerifySettings(settle=0.05, patience=0.5, chunk_rows=100, largest_chunk=100)
    async with written(twins):
        for _ in range(4):
            report = await verify_one(twins, settings, fresh=True)
            assert [(("500",), Kind.DIFFERENT, ("name",))] == [
                (row.key, row.kind, row.columns) for row in report.examples
            ]
            assert (Verdict.DIFFERING, 1) == (report.state, report.remaining)
        repaired = await verify_one(twins, settings, repair=True)
    assert (1, 0) == (repaired.repaired, repaired.remaining)
    assert Verdict.CLEAN == (await verify_one(twins, settings)).state
    await twins.reconciler().drain(["Thing"], 10)
    expected = "planted" if side is P else "name 500"
    assert [expected] == await twins.column(S, 'SELECT name FROM "Thing" WHERE id = 500')


async def test_captured_keys_are_settled_first(make: MakeTwins) -> None:
    """Where nobody else works them off, the reconciler of the run does: they are no differences."""
    twins = await things(make)
    await twins.write(P, 'UPDATE "Thing" SET count = 0 WHERE id <= 300', 'DELETE FROM "Thing" WHERE id > 900')
    report = await verify_one(twins, SMALL_CHUNKS)
    assert (Verdict.CLEAN, 900) == (report.state, report.rows)
    await twins.assert_level()


@pytest.mark.parametrize("statement", ['UPDATE "Thing" SET count = 0 WHERE id = 7', 'TRUNCATE "Thing"'])
async def test_keys_that_do_not_come_to_rest(make: MakeTwins, statement: str) -> None:
    """A captured key that nobody settles in time is neither equal nor different: the table is unsettled."""
    twins = await things(make)
    twins.authority["Thing"] = None
    await twins.write(P, statement)
    settings = VerifySettings(settle=0.02, patience=0.1, most_differences=5_000)
    report = await verify_one(twins, settings)
    keys = 1 if "UPDATE" in statement else ROWS
    assert (Verdict.UNSETTLED, keys, 0) == (report.state, report.in_flight, report.remaining)


async def test_a_row_that_a_store_refuses_differs(make: MakeTwins) -> None:
    """A captured key that cannot be settled is a difference, not one in flight for ever."""
    twins = await things(make)
    await twins.plain[S].execute('ALTER TABLE "Thing" ADD CHECK (count >= 0)')
    await twins.write(P, 'UPDATE "Thing" SET count = -1 WHERE id = 7')
    report = await verify_one(twins, VerifySettings(settle=0.02, patience=0.3))
    assert (Verdict.DIFFERING, {"count": 1}, 0) == (report.state, report.columns, report.in_flight)
    repaired = await verify_one(twins, VerifySettings(settle=0.02, patience=0.3), repair=True)
    assert (Verdict.DIFFERING, 0, 1) == (repaired.state, repaired.repaired, repaired.remaining)
