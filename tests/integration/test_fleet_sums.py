"""What processes see, published to a real store and read back as sums of the fleet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from small_store import small_store

from crossfade.events import Role
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.fleet import PAGE_BITS
from crossfade.store.publishing import (
    ComparisonRow,
    EvidenceRow,
    SpannedRow,
    TimingRow,
    delete_process,
    write_comparisons,
    write_evidence,
    write_process,
    write_spanned,
    write_timings,
)
from crossfade.store.signals import (
    BUCKETS,
    Kind,
    Timing,
    prune,
    read_kinds,
    read_processes,
    read_spanned,
    read_timings,
)
from databases import FreshDatabase

ENTERED = {"Author": 1, "Book": 1}


@pytest.fixture
async def store(fresh_database: FreshDatabase) -> AsyncIterator[Store]:
    """A legacy store with crossfade's objects."""
    async with small_store(await fresh_database()) as opened:
        yield opened


def buckets(**counts: int) -> list[int]:
    """A histogram with `b3=2` calls in its bucket 3."""
    cells = [0] * BUCKETS
    for name, count in counts.items():
        cells[int(name[1:])] = count
    return cells


def page(*positions: int) -> bytes:
    """A page of a bitmap with these bits set."""
    cells = bytearray(PAGE_BITS // 8)
    for position in positions:
        cells[position >> 3] |= 0x80 >> (position & 7)
    return bytes(cells)


async def test_sums_are_of_all_processes_and_written_again_without_harm(store: Store) -> None:
    """Each process's row stands in place of the one it wrote before."""
    one, two = uuid4(), uuid4()
    row = TimingRow("Author", 1, "count", Side.PRISMA, Role.SHADOW, 1, buckets(b3=2, b64=1))
    async with store.transaction() as connection:
        for process in (one, two, two):
            await write_timings(connection, store, process, [row, row._replace(action="find_many")])
            await write_comparisons(
                connection, store, process, [ComparisonRow("Author", 1, "read", "count", "ignored", 5)]
            )
        timings = await read_timings(connection, store, ENTERED)
        kinds = await read_kinds(connection, store, ENTERED)

    summed = tuple(buckets(b3=4, b64=2))
    assert [
        Timing("Author", action, Side.PRISMA, Role.SHADOW, 6, 2, summed) for action in ("count", "find_many")
    ] == timings
    assert [Kind("Author", "read", "count", 0, 0, {"ignored": 10})] == kinds


async def test_a_key_counts_once_in_the_fleet(store: Store) -> None:
    """However often, by whomever and on whichever page."""
    rows = [EvidenceRow("Book", 1, "write", "create", number, page(0, 1023), page(1)) for number in (63, 0)]
    async with store.transaction() as connection:
        await write_evidence(connection, store, rows)
        await write_evidence(connection, store, [rows[0]._replace(compared=page(0, 7), mismatched=page(0))])
        kinds = await read_kinds(connection, store, ENTERED)

    assert [Kind("Book", "write", "create", 5, 3, {})] == kinds


async def test_what_was_seen_of_a_former_stay_does_not_count(store: Store) -> None:
    """And is thrown away by the leader; what is newer than the leader's own view is not."""
    row = TimingRow("Author", 4, "count", Side.PRISMA, Role.AUTHORITY, 0, buckets(b1=1))
    evidence = EvidenceRow("Author", 4, "read", "count", 0, page(5), page())
    process = uuid4()
    async with store.transaction() as connection:
        await write_process(connection, store, process, "here", {}, leads=False)
        await write_timings(connection, store, process, [row, row._replace(entered=6)])
        await write_evidence(connection, store, [evidence, evidence._replace(entered=6)])
        await prune(connection, store, {"Author": 5})
        left = [
            await connection.fetchval(f"SELECT array_agg(entered) FROM {store.own(table)}")
            for table in ("timing", "evidence")
        ]
        assert [] == await read_timings(connection, store, {"Author": 5})
        assert [] == await read_kinds(connection, store, {"Author": 5})

    assert [[6], [6]] == left


async def test_what_departed_processes_have_seen_is_added_up(store: Store) -> None:
    """The sums stay the same, and the rows become few."""
    row = TimingRow("Author", 1, "count", Side.PRISMA, Role.AUTHORITY, 1, buckets(b1=1, b2=2))
    comparison = ComparisonRow("Author", 1, "read", "count", "matched", 3)
    processes = [uuid4() for _ in range(4)]
    async with store.transaction() as connection:
        for process in processes:
            await write_process(connection, store, process, "here", {}, leads=False)
            await write_timings(connection, store, process, [row])
            await write_comparisons(connection, store, process, [comparison])
        before = await read_timings(connection, store, ENTERED), await read_kinds(connection, store, ENTERED)
        for process in processes[:2]:
            await delete_process(connection, store, process)
        await prune(connection, store, ENTERED)
        await delete_process(connection, store, processes[2])
        await prune(connection, store, ENTERED)
        after = await read_timings(connection, store, ENTERED), await read_kinds(connection, store, ENTERED)
        rows = [
            await connection.fetchval(f"SELECT count(*) FROM {store.own(table)}")
            for table in ("timing", "comparison")
        ]

    assert before == after
    assert [2, 2] == rows


async def test_a_process_is_known_until_it_ends_or_is_not_heard_of_for_an_hour(store: Store) -> None:
    """With what it follows, and with its age by the store's clock."""
    one, two = uuid4(), uuid4()
    async with store.transaction() as connection:
        assert await write_process(connection, store, one, "one", {"Author": 3}, leads=True)
        assert not await write_process(connection, store, one, "one", {"Author": 4}, leads=False)
        await write_process(connection, store, two, "two", {}, leads=False)
        await connection.execute(
            f"UPDATE {store.own('process')} SET seen = seen - interval '61 minutes' WHERE id = $1", two
        )
        known = await read_processes(connection, store)
        await prune(connection, store, ENTERED)
        left = await read_processes(connection, store)
        await delete_process(connection, store, one)
        ended = await read_processes(connection, store)

    assert [("one", False, {"Author": 4}), ("two", False, {})] == [
        (p.name, p.leads, dict(p.epochs)) for p in known
    ]
    assert [True, False] == [p.age < 3600 for p in known]
    assert ["one"] == [p.name for p in left]
    assert [] == ended


async def test_models_touched_together_are_counted(store: Store) -> None:
    """By all processes together, what is seen most first."""
    row = SpannedRow(("Author", "Book"), False, 2)
    async with store.transaction() as connection:
        await write_spanned(connection, store, [row, row._replace(is_write=True, times=5)])
        await write_spanned(connection, store, [row])
        spanned = await read_spanned(connection, store)

    assert [(("Author", "Book"), True, 5), (("Author", "Book"), False, 4)] == [
        (s.models, s.is_write, s.times) for s in spanned
    ]
