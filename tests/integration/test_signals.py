"""Processes that publish what they see to a real store, which may be away, and read what the whole fleet has seen."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest
from small_store import small_store

from crossfade.drill.network import Mode
from crossfade.drill.proxy import Proxy
from crossfade.events import ModelsSpanned, OperationFinished, ReadCompared, Role, Verdict
from crossfade.operation import Action
from crossfade.signals import Signals
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.fleet import EVIDENCE_BITS
from crossfade.store.record import advance
from crossfade.store.signals import (
    Kind,
    Process,
    Timing,
    prune,
    read_kinds,
    read_processes,
    read_spanned,
    read_timings,
)
from crossfade.store.view import RecordView
from databases import FreshDatabase
from small_schema import SMALL

CALLED = OperationFinished("Author", Action.COUNT, Side.PRISMA, Role.AUTHORITY, 0.001, None)
NEVER = 3_600.0


class Fleet:
    """A store, and processes that publish to it when they are told to."""

    def __init__(self, store: Store, view: RecordView, stack: AsyncExitStack) -> None:
        self.store = store
        self.view = view
        self.stack = stack

    async def start(self, name: str, *, leads: bool = False, store: Store | None = None) -> Signals:
        """Start one more, and have it known."""
        signals = Signals(
            store or self.store, SMALL, self.view, name=name, interval=NEVER, leads=lambda: leads
        )
        await self.stack.enter_async_context(signals)
        await asyncio.sleep(0)  # it publishes by itself once, at the start
        await signals.flush()
        return signals

    async def timings(self, entered: int = 1) -> list[Timing]:
        """The sums of calls."""
        async with self.store.transaction() as connection:
            return await read_timings(connection, self.store, {"Author": entered})

    async def kinds(self, entered: int = 1) -> list[Kind]:
        """The sums of comparisons."""
        async with self.store.transaction() as connection:
            return await read_kinds(connection, self.store, {"Author": entered})

    async def processes(self) -> list[Process]:
        """Who is known."""
        async with self.store.transaction() as connection:
            return await read_processes(connection, self.store)


@pytest.fixture
async def fleet(fresh_database: FreshDatabase) -> AsyncIterator[Fleet]:
    """A store without processes."""
    async with (
        small_store(await fresh_database()) as store,
        RecordView({Side.PRISMA: store}) as view,
        AsyncExitStack() as stack,
    ):
        yield Fleet(store, view, stack)


def compared(key: int, verdict: Verdict = Verdict.MATCHED) -> ReadCompared:
    """A comparison of one key."""
    return ReadCompared("Author", Action.COUNT, verdict, (), key)


async def test_a_fleet_is_the_sum_of_its_processes(fleet: Fleet) -> None:
    """Calls add up; a key that several have compared counts once; each is known by its name."""
    one, two = await fleet.start("one", leads=True), await fleet.start("two")
    for signals, keys in ((one, range(600)), (two, range(400, 1000))):
        for key in keys:
            signals.observe(compared(key))
            signals.observe(CALLED)
        signals.observe(ModelsSpanned(("Book", "Author"), is_write=True))
    two.observe(compared(3, Verdict.MISMATCHED))
    await asyncio.gather(one.flush(), two.flush())
    await one.flush()
    (timing,) = await fleet.timings()
    processes = await fleet.processes()
    async with fleet.store.transaction() as connection:
        (spanned,) = await read_spanned(connection, fleet.store)

    assert (1200, 0, 1200) == (timing.calls, timing.failures, sum(timing.buckets))
    assert [Kind("Author", "read", "count", 1000, 1, {"matched": 1200, "mismatched": 1})] == (
        await fleet.kinds()
    )
    assert (("Author", "Book"), True, 2) == (spanned.models, spanned.is_write, spanned.times)
    assert [("one", True), ("two", False)] == [(p.name, p.leads) for p in processes]
    assert {"Author": 1, "Book": 1} == processes[0].epochs


async def test_many_write_to_the_same_pages_at_once(fleet: Fleet) -> None:
    """None waits for another in vain, and nothing is lost."""
    everyone = [await fleet.start(f"{number}") for number in range(4)]
    for number, signals in enumerate(everyone):
        for action in (Action.COUNT, Action.FIND_MANY, Action.FIND_FIRST):
            for key in range(number, 4000, 2):
                position = key * 7_919 % EVIDENCE_BITS
                signals.observe(ReadCompared("Author", action, Verdict.MATCHED, (), position))
    started = monotonic()
    await asyncio.gather(*(signals.flush() for signals in everyone))

    assert [4000] * 3 == [kind.compared for kind in await fleet.kinds()]
    assert monotonic() - started < 2.0


async def test_the_leader_throws_away_while_others_write(fleet: Fleet) -> None:
    """Neither waits for the other in vain, and no sum changes by it."""
    everyone = [await fleet.start(f"{number}") for number in range(3)]
    record = fleet.view.record("Author")

    async def prune_all() -> None:
        async with fleet.store.transaction() as connection:
            await prune(connection, fleet.store, {"Author": record.entered})

    for number in range(15):
        for signals in everyone:
            signals.observe(CALLED)
            signals.observe(compared(number))
        if number == 5:
            await everyone.pop().__aexit__()
        await asyncio.gather(prune_all(), *(signals.flush() for signals in everyone), prune_all())
    (timing,) = await fleet.timings()
    (kind,) = await fleet.kinds()

    assert 15 + 15 + 6 == timing.calls == sum(timing.buckets) == kind.verdicts["matched"]
    assert 15 == kind.compared


async def test_what_a_killed_process_has_seen_stays(fleet: Fleet) -> None:
    """And so does its name, with an age that grows; one that ends properly takes its name along."""
    tests = Path(__file__).parents[1]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        Path(__file__).with_name("publisher.py"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    assert child.stdin
    assert child.stdout
    child.stdin.write(f"{fleet.store.dsn.libpq_url()}\n".encode())
    name = (await child.stdout.readline()).decode().strip()
    child.kill()
    await child.wait()
    async with Signals(fleet.store, SMALL, fleet.view, name="other", interval=NEVER) as other:
        for key in range(50, 150):
            other.observe(compared(key))
        await other.flush()
        alive = await fleet.processes()
    (left,) = await fleet.processes()
    (kind,) = await fleet.kinds()
    (timing,) = await fleet.timings()

    assert name.endswith(f":{child.pid}")
    assert {name, "other"} == {process.name for process in alive}
    assert name == left.name
    assert left.age > next(process.age for process in alive if process.name == name) > 0
    assert (150, 200, 100) == (kind.compared, kind.verdicts["matched"], timing.calls)


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.STALLED])
async def test_a_store_that_is_away_loses_nothing_and_holds_nobody_up(
    fleet: Fleet, tmp_path: Path, mode: Mode
) -> None:
    """What is seen meanwhile is published when it is back, over a connection made anew."""
    (tmp_path / "logs").mkdir()
    async with Proxy(tmp_path) as network:
        line = await network.line("legacy", fleet.store.dsn)
        signals = await fleet.start("far", store=Store(Side.PRISMA, line, SMALL))
        signals.observe(compared(1))
        await signals.flush()
        await network.set("legacy", mode)
        for key in range(1000):
            signals.observe(compared(key))
            signals.observe(CALLED)
        started = monotonic()
        await signals.flush()
        waited = monotonic() - started
        signals.observe(compared(5000))
        before = await fleet.kinds()
        await network.set("legacy", Mode.OPEN)
        await signals.flush()
        after = await fleet.kinds()
        (timing,) = await fleet.timings()

    assert waited < 4.0
    assert [1] == [kind.compared for kind in before]
    assert [(1001, 1002)] == [(kind.compared, kind.verdicts["matched"]) for kind in after]
    assert 1000 == timing.calls


async def test_nothing_is_raised_where_the_store_never_answers(fleet: Fleet) -> None:
    """Neither at the start, nor while it runs, nor at the end."""
    nowhere = Store(Side.PRISMA, replace(fleet.store.dsn, port=1), SMALL)
    async with Signals(nowhere, SMALL, fleet.view, interval=0.001) as signals:
        signals.observe(CALLED)
        await signals.flush()

    assert [] == await fleet.timings()


async def test_facts_count_for_the_stay_that_the_record_tells_of(fleet: Fleet) -> None:
    """From the moment on at which this process knows of it."""
    signals = await fleet.start("one")
    signals.observe(compared(1))
    signals.observe(CALLED)
    await signals.flush()
    record = fleet.view.record("Author")
    async with fleet.store.transaction() as connection:
        moved = replace(record, epoch=record.epoch + 1, entered=record.epoch + 1)
        await advance(connection, fleet.store, [moved], expected={"Author": record.epoch})
    await fleet.view.refresh()
    for key in (2, 3):
        signals.observe(compared(key))
        signals.observe(CALLED)
    await signals.flush()

    assert [1, 2] == [(await fleet.kinds(entered))[0].compared for entered in (1, moved.entered)]
    assert [1, 2] == [(await fleet.timings(entered))[0].calls for entered in (1, moved.entered)]
    assert [moved.epoch] == [process.epochs["Author"] for process in await fleet.processes()]


async def test_a_process_that_was_given_up_begins_anew(fleet: Fleet) -> None:
    """What it had seen has been added to the sums of the departed, and must not be counted twice."""
    signals = await fleet.start("one")
    signals.observe(CALLED)
    await signals.flush()
    former = signals.id
    async with fleet.store.transaction() as connection:
        await connection.execute(f"DELETE FROM {fleet.store.own('process')}")
    await signals.flush()
    signals.observe(CALLED)
    await signals.flush()
    (process,) = await fleet.processes()

    assert former != signals.id == process.id
    assert [2] == [timing.calls for timing in await fleet.timings()]
