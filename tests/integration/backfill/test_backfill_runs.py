"""How a backfill goes on: plans, refusals, pauses, workers that die, rows that cannot be copied."""

from __future__ import annotations

import asyncio
import signal
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from copies import Once, backfill, forget, make_backfill, terminate_workers
from twins import MakeTwins, P, S, Twins, Wire, identifier, refers, schema_of, twins, until

from crossfade.backfill import CopyPoint
from crossfade.backfill.session import Fault, fault_of
from crossfade.backfill.stream import stream
from crossfade.errors import BackfillError, InstallError, StoreUnavailableError, UnknownModelError
from crossfade.events import ChunkCopied, ChunkFailed
from crossfade.store import Fence
from small_schema import relation, scalar

SMALL: dict[str, Any] = {"first_chunk": 8, "smallest_chunk": 8, "largest_chunk": 8}


# Plans and refusals


async def test_the_plan_lists_tables_parents_first(shop: Twins) -> None:
    """With their estimated rows and what is done already."""
    await shop.plain[P].execute("ANALYZE")
    plans = make_backfill(shop)

    before = await plans.plan()
    await plans.run(["Shop"])
    after = await plans.plan()

    assert [("Shop", 5, "new", ()), ("Ware", 40, "new", ())] == [
        (table.model, table.estimated, table.state, table.blockers) for table in before
    ]
    assert all(table.size_bytes > 0 for table in before)
    assert ["done", "new"] == [table.state for table in after]


async def test_a_model_needs_its_parents(shop: Twins) -> None:
    """They are in the target already, or they are copied along; the error says how."""
    with pytest.raises(BackfillError, match=r"refer to Shop, .* `crossfade backfill Shop Ware`"):
        await backfill(shop, "Ware")
    assert [] == await make_backfill(shop).progress()

    await backfill(shop, "Shop")
    await backfill(shop, "Ware")

    await shop.assert_level()


async def test_an_unknown_model(shop: Twins) -> None:
    """It is refused by name."""
    with pytest.raises(UnknownModelError, match="Boat"):
        await backfill(shop, "Boat")


async def test_a_store_without_crossfade(shop: Twins) -> None:
    """Nothing is captured there, so nothing may be copied."""
    await shop.plain[P].execute("DROP SCHEMA crossfade CASCADE")

    with pytest.raises(InstallError):
        await backfill(shop)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stage = 'live'", "the target store has the authority"),
        ("moving_to = 'dualwrite'", "is being moved"),
        ("forced = true", "forced rollback"),
        ("final = true", "the target store has the authority"),
    ],
)
async def test_a_model_whose_authority_is_elsewhere_is_refused(
    shop: Twins, change: str, message: str
) -> None:
    """Its rows in the legacy store are not the right ones, or may not be touched now."""
    await shop.plain[P].execute(f"UPDATE crossfade.record SET {change}, epoch = 9 WHERE model = 'Ware'")

    with pytest.raises(BackfillError, match=message):
        await backfill(shop)


@pytest.mark.parametrize("point", [CopyPoint.CUT, CopyPoint.READ])
async def test_no_chunk_lands_after_the_authority_has_moved(shop: Twins, point: CopyPoint) -> None:
    """The store refuses it, and the error says why."""

    async def move() -> None:
        await shop.give(S, "Ware")

    with pytest.raises(BackfillError, match="Ware: the target store takes no copies of it any more"):
        await backfill(shop, at=Once(point, "Ware", move), workers=1)

    assert [] == await shop.column(S, 'SELECT id FROM "Ware"')


async def test_a_move_waits_for_a_chunk_that_has_inserted(shop: Twins) -> None:
    """So what comes late is never there after the authority has moved."""
    moving: list[asyncio.Task[None]] = []

    async def move() -> None:
        moving.append(asyncio.create_task(shop.fence(S, Fence.AUTHORITY, "Ware")))
        await until(
            lambda: shop.plain[P].fetchval(
                "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER%'"
            )
        )

    await backfill(shop, at=Once(CopyPoint.INSERTED, "Ware", move), workers=1)
    await moving[0]

    assert 40 == len(await shop.column(S, 'SELECT id FROM "Ware"'))


async def test_an_installation_anew_begins_anew(shop: Twins) -> None:
    """What was written between the two was not captured."""
    await backfill(shop)
    await shop.plain[P].execute("UPDATE crossfade.installation SET at = at + interval '1 hour'")
    await shop.plain[P].execute("SET session_replication_role = DEFAULT")
    await shop.write(P, 'DELETE FROM "Ware" WHERE id = 50', "INSERT INTO \"Ware\" VALUES (7, 'seven', '', 1)")
    await forget(shop)

    assert ["new", "new"] == [table.state for table in await make_backfill(shop).plan()]
    await backfill(shop)

    await shop.assert_level()


# Going on


async def test_a_second_run_does_nothing(shop: Twins) -> None:
    """Everything is done, by whomever."""
    first = await backfill(shop)
    shop.observer.events.clear()

    assert first == await backfill(shop)
    assert [] == [event for event in shop.observer.events if isinstance(event, ChunkCopied)]


@pytest.mark.parametrize("point", CopyPoint)
async def test_a_worker_whose_connections_are_cut(shop: Twins, point: CopyPoint) -> None:
    """It opens others and goes on; no row is read twice but those of the chunk it had in hand."""
    hook = Once(point, "Ware", lambda: terminate_workers(shop))

    told = await backfill(shop, at=hook, workers=2, **SMALL)

    assert hook.done
    await shop.assert_level()
    assert [5, 40] == [table.rows_read for table in told]
    assert [5, 40] == [table.rows_written for table in told]


@pytest.mark.parametrize("point", CopyPoint)
async def test_a_process_that_is_killed(shop: Twins, point: CopyPoint) -> None:
    """Another one goes on at once, and repeats one chunk at most."""
    victim = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("backfill_victim.py")),
        *(shop.stores[side].dsn.libpq_url() for side in (P, S)),
        point,
    )
    assert -signal.SIGKILL == await victim.wait()
    before = sum(table.rows_written for table in await make_backfill(shop).progress())

    await backfill(shop, **SMALL)

    copied = [event for event in shop.observer.events if isinstance(event, ChunkCopied)]
    assert 45 == before + sum(event.rows_written for event in copied)
    assert 45 - before == sum(event.rows_read for event in copied)
    await shop.assert_level()


async def test_many_workers_in_two_processes_share_the_chunks(shop: Twins) -> None:
    """Each chunk is copied once."""
    one, other = make_backfill(shop, workers=3, **SMALL), make_backfill(shop, workers=3, **SMALL)

    told, _ = await asyncio.gather(one.run(), other.run())

    await shop.assert_level()
    assert [5, 40] == [table.rows_read for table in told]
    copied = [event for event in shop.observer.events if isinstance(event, ChunkCopied)]
    assert 45 == sum(event.rows_read for event in copied)


async def test_a_backfill_that_is_cancelled_leaves_nothing_behind(shop: Twins) -> None:
    """No session and no lock; whoever comes next goes on."""
    reached = asyncio.Event()

    async def at(point: CopyPoint, model: str) -> None:
        if (point, model) == (CopyPoint.INSERTED, "Ware"):
            reached.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(backfill(shop, at=at, **SMALL))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await backfill(shop, **SMALL)
    await shop.assert_level()


async def test_a_paused_table_waits_until_it_is_resumed(shop: Twins) -> None:
    """From the next chunk on, wherever its workers are."""
    plans = make_backfill(shop)

    async def pause() -> None:
        assert ["Ware"] == await plans.pause(["Ware"])

    running = asyncio.create_task(
        backfill(shop, at=Once(CopyPoint.LANDED, "Ware", pause), workers=1, **SMALL)
    )
    await until(lambda: any(type(event).__name__ == "BackfillThrottled" for event in shop.observer.events))
    paused = (await plans.progress(["Ware"]))[0]
    assert (True, 8, 0) == (paused.is_paused, paused.rows_read, paused.workers)
    assert ["Ware"] == await plans.resume()
    told = await running

    assert [40] == [table.rows_read for table in told if table.model == "Ware"]
    assert [] == await plans.pause()


async def test_progress_shows_who_works(shop: Twins) -> None:
    """As many as have a chunk in hand now."""
    seen: list[tuple[str, int]] = []

    async def look() -> None:
        seen.extend((table.model, table.workers) for table in await make_backfill(shop).progress())

    await backfill(shop, at=Once(CopyPoint.READ, "Ware", look), workers=1, **SMALL)

    assert [("Shop", 0), ("Ware", 1)] == seen


async def test_every_chunk_is_reported(shop: Twins) -> None:
    """With the rows of it, for the model that owns the table."""
    await backfill(shop, **SMALL)

    copied = [event for event in shop.observer.events if isinstance(event, ChunkCopied)]
    assert 45 == sum(event.rows_written for event in copied)
    assert {"Shop", "Ware"} == {event.model for event in copied}


async def test_the_planner_of_the_target_learns_what_it_holds(shop: Twins) -> None:
    """Once a table is done."""
    await backfill(shop)

    assert [40] == await shop.column(
        S, "SELECT reltuples::integer FROM pg_class WHERE oid = '\"Ware\"'::regclass"
    )


# Rows that do not go


@pytest.mark.parametrize("deferrable", ["", " DEFERRABLE INITIALLY DEFERRED"])
async def test_a_unique_value_that_another_row_has(make: MakeTwins, deferrable: str) -> None:
    """The row is left over, and the reconciler finds out what is right."""
    schema = schema_of(Thing=[identifier(), scalar("code", isUnique=True)])
    twins_ = await make(
        schema, f'CREATE TABLE "Thing" (id integer PRIMARY KEY, code text UNIQUE{deferrable})'
    )
    await twins_.write(P, "INSERT INTO \"Thing\" SELECT n, 'code ' || n FROM generate_series(1, 30) n")
    await twins_.write(S, "INSERT INTO \"Thing\" VALUES (999, 'code 7'), (998, 'code 8')", follower=True)
    await forget(twins_)

    told = await backfill(twins_)

    assert (28, 2) == (told[0].rows_written, told[0].left_over)
    await twins_.assert_level()


async def test_two_rows_with_a_value_that_is_unique_in_the_target(make: MakeTwins) -> None:
    """One of them arrives; the error says why the other does not."""
    schema = schema_of(Thing=[identifier(), scalar("code")])
    twins_ = await make(
        schema,
        'CREATE TABLE "Thing" (id integer PRIMARY KEY, code text)',
        'CREATE TABLE "Thing" (id integer PRIMARY KEY, code text CONSTRAINT one UNIQUE)',
    )
    await twins_.write(P, "INSERT INTO \"Thing\" SELECT n, 'code ' || n % 29 FROM generate_series(1, 30) n")
    await forget(twins_)

    with pytest.raises(BackfillError, match="23505 one"):
        await backfill(twins_, settle_deadline=3.0)

    told = await make_backfill(twins_).progress()
    assert ("done", 29, 1) == (told[0].state, told[0].rows_written, told[0].left_over)


async def test_a_row_that_the_target_refuses_stands_alone(make: MakeTwins) -> None:
    """Everything else is copied; the error says why, and a later run tries it again."""
    schema = schema_of(Thing=[identifier(), scalar("value", "Int")])
    twins_ = await make(
        schema,
        'CREATE TABLE "Thing" (id integer PRIMARY KEY, value integer)',
        'CREATE TABLE "Thing" (id integer PRIMARY KEY, value integer CONSTRAINT small CHECK (value < 1000))',
    )
    await twins_.write(P, 'INSERT INTO "Thing" SELECT n, n FROM generate_series(1, 200) n')
    await twins_.write(P, 'UPDATE "Thing" SET value = 5000 WHERE id IN (77, 78, 200)')
    await forget(twins_)

    with pytest.raises(BackfillError, match=r"3 rows of Thing are refused by the target \(23514 small\)"):
        await backfill(twins_)
    told = (await make_backfill(twins_).progress())[0]
    assert ("copying", 197, 3, ("23514 small",)) == (
        told.state,
        told.rows_written,
        told.failed,
        told.problems,
    )
    assert 3 == sum(isinstance(event, ChunkFailed) for event in twins_.observer.events)

    await twins_.write(P, 'UPDATE "Thing" SET value = 1 WHERE value > 1000')
    await backfill(twins_)

    await twins_.assert_level()


async def test_a_value_that_cannot_be_converted_stands_alone(make: MakeTwins) -> None:
    """Whichever store finds out: here the text is none for the target's enum, and no number there."""
    schema = schema_of(Thing=[identifier(), scalar("size"), scalar("note")])
    twins_ = await make(
        schema,
        'CREATE TABLE "Thing" (id integer PRIMARY KEY, size text, note text)',
        "CREATE TYPE size AS ENUM ('big');"
        'CREATE TABLE "Thing" (id integer PRIMARY KEY, size size, note text NOT NULL)',
    )
    await twins_.write(
        P,
        "INSERT INTO \"Thing\" SELECT n, 'big', '' FROM generate_series(1, 50) n",
        "UPDATE \"Thing\" SET size = 'huge' WHERE id = 20",
        'UPDATE "Thing" SET note = NULL WHERE id = 30',
    )
    await forget(twins_)

    with pytest.raises(BackfillError, match=r"22P02.*23502 note"):
        await backfill(twins_, workers=1)

    assert 48 == len(await twins_.column(S, 'SELECT id FROM "Thing"'))


async def test_a_table_of_which_nothing_fits_is_given_up(make: MakeTwins) -> None:
    """Halving every chunk down to its rows would take forever."""
    schema = schema_of(Thing=[identifier(), scalar("value", "Int")])
    twins_ = await make(
        schema,
        'CREATE TABLE "Thing" (id integer PRIMARY KEY, value integer)',
        'CREATE TABLE "Thing" (id integer PRIMARY KEY, value integer CHECK (value < 0))',
    )
    await twins_.write(P, 'INSERT INTO "Thing" SELECT n, n FROM generate_series(1, 200) n')

    with pytest.raises(BackfillError, match="crossfade preflight"):
        await backfill(twins_, most_failed=5)


async def test_a_parent_that_the_legacy_store_does_not_have(make: MakeTwins) -> None:
    """There is no foreign key there; the error names the one of the target."""
    schema = schema_of(
        Shop=[identifier(), relation("wares", "Ware", "Wares", isList=True)],
        Ware=[identifier(), *refers("shop", "Shop", "Wares")],
    )
    ddl = """
        CREATE TABLE "Shop" (id integer PRIMARY KEY);
        CREATE TABLE "Ware" (id integer PRIMARY KEY, shop_id integer{})
    """
    twins_ = await make(schema, ddl.format(""), ddl.format(' CONSTRAINT known REFERENCES "Shop"'))
    await twins_.write(
        P,
        'INSERT INTO "Shop" SELECT generate_series(1, 3)',
        'INSERT INTO "Ware" SELECT n, n FROM generate_series(1, 4) n',
    )
    await forget(twins_)

    with pytest.raises(BackfillError, match="23503 known"):
        await backfill(twins_, settle_deadline=3.0)

    assert [1, 2, 3] == await twins_.column(S, 'SELECT id FROM "Ware" WHERE shop_id IS NOT NULL ORDER BY id')


async def test_a_right_that_is_missing(shop: Twins) -> None:
    """Nothing is tried twice; the error has the database's own words."""
    await shop.plain[S].execute(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE insufficient_privilege USING MESSAGE = 'not you'; END $$;"
        'CREATE TRIGGER no BEFORE INSERT ON "Ware" EXECUTE FUNCTION no()'
    )

    with pytest.raises(BackfillError, match="42501 not you"):
        await backfill(shop)


async def test_locks_of_others_are_waited_out(shop: Twins) -> None:
    """A deadlock breaks a chunk off; it is tried again."""
    await shop.plain[S].execute(
        "CREATE SEQUENCE tries;"
        "CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('tries') < 3 THEN RAISE deadlock_detected; END IF; RETURN NULL; END $$;"
        'CREATE TRIGGER stumble BEFORE INSERT ON "Ware" EXECUTE FUNCTION stumble()'
    )

    await backfill(shop, workers=1)

    await shop.assert_level()
    await shop.plain[S].execute("ALTER SEQUENCE tries RESTART")
    await shop.plain[P].execute("UPDATE crossfade.installation SET at = at + interval '1 hour'")
    with pytest.raises(BackfillError, match="40P01"):
        await backfill(shop, workers=1, attempts=2)


async def test_a_store_that_goes_away_for_good(shop: Twins) -> None:
    """It is asked again a few times; then the error says which it is."""
    async with (
        Wire(shop.stores[S].dsn) as wire,
        twins(shop.stores[S].schema, {P: shop.stores[P].dsn, S: wire.dsn}, installed=True) as far,
    ):
        with pytest.raises(StoreUnavailableError):
            await backfill(far, at=Once(CopyPoint.READ, "Ware", wire.cut), attempts=2)

    await backfill(shop)
    await shop.assert_level()


# The stream


@pytest.mark.parametrize("ending", ["source", "target"])
async def test_a_stream_whose_one_end_breaks_ends_at_once(shop: Twins, ending: str) -> None:
    """However much lies between them."""
    ends = {side: await asyncpg.connect(**shop.stores[side].dsn.asyncpg_kwargs()) for side in (P, S)}
    await ends[S].execute("CREATE TEMP TABLE sink (text text)")
    pid = ends[P if ending == "source" else S].get_server_pid()
    endless = "SELECT repeat('x', 1000) || generate_series(1, 100000000)"
    streaming = asyncio.create_task(stream(ends[P], endless, ends[S], "sink", ["text"]))
    await until(
        lambda: shop.plain[P].fetchval("SELECT count(*) = 2 FROM pg_stat_activity WHERE query LIKE 'COPY%'")
    )

    await shop.plain[P].execute("SELECT pg_terminate_backend($1)", pid)

    async with asyncio.timeout(10):
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)) as failed:
            await streaming
    assert Fault.PASSING is fault_of(failed.value)
    for end in ends.values():
        end.terminate()
    await until(
        lambda: shop.plain[P].fetchval("SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE 'COPY%'")
    )


async def test_chunks_follow_the_time_they_take(shop: Twins) -> None:
    """They grow while they are quick, twofold at most, and never out of bounds."""
    await fill_more(shop, 3000)

    await backfill(shop, workers=1, first_chunk=10, smallest_chunk=10, largest_chunk=500)

    sizes = [event.rows_read for event in shop.observer.events if isinstance(event, ChunkCopied)]
    assert 500 == max(sizes)
    assert all(after <= max(2 * before, 10) for before, after in pairwise(sizes))


async def fill_more(shop: Twins, rows: int) -> None:
    """Add wares to the legacy store."""
    await shop.write(
        P,
        f"INSERT INTO \"Ware\" SELECT n, 'more ' || n, 'old', 1 FROM generate_series(1001, {1000 + rows}) n",
    )
    await forget(shop)
