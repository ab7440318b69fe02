"""Latency and lag, measured on real stores."""

from __future__ import annotations

import asyncio

from own_target import Target

from crossfade.backfill.probe import Probe, oldest_captured
from crossfade.stages import Side


async def test_a_write_that_hangs_is_felt(target: Target) -> None:
    """A store that answers late shows, by name; afterwards nothing of the probe is left in it."""
    store = target.store
    table = store.tables["Author"]
    await target.plain.execute("INSERT INTO \"Author\" VALUES ('it''s', 'a')")

    async with Probe({Side.PRISMA: store}, table, interval=0.01) as probe:
        assert 1 == await target.plain.fetchval("SELECT count(*) FROM crossfade.probe")
        async with asyncio.timeout(10):
            while len(probe.felt()) < 2:
                await asyncio.sleep(0.01)
        probe.forget()
        async with target.plain.transaction():
            await target.plain.execute("LOCK TABLE crossfade.probe")
            async with asyncio.timeout(10):
                while not (slow := [felt for felt in probe.felt() if felt.late > 1.3]):
                    await asyncio.sleep(0.01)

    assert ["a small write to the target store"] == [felt.what for felt in slow]
    assert slow[0].usual < 1
    assert 0 == await target.plain.fetchval("SELECT count(*) FROM crossfade.probe")


async def test_a_store_that_comes_back(target: Target) -> None:
    """Connections that are cut are made anew, and an empty table is not read."""
    async with Probe({Side.SQLALCHEMY: target.store}, None, interval=0.01) as probe:
        await target.plain.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND query LIKE 'INSERT INTO%probe%'"
        )
        probe.forget()
        async with asyncio.timeout(10):
            while not probe.felt():
                await asyncio.sleep(0.01)


async def test_the_oldest_captured_key(target: Target) -> None:
    """Keys that wait count by their age; those that cannot be settled, and those of other models, do not."""
    both = {Side.PRISMA: target.store, Side.SQLALCHEMY: target.store}
    insert = (
        "INSERT INTO crossfade.change (model, key, op, at, problem)"
        " VALUES ($1, '{a}', 'U', clock_timestamp() - $2 * interval '1 second', $3)"
    )
    assert 0 == await oldest_captured(both, ["Author", "Book"])

    await target.plain.execute(insert, "Author", 100, "23503 books_author")
    await target.plain.execute(insert, "Author", 50, None)
    await target.plain.execute(insert, "Author", 10, None)
    await target.plain.execute(insert, "Book", 1_000, None)

    assert 50 <= await oldest_captured(both, ["Author"]) < 90
    assert 1_000 <= await oldest_captured(both, ["Author", "Book"])
    assert 0 == await oldest_captured(both, [])
