"""The background loop: beside others, under load, asleep, and while a store is away."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import asyncpg
import pytest
from twins import P, S, Twins, Wire, identifier, schema_of, until

from crossfade.errors import StoreUnavailableError
from crossfade.events import RowReconciled
from crossfade.reconcile import Reconciler, ReconcileSettings
from crossfade.reconcile.pair import Pair
from crossfade.stages import Side
from crossfade.store import Fence, Store
from crossfade.store.objects import BELL
from small_schema import scalar

WORDS = schema_of(Word=[identifier(), scalar("text"), scalar("rank", "Int", isUnique=True, isRequired=False)])
DDL = 'CREATE TABLE "Word" (id integer PRIMARY KEY, text text NOT NULL, rank integer UNIQUE)'


@pytest.fixture
async def words(make: Any) -> Twins:
    """A table of words."""
    return await make(WORDS, DDL)


async def count(words: Twins, side: Side) -> int:
    return await words.plain[side].fetchval('SELECT count(*) FROM "Word"')


async def bells_hang(words: Twins) -> bool:
    """Whether both stores would ring; a bell that hangs refuses this, too."""
    return not any(
        [
            await words.plain[side].fetchval("SELECT pg_try_advisory_xact_lock_shared($1)", BELL)
            for side in Side
        ]
    )


async def test_the_loop_works_off_what_is_captured(words: Twins) -> None:
    """Once a key has rested."""
    async with words.reconciler(settle=0.01):
        await words.write(P, """INSERT INTO "Word" SELECT n, 'w' FROM generate_series(1, 3000) n""")
        await until(lambda: words.captured(P))
        await until(lambda: _is_level(words))

    await words.assert_level()


async def _is_level(words: Twins) -> bool:
    return await count(words, P) == await count(words, S) and not any(
        [await words.captured(side) for side in Side]
    )


@pytest.mark.parametrize("side", list(Side))
async def test_a_write_wakes_a_sleeping_loop(words: Twins, side: Side) -> None:
    """By the bell of its store, long before the next look."""
    async with words.reconciler(settle=0.0, idle_after=0.05, longest_sleep=600.0, poll=600.0):
        for number in range(3):
            await until(lambda: bells_hang(words))
            began = monotonic()
            await words.write(side, f"""INSERT INTO "Word" VALUES ({number}, 'w')""", follower=side is S)
            await until(lambda: _is_level(words))
            assert monotonic() - began < 0.5


async def test_a_loop_whose_bell_another_process_keeps_looks_now_and_then(words: Twins) -> None:
    """It hears that bell, too; and if nobody rings, it polls."""
    for connection in words.plain.values():
        await connection.execute("SELECT pg_advisory_lock($1)", BELL)
    async with words.reconciler(settle=0.0, idle_after=0.0, longest_sleep=600.0, poll=0.1):
        await words.write(P, "SET LOCAL crossfade.role = ''", """INSERT INTO "Word" VALUES (1, 'w')""")
        await until(lambda: _is_level(words))


async def test_a_loop_that_slept_leaves_no_bell_behind(words: Twins) -> None:
    """Writers are not to pay for somebody who is gone."""
    async with words.reconciler(idle_after=0.0):
        await until(lambda: bells_hang(words))
    await until(lambda: _no_bell(words))


async def _no_bell(words: Twins) -> bool:
    return not await bells_hang(words)


async def test_two_reconcilers_share_the_work(words: Twins) -> None:
    """Neither waits for the other, and what one has in hand the other leaves alone."""
    await words.write(P, """INSERT INTO "Word" SELECT n, 'w' FROM generate_series(1, 5000) n""")
    pair = [words.reconciler(settle=0.0, batch=100), words.reconciler(settle=0.0, batch=100)]
    async with pair[0], pair[1]:
        await until(lambda: _is_level(words), 30)

    outcomes = [event for event in words.observer.of(RowReconciled) if event.outcome == "copied"]
    assert 5000 == sum(event.rows for event in outcomes)
    await words.assert_level()


async def test_a_key_that_never_rests_is_carried_over_again_and_again(words: Twins) -> None:
    """Its entries do not pile up, and the follower is never far behind."""
    await words.both("""INSERT INTO "Word" VALUES (1, 'w', 0)""")
    writing = True
    connection = await asyncpg.connect(**words.stores[P].dsn.asyncpg_kwargs())

    async def write() -> None:
        while writing:
            await connection.execute('UPDATE "Word" SET rank = rank + 1')
            await asyncio.sleep(0.002)

    seen: set[int] = set()
    async with words.reconciler(settle=0.05, patience=0.1):
        writer = asyncio.create_task(write())
        async with asyncio.timeout(20):
            while len(seen) < 5:
                seen.add(await words.plain[S].fetchval('SELECT rank FROM "Word"'))
                await asyncio.sleep(0.01)
        left = await words.plain[P].fetchval("SELECT count(*) FROM crossfade.change")
        writing = False
        await writer
        await until(lambda: _is_level(words))
    await connection.close()
    assert left < 500
    await words.assert_level()


async def test_catching_up_ends_while_writers_go_on(words: Twins) -> None:
    """A drain would not: there is always something new."""
    writing = True
    connection = await asyncpg.connect(**words.stores[P].dsn.asyncpg_kwargs())

    async def write() -> None:
        number = 0
        while writing:
            number += 1
            await connection.execute(f"""INSERT INTO "Word" VALUES ({number}, 'w')""")

    await words.write(P, """INSERT INTO "Word" SELECT -n, 'w' FROM generate_series(1, 3000) n""")
    writer = asyncio.create_task(write())
    assert await words.reconciler().catch_up(["Word"], 20)
    writing = False
    await writer
    assert await words.reconciler().drain(["Word"], 10)
    await connection.close()
    await words.assert_level()


@pytest.mark.parametrize("broken", [1, 500, 1000])
async def test_a_row_that_cannot_be_written_does_not_hold_up_the_others(words: Twins, broken: int) -> None:
    """It is named by its problem, tried again, and carried over once it can be."""
    await words.plain[S].execute(f'ALTER TABLE "Word" ADD CONSTRAINT odd CHECK (id <> {broken})')
    await words.write(P, """INSERT INTO "Word" SELECT n, 'w' FROM generate_series(1, 1000) n""")
    reconciler = words.reconciler()

    assert not await reconciler.drain(["Word"], 20)
    assert 999 == await count(words, S)
    assert ["23514 odd"] == [problem.problem for problem in await reconciler.problems(["Word"])]
    assert not await reconciler.catch_up(["Word"], 20)
    assert 0 == await reconciler.run_once(settle=0)  # it is not its time yet
    await words.plain[S].execute('ALTER TABLE "Word" DROP CONSTRAINT odd')
    assert await reconciler.drain(["Word"], 10)
    await words.assert_level()


async def test_a_locked_row_does_not_hold_up_the_others(words: Twins) -> None:
    """Nor does one that a follower is just inserting; no problem is made of it, and its turn comes."""
    await words.both("""INSERT INTO "Word" SELECT n, 'w' FROM generate_series(1, 20) n""")
    assert await words.reconciler().drain(["Word"], 10)
    await words.write(
        P, """UPDATE "Word" SET text = 'x'""", """INSERT INTO "Word" VALUES (21, 'x'), (22, 'x')"""
    )
    reconciler = words.reconciler(lock_timeout=0.05)
    async with words.stores[S].transaction(follower=True) as holder:
        await holder.execute('SELECT FROM "Word" WHERE id = 5 FOR UPDATE')
        await holder.execute("""INSERT INTO "Word" VALUES (21, 'late')""")
        assert not await reconciler.drain(["Word"], 1)
        assert 20 == await words.plain[S].fetchval("""SELECT count(*) FROM "Word" WHERE text = 'x'""")
        assert [] == await reconciler.problems(["Word"])
    assert await reconciler.drain(["Word"], 10)
    await words.assert_level()


async def test_an_entry_that_another_has_in_hand_is_no_reason_to_forget_one(words: Twins) -> None:
    """He may have read the row before its last write: only an entry that nobody claims will be verified later."""
    await words.write(P, """INSERT INTO "Word" VALUES (1, 'w')""", """UPDATE "Word" SET text = 'x'""")
    claims = (await Pair.open(words.stores)).claims[P]
    store = words.stores[P]
    async with store.transaction() as one, store.transaction() as other:
        assert {("1",)} == await claims.newer(one, "Word", 1, {("1",)})
        assert set() == await claims.newer(other, "Word", 1, {("1",)})


async def test_a_stale_view_of_the_authority_does_no_harm(words: Twins) -> None:
    """The store refuses the repair, its entry stays, and the view is refreshed; equal rows are settled all the same."""
    await words.both("""INSERT INTO "Word" VALUES (1, 'equal', 1)""")
    await words.give(S, "Word")
    await words.write(S, """INSERT INTO "Word" VALUES (2, 'new', 2)""")
    refreshed = asyncio.Event()

    async def refresh() -> None:
        words.authority["Word"] = S
        refreshed.set()

    words.authority["Word"] = P
    reconciler = Reconciler(words.stores, words.authority.__getitem__, words.observer, stale=refresh)
    assert 3 == await reconciler.run_once(settle=0)

    assert refreshed.is_set()
    assert [("2",)] == [tuple(key) for key in await words.column(S, "SELECT key FROM crossfade.change")]
    assert 0 == await words.captured(P)
    assert 2 == await words.plain[S].fetchval('SELECT count(*) FROM "Word"')
    assert await reconciler.drain(["Word"], 10)
    await words.assert_level()


async def test_nothing_is_lost_while_neither_store_takes_authors(words: Twins) -> None:
    """Repairs go on while the authority is being handed over."""
    await words.write(P, """INSERT INTO "Word" VALUES (1, 'one', 1)""")
    await words.fence(P, Fence.FROZEN, "Word")

    assert await words.reconciler().drain(["Word"], 10)
    await words.assert_level()


async def test_a_store_that_was_away_is_brought_level_when_it_is_back(words: Twins) -> None:
    """Meanwhile the entries stay; whoever asks is told, and a drain gives up in time."""
    async with Wire(words.stores[S].dsn) as wire:
        stores = {P: words.stores[P], S: Store(S, wire.dsn, WORDS)}
        settings = ReconcileSettings(settle=0.0, idle_after=0.0, longest_outage_backoff=0.1)
        reconciler = Reconciler(stores, words.authority.__getitem__, words.observer, settings)
        async with stores[S], reconciler:
            await words.write(P, """INSERT INTO "Word" VALUES (1, 'one', 1)""")
            await until(lambda: _is_level(words))
            await wire.cut()
            await words.write(P, """INSERT INTO "Word" VALUES (2, 'two', 2)""")
            assert not await reconciler.drain(["Word"], 0.2)
            with pytest.raises(StoreUnavailableError):
                await reconciler.run_once()
            with pytest.raises(StoreUnavailableError):
                await reconciler.settle_keys("Word", [("2",)])
            assert 1 == await words.captured(P)
            await wire.mend()
            await until(lambda: _is_level(words))
    await words.assert_level()


def test_the_bounds_have_defaults() -> None:
    """A key rests for a quarter of a second, and a failed one is tried again within half a minute."""
    settings = ReconcileSettings()
    assert (0.25, 30.0) == (settings.settle, settings.longest_backoff)
