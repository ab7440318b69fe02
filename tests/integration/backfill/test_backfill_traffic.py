"""A backfill while an application writes anything at all and workers die."""

from __future__ import annotations

import asyncio
import random

import asyncpg
import pytest
from copies import backfill, forget, terminate_workers
from twins import P, Twins

from crossfade.backfill import CopyPoint

ROWS = 1500


def statement(rng: random.Random, fresh: int) -> list[str]:
    """One transaction of an application, most of them on the same few rows."""
    some = (rng.randrange(1, ROWS + 1) if rng.random() < 0.6 else rng.randrange(1, 20)) * 10
    other = rng.randrange(1, ROWS + 1) * 10
    shop = rng.randrange(6, 16)
    match rng.randrange(13):
        case 0 | 1 | 2:
            return [f"UPDATE \"Ware\" SET value = 'new {fresh}' WHERE id = {some}"]
        case 3:
            return [f"UPDATE \"Ware\" SET code = 'fresh {fresh}' WHERE id BETWEEN {some} AND {some} + 50"]
        case 4 | 5:
            return [f'DELETE FROM "Ware" WHERE id = {some}']
        case 6:
            return [f'DELETE FROM "Ware" WHERE id BETWEEN {some} AND {some} + 100']
        case 7:
            return [
                f"INSERT INTO \"Ware\" VALUES ({some} + 1, 'made {fresh}', 'x', {shop}) ON CONFLICT DO NOTHING"
            ]
        case 8:
            return [
                f'DELETE FROM "Ware" WHERE id = {some}',
                f"INSERT INTO \"Ware\" VALUES ({some}, 'again {fresh}', 'x', {shop}) ON CONFLICT DO NOTHING",
            ]
        case 9:
            return [
                f'UPDATE "Ware" SET id = {200_000 + fresh} WHERE id = {some}',
                f'UPDATE "Ware" SET id = {some} WHERE id = {other}',
            ]
        case 10:
            return [
                f"UPDATE \"Ware\" SET code = 'aside' WHERE id = {some}",
                f"UPDATE \"Ware\" SET code = 'fresh {fresh}' WHERE id = {other}",
            ]
        case 11:
            return [f'DELETE FROM "Shop" WHERE id = {shop}', f"INSERT INTO \"Shop\" VALUES ({shop}, 'new')"]
        case _:
            return [f'UPDATE "Ware" SET shop_id = {shop} WHERE id = {some}']


async def write(shop: Twins, rng: random.Random, until: asyncio.Event) -> int:
    """Be the application until the event; return how many transactions it made."""
    connection = await asyncpg.connect(**shop.stores[P].dsn.asyncpg_kwargs())
    done = 0
    try:
        while not until.is_set():
            try:
                async with connection.transaction():
                    for text in statement(rng, done):
                        await connection.execute(text)
            except asyncpg.IntegrityConstraintViolationError:
                pass  # what an application would get, too
            done += 1
    finally:
        connection.terminate()
    return done


@pytest.mark.parametrize("truncates", [False, True])
@pytest.mark.parametrize("seed", range(2))
async def test_nothing_is_lost_and_nothing_returns(shop: Twins, seed: int, truncates: bool) -> None:
    """Both stores are level in the end, row by row, whatever came between."""
    rng = random.Random(seed)
    await shop.write(
        P,
        "INSERT INTO \"Shop\" SELECT n, 'small ' || n FROM generate_series(6, 15) n",
        "INSERT INTO \"Ware\" SELECT n * 10, 'code ' || n, 'old', 1 + n % 5"
        f" FROM generate_series(41, {ROWS}) n",
    )
    await forget(shop)
    over = asyncio.Event()
    passed = 0

    async def at(point: CopyPoint, model: str) -> None:
        nonlocal passed
        passed += model == "Ware"
        if passed % 40 == 39:
            passed += 1
            await terminate_workers(shop)
        if truncates and passed == 101:
            passed += 1
            await shop.write(P, 'TRUNCATE "Ware"')

    async with shop.reconciler(settle=0.0, interval=0.001, lock_timeout=0.05):
        writing = asyncio.create_task(write(shop, rng, over))
        try:
            await backfill(
                shop,
                at=at,
                workers=2,
                first_chunk=50,
                smallest_chunk=50,
                largest_chunk=50,
                attempts=50,
                settle_deadline=60,
            )
        finally:
            over.set()
            written = await writing

    assert 50 < written
    assert 60 < passed
    assert await shop.reconciler().drain(["Shop", "Ware"], 30)
    await shop.assert_level()
