"""Every write that can come between the reading of a chunk and its commit: nothing is lost, nothing returns."""

from __future__ import annotations

import asyncio

import pytest
from copies import Once, backfill, terminate_workers
from twins import P, S, Twins

from crossfade.backfill import CopyPoint

RACES: dict[str, tuple[str, ...]] = {
    "update": ("UPDATE \"Ware\" SET value = 'new' WHERE id = 50",),
    "update and back": (
        "UPDATE \"Ware\" SET value = 'new' WHERE id = 50",
        "UPDATE \"Ware\" SET value = 'old' WHERE id = 50",
    ),
    "delete": ('DELETE FROM "Ware" WHERE id = 50',),
    "delete many": ('DELETE FROM "Ware" WHERE id % 20 = 0',),
    "insert": ("INSERT INTO \"Ware\" VALUES (55, 'fresh', 'new', 1)",),
    "insert behind the end": ("INSERT INTO \"Ware\" VALUES (5000, 'fresh', 'new', 1)",),
    "key change": ('UPDATE "Ware" SET id = 55 WHERE id = 50',),
    "key change out of the chunk": ('UPDATE "Ware" SET id = 5000 WHERE id = 50',),
    "every key changes": ('UPDATE "Ware" SET id = id + 10000',),
    "unique swap": (
        "UPDATE \"Ware\" SET code = 'aside' WHERE id = 50",
        "UPDATE \"Ware\" SET code = 'code 5' WHERE id = 60",
        "UPDATE \"Ware\" SET code = 'code 6' WHERE id = 50",
    ),
    "unique value handed on": (
        "UPDATE \"Ware\" SET code = 'another' WHERE id = 50",
        "INSERT INTO \"Ware\" VALUES (55, 'code 5', 'new', 1)",
    ),
    "parent deleted": ('DELETE FROM "Shop" WHERE id = 2',),
    "parent gets another key": ('UPDATE "Shop" SET id = 77 WHERE id = 2',),
    "deleted and made again": (
        'DELETE FROM "Ware" WHERE id = 50',
        "INSERT INTO \"Ware\" VALUES (50, 'code 5', 'made again', 3)",
    ),
    "deleted, and its code given to another": (
        'DELETE FROM "Ware" WHERE id = 50',
        "INSERT INTO \"Ware\" VALUES (55, 'code 5', 'new', 3)",
    ),
    "truncate": ('TRUNCATE "Ware"',),
    "truncate and fill": ('TRUNCATE "Ware"', "INSERT INTO \"Ware\" VALUES (50, 'code 5', 'new', 1)"),
}


async def write_and_verify(twins: Twins, race: str) -> None:
    """Write to the legacy store, statement by statement, and have each verified as far as that goes."""
    reconciler = twins.reconciler(lock_timeout=0.05)
    for statement in RACES[race]:
        await twins.write(P, statement)
        for _ in range(2):  # a TRUNCATE becomes the keys that there are, first
            await reconciler.run_once(settle=0)


@pytest.mark.parametrize("point", CopyPoint)
@pytest.mark.parametrize("race", RACES)
async def test_a_write_that_is_verified_while_its_chunk_is_on_its_way(
    shop: Twins, race: str, point: CopyPoint
) -> None:
    """The reconciler looks while it can see none of the chunk; both stores end level nevertheless."""
    hook = Once(point, "Ware", lambda: write_and_verify(shop, race))

    await backfill(shop, at=hook, workers=1)

    assert hook.done
    await shop.assert_level()


@pytest.mark.parametrize("point", [CopyPoint.READ, CopyPoint.INSERTED])
async def test_without_the_check_a_deleted_row_returns(shop: Twins, point: CopyPoint) -> None:
    """It is there in the target, gone from the legacy store, and nothing is left that would tell of it."""
    hook = Once(point, "Ware", lambda: write_and_verify(shop, "delete"))

    await backfill(shop, at=hook, workers=1, checked=False)

    assert [0, 0] == [await shop.captured(side) for side in (P, S)]
    assert [50] == await shop.column(S, 'SELECT id FROM "Ware" WHERE id = 50')
    assert [] == await shop.column(P, 'SELECT id FROM "Ware" WHERE id = 50')


@pytest.mark.parametrize("race", RACES)
async def test_a_write_while_nobody_reconciles(shop: Twins, race: str) -> None:
    """As at `off`: what is captured waits for the end of the backfill."""

    async def write() -> None:
        await shop.write(P, *RACES[race])

    hook = Once(CopyPoint.READ, "Ware", write)

    await backfill(shop, at=hook, workers=1)

    assert hook.done
    await shop.assert_level()


@pytest.mark.parametrize("race", RACES)
async def test_a_write_while_two_workers_copy_and_somebody_reconciles(shop: Twins, race: str) -> None:
    """As at `dualwrite`: in small chunks, with the background loop of an application."""
    passed = 0

    async def at(point: CopyPoint, model: str) -> None:
        nonlocal passed
        if model == "Ware" and point in (CopyPoint.READ, CopyPoint.INSERTED):
            passed += 1
            if passed == 3:
                await shop.write(P, *RACES[race])
            await asyncio.sleep(0)

    async with shop.reconciler(settle=0.0, interval=0.001, lock_timeout=0.05):
        await backfill(shop, at=at, workers=2, first_chunk=8, smallest_chunk=8, largest_chunk=8)

    assert passed >= 3
    assert await shop.reconciler().drain(["Shop", "Ware"], 20)
    await shop.assert_level()


@pytest.mark.parametrize("point", CopyPoint)
async def test_a_delete_while_the_worker_dies(shop: Twins, point: CopyPoint) -> None:
    """Whoever goes on owes the check as well."""

    async def write_and_die() -> None:
        await write_and_verify(shop, "delete")
        await terminate_workers(shop)

    hook = Once(point, "Ware", write_and_die)

    await backfill(shop, at=hook, workers=1)

    assert hook.done
    await shop.assert_level()
