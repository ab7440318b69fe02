"""How a table is divided, and what its rows are hashed to."""

from __future__ import annotations

import pytest
from planting import QUICK, THING, fill, filling, one_key, thing_ddl, unseen, verify_one
from twins import MakeTwins, Twins

from crossfade.events import ChunkVerified
from crossfade.mapping import Converted, Dropped, Mapping, Mappings, Renamed
from crossfade.stages import Side
from crossfade.store.crossing import read_crossings
from crossfade.verify import Verdict, VerifySettings
from crossfade.verify.checksums import Checksums
from crossfade.verify.hashing import Hashing
from crossfade.verify.pieces import choose, cut_by_hashes, cut_by_ranges

P, S = Side.PRISMA, Side.SQLALCHEMY
LARGE = 30_000
NARROW = "CREATE TABLE \"Thing\" (id integer PRIMARY KEY, name text, filler text DEFAULT repeat('x', 150))"
PARTITIONED = """
    CREATE TABLE "Thing" (id integer PRIMARY KEY, name text, filler text DEFAULT repeat('x', 150))
        PARTITION BY RANGE (id);
    CREATE TABLE one PARTITION OF "Thing" FOR VALUES FROM (-1000000) TO (10000);
    CREATE TABLE other PARTITION OF "Thing" FOR VALUES FROM (10000) TO (1000000);
"""


async def scope(twins: Twins) -> str:
    """How the newest run has divided the table."""
    return str(
        await twins.plain[S].fetchval("SELECT scope FROM crossfade.verification ORDER BY id DESC LIMIT 1")
    )


@pytest.mark.parametrize("ddl", [NARROW, PARTITIONED])
async def test_bounds_come_from_a_sample_of_the_pages(make: MakeTwins, ddl: str) -> None:
    """The ranges of a table of many pages have about as many rows as they should, and all of them together have all."""
    twins = await make(one_key("Int"), NARROW, ddl)
    for side in (S, P):
        await unseen(
            twins, side, "Thing", f"INSERT INTO \"Thing\" SELECT n, 'n' FROM generate_series(1, {LARGE}) n"
        )
        await twins.plain[side].execute("ANALYZE")
    settings = VerifySettings(settle=0.02, patience=1.0, chunk_rows=2_000, largest_chunk=2_000)
    report = await verify_one(twins, settings)
    assert (Verdict.CLEAN, LARGE, "ranges") == (report.state, report.rows, await scope(twins))
    assert 13 <= report.chunks <= 18
    sizes = [event.rows for event in twins.observer.of(ChunkVerified)]
    assert max(sizes) < 4_000


async def test_a_scattered_table_is_read_in_its_own_order(make: MakeTwins) -> None:
    """A table that is larger than the cache and lies in another order than its key's is divided by hashes."""
    twins = await make(THING, thing_ddl())
    await assume_cache(twins, "8kB")
    await fill(twins, filling(2_000))
    await unseen(twins, S, "Thing", "UPDATE \"Thing\" SET count = 0 WHERE id = md5('77')")
    report = await verify_one(twins, VerifySettings(settle=0.02, patience=1.0, part_rows=500))
    assert (4, 2_000, 1, "hashes") == (report.chunks, report.rows, report.different, await scope(twins))
    await assume_cache(twins, "4GB")
    assert 1 == (await verify_one(twins)).different
    assert "ranges" == await scope(twins)


async def assume_cache(twins: Twins, size: str) -> None:
    """Have both servers believe in a cache of some size."""
    for side, connection in twins.plain.items():
        name = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"ALTER DATABASE {name} SET effective_cache_size = '{size}'")
        await twins.stores[side].close()  # sessions that are open do not hear of it
        await twins.stores[side].open()


@pytest.mark.parametrize(
    "hashing", [Hashing(), Hashing(of_records=False), Hashing(is_own=False)], ids=["record", "text", "digest"]
)
async def test_every_hash_finds_the_same(make: MakeTwins, hashing: Hashing) -> None:
    """Whatever two servers have in common, a piece shows the rows that differ, and a sum those that were swapped."""
    twins = await make(THING, thing_ddl())
    await fill(twins, filling(500))
    crossing = read_crossings(twins.stores)["Thing"]
    checksums = Checksums(twins.stores, crossing, S, hashing, most=1_000)
    async with twins.stores[P].transaction() as legacy, twins.stores[S].transaction() as target:
        _, size = await choose(crossing, legacy, target)
        ranges = await cut_by_ranges(legacy, crossing, size, None, rows=1_000, seed=0)
    parts = cut_by_hashes(crossing, hashing, size, None, rows=1_000)
    before = [
        await checksums.compare(piece) for piece in filter(None, (ranges.take(1_000), parts.take(1_000)))
    ]
    assert [(500, {}), (500, {})] == [(one.rows, one.suspects) for one in before]

    hash_ = hashing.of_row(crossing, S, S)
    total = f'SELECT sum({hash_})::text FROM "Thing" t'
    [was] = await twins.column(S, total)
    swap = """UPDATE "Thing" SET count = CASE count WHEN 7 THEN 8 ELSE 7 END WHERE count IN (7, 8)"""
    await unseen(twins, S, "Thing", swap)
    assert [was] != await twins.column(S, total)
    parts = cut_by_hashes(crossing, hashing, size, None, rows=1_000)
    piece = parts.take(1_000)
    assert piece is not None
    keys = await twins.column(S, "SELECT md5(n::text) FROM unnest(ARRAY[7, 8]) n ORDER BY 1")
    assert [(key,) for key in keys] == sorted((await checksums.compare(piece)).suspects)


async def test_a_mapped_table(make: MakeTwins) -> None:
    """Columns are compared over their mapping and named as in the legacy store; one-way ones while they are fed."""
    mapping = Mapping(
        "Thing",
        table="things",
        columns=(
            Renamed("name", "title"),
            Converted("cents", "price", "({} / 100.0)", "({} * 100)::integer"),
            Converted("word", "length", "length({})", one_way=True),
            Dropped("old", one_way=True),
        ),
    )
    twins = await make(
        one_key("Int"),
        'CREATE TABLE "Thing" (id integer PRIMARY KEY, name text, cents integer, word text, old text)',
        "CREATE TABLE things (id integer PRIMARY KEY, title text, price numeric(12,2), length integer)",
        mappings=Mappings((mapping,)),
    )
    numbers = "FROM generate_series(1, 50) n"
    await unseen(twins, P, "Thing", f"INSERT INTO \"Thing\" SELECT n, 'n' || n, n * 25, 'w', 'o' {numbers}")
    await unseen(twins, S, "Thing", f"INSERT INTO things SELECT n, 'n' || n, n * 0.25, 1 {numbers}")
    assert Verdict.CLEAN == (await verify_one(twins, QUICK)).state
    for number, change in ((5, "title = 'x'"), (6, "price = 0"), (7, "length = 9")):
        await unseen(twins, S, "Thing", f"UPDATE things SET {change} WHERE id = {number}")
    assert {"name": 1, "cents": 1, "word": 1} == (await verify_one(twins, QUICK)).columns
    await twins.give(S, "Thing")
    assert {"name": 1, "cents": 1} == (await verify_one(twins, QUICK)).columns
    report = await verify_one(twins, QUICK, repair=True)
    assert (Verdict.CLEAN, 2) == (report.state, report.repaired)
    rows = await twins.plain[P].fetch('SELECT name, cents FROM "Thing" WHERE id IN (5, 6) ORDER BY id')
    assert [("x", 125), ("n6", 0)] == [tuple(row) for row in rows]
