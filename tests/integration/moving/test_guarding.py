"""The guard on real stores: what processes publish trips it, and the model walks back one step and stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from places import COHORT, QUICK, SHELF, Heard, Places, opened
from proxy import Proxy

from crossfade.conductor import Conductor
from crossfade.dsn import Dsn
from crossfade.events import (
    Event,
    GuardTripped,
    ObserverFailed,
    OperationFinished,
    ReadCompared,
    Role,
    Verdict,
)
from crossfade.guard import FleetWitness
from crossfade.judge import Seen
from crossfade.moving import Mover
from crossfade.operation import Action
from crossfade.planner import Planner
from crossfade.signals import Signals
from crossfade.stages import Side, Stage
from crossfade.store.record import Entry, read_history
from crossfade.thresholds import GuardThresholds

LOOK = 0.05


class Counted(FleetWitness):
    """Counts how often it was asked, so that a test can wait for the guard to have looked."""

    looks = 0

    async def look(self, entered: Mapping[str, int]) -> Seen:
        seen = await super().look(entered)
        self.looks += 1
        return seen

    async def more_looks(self, times: int = 10) -> None:
        """Wait until the guard has looked so many times more."""
        wanted = self.looks + times
        await until(lambda: self.looks >= wanted)


@pytest.fixture
def witness(places: Places) -> Counted:
    """What the fleet has published."""
    return Counted(places.stores)


@asynccontextmanager
async def guarding(
    places: Places,
    bounds: GuardThresholds | None = None,
    witness: FleetWitness | None = None,
    thresholds: Callable[[str], GuardThresholds] | None = None,
) -> AsyncIterator[Conductor]:
    """A conductor with a guard that looks often."""
    mover = Mover(places.stores, places.carrier, SHELF, places.heard, QUICK)
    async with Conductor(
        mover,
        places.view,
        Planner(SHELF),
        places.heard,
        places.stores,
        witness=witness or FleetWitness(places.stores),
        thresholds=thresholds or (lambda _: bounds or GuardThresholds()),
        interval=0.02,
        look=LOOK,
    ) as conductor:
        yield conductor


@asynccontextmanager
async def working(places: Places, facts: Callable[[], Iterator[Event]]) -> AsyncIterator[None]:
    """An application's process: something happens again and again, and it publishes what it sees."""
    signals = Signals(places.stores[Side.PRISMA], SHELF, places.view, name="app", interval=3600.0)

    async def work() -> None:
        while True:
            for fact in facts():
                signals.observe(fact)
            await signals.flush()
            await asyncio.sleep(LOOK)

    async with signals:
        task = asyncio.create_task(work())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def calls(model: str, side: Side, seconds: float = 0.001, error: str | None = None) -> Iterator[Event]:
    """Ten calls of a side."""
    for _ in range(10):
        yield OperationFinished(model, Action.FIND_MANY, side, Role.SHADOW, seconds, error)


def failing(*models: str) -> Callable[[], Iterator[Event]]:
    """The new store is away."""

    def facts() -> Iterator[Event]:
        for model in models:
            yield from calls(model, Side.SQLALCHEMY, error="StoreUnavailableError")

    return facts


def fine() -> Iterator[Event]:
    """Everything is well."""
    for model in COHORT:
        for side in Side:
            yield from calls(model, side)


def slow() -> Iterator[Event]:
    """The new store is slow."""
    yield from calls("Book", Side.PRISMA)
    yield from calls("Book", Side.SQLALCHEMY, 0.3)


def different() -> Iterator[Event]:
    """Some answers differ, each about another key."""
    key = iter(range(10**9))
    for number in range(20):
        verdict = Verdict.MATCHED if number % 5 else Verdict.MISMATCHED
        yield ReadCompared("Book", Action.FIND_UNIQUE, verdict, (), next(key))


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that the guard does."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def paused_at(places: Places, stage: Stage, *models: str) -> Callable[[], bool]:
    """Whether models have been walked back to a stage, as the view has it."""
    return lambda: all(
        places.view.record(model).paused
        and places.view.record(model).stage is stage
        and model not in places.view.unsettled()
        for model in models
    )


def trips(heard: Heard) -> list[GuardTripped]:
    return [event for event in heard.events if isinstance(event, GuardTripped)]


async def history(places: Places, model: str) -> list[Entry]:
    store = places.stores[Side.PRISMA]
    async with store.transaction() as connection:
        return await read_history(connection, store, model, after=0)


@pytest.mark.parametrize(
    ("facts", "signal"), [(failing("Book"), "errors"), (slow, "latency"), (different, "mismatches")]
)
async def test_a_model_that_does_not_do_well_is_walked_back_and_stays(
    places: Places, witness: Counted, facts: Callable[[], Iterator[Event]], signal: str
) -> None:
    """One step, one event, with the reason in the record and in the history; whatever its flag asks for."""
    await places.stand_at(Stage.SHADOW)
    async with guarding(places, witness=witness) as conductor, working(places, facts):
        conductor.request("Author", Stage.SHADOW, by="team", cohort="shelf")
        conductor.request("Book", Stage.LIVE, by="team", cohort="shelf")
        await until(paused_at(places, Stage.DUALWRITE, "Book"))
        await until(lambda: "resume" in conductor.held().get("Book", ""))
        await witness.more_looks()

    record = places.view.record("Book")
    [trip] = trips(places.heard)
    assert ("Book", Stage.SHADOW, signal) == trip[:3]
    assert record.reason == trip.reason
    assert trip.reason.startswith(f"{signal}: ")
    assert ("guard", Stage.DUALWRITE) == (record.by, record.stage)
    assert Stage.SHADOW is places.view.record("Author").stage
    moves = [entry for entry in await history(places, "Book") if entry.by == "guard"]
    assert [(Stage.DUALWRITE, trip.reason)] == [(entry.stage, entry.reason) for entry in moves]


async def test_keys_that_wait_too_long_trip_it(places: Places) -> None:
    """In either store."""
    await places.stand_at(Stage.SHADOW)
    await places.write(Side.PRISMA, "INSERT INTO \"Tag\" VALUES ('t')")
    async with guarding(places, GuardThresholds(lag=0.2)):
        await until(paused_at(places, Stage.DUALWRITE, "Tag"))

    [trip] = trips(places.heard)
    assert ("Tag", "lag") == (trip.model, trip.signal)
    assert not places.view.record("Book").paused


async def test_bounds_that_cannot_be_used_do_not_blind_the_guard(places: Places) -> None:
    """The defaults hold, and whose fault it is is told."""

    def broken(model: str) -> GuardThresholds:
        return GuardThresholds.of({model: 1.0})

    await places.stand_at(Stage.SHADOW)
    async with guarding(places, thresholds=broken), working(places, failing("Book")):
        await until(paused_at(places, Stage.DUALWRITE, "Book"))

    told = {event for event in places.heard.events if isinstance(event, ObserverFailed)}
    assert {ObserverFailed("thresholds", "ConfigurationError")} == told


async def test_a_model_that_does_well_is_left_alone(places: Places, witness: Counted) -> None:
    """The guard has looked many times."""
    await places.stand_at(Stage.LIVE)
    async with guarding(places, witness=witness), working(places, fine):
        await witness.more_looks(20)

    assert [] == trips(places.heard)
    assert not any(record.paused for record in places.view.records.values())


async def test_the_authority_walks_back_with_its_cohort(places: Places) -> None:
    """Also with a model that is further ahead: that one comes back first. Nothing that was written is lost."""
    await places.stand_at(Stage.LIVE)
    await places.bring(["Author"], Stage.RAMPDOWN)
    await places.write(Side.SQLALCHEMY, "INSERT INTO \"Author\" VALUES ('a', 'Ann')")
    async with guarding(places) as conductor, working(places, failing("Book")):
        for model, stage in (("Author", Stage.RAMPDOWN), ("Book", Stage.LIVE)):
            conductor.request(model, stage, by="team", cohort="shelf")
        await until(paused_at(places, Stage.SHADOW, *COHORT))

    assert ["Book"] == [trip.model for trip in trips(places.heard)]
    assert [Side.PRISMA] == await places.authors("Book")
    assert [Side.PRISMA] == await places.authors("Author")
    assert places.view.record("Author").reason.startswith("Book: errors: ")
    assert await places.level()


async def test_a_leader_that_comes_new_knows_the_cohort_without_any_flag(
    places: Places, dsns: dict[Side, Dsn]
) -> None:
    """The flag service may be away; the leader before has written down what it had heard."""
    await places.stand_at(Stage.LIVE)
    async with guarding(places) as conductor:
        for model in COHORT:
            conductor.request(model, Stage.LIVE, by="team", cohort="shelf")
        async with asyncio.timeout(10):
            while len(COHORT) != await places.write(Side.PRISMA, "SELECT count(*) FROM crossfade.request"):
                await asyncio.sleep(0.02)
    async with opened(dsns) as others, guarding(others), working(others, failing("Book")):
        await until(paused_at(others, Stage.SHADOW, *COHORT))

    assert ["Book"] == [trip.model for trip in trips(others.heard)]


async def test_it_tries_again_what_it_cannot_do_now_and_says_so_once(
    places: Places, witness: Counted
) -> None:
    """The planner's rules hold for the guard as well; meanwhile the model goes no further."""
    await places.stand_at(Stage.SHADOW)
    await places.bring(["Author"], Stage.DUALWRITE)
    async with guarding(places, witness=witness) as conductor, working(places, failing("Author")):
        await until(lambda: any(event.model == "Author" for event in places.heard.held()))
        conductor.request("Author", Stage.SHADOW, by="team")
        await witness.more_looks()
        assert "the guard walks it back: errors: " in conductor.held()["Author"]
        assert Stage.DUALWRITE is places.view.record("Author").stage
        for model in ("Book", "Tag"):
            conductor.request(model, Stage.OFF, by="team")
        await until(paused_at(places, Stage.OFF, "Author"))

    assert 1 == len(trips(places.heard))
    notes = [
        entry.reason
        for entry in await history(places, "Author")
        if entry.reason.startswith("held before off")
    ]
    assert 1 == len(notes)
    assert "the guard wants it back (errors: " in notes[0]
    assert "of Book (shadow)" in notes[0]


async def test_a_new_store_that_is_lost_while_it_has_the_authority_needs_force(
    places: Places, dsns: dict[Side, Dsn], witness: Counted
) -> None:
    """The history says once which command does it; when the store comes back the guard does it without force."""
    await places.stand_at(Stage.LIVE)
    target = dsns[Side.SQLALCHEMY]
    async with Proxy(target.host, target.port) as proxy:
        behind = replace(target, host="127.0.0.1", port=proxy.port)
        async with opened({**dsns, Side.SQLALCHEMY: behind}) as others:
            async with guarding(others, witness=witness) as conductor, working(others, failing("Book")):
                for model in COHORT:
                    conductor.request(model, Stage.LIVE, by="team", cohort="shelf")
                await until(lambda: conductor.leads)
                proxy.cut()
                await until(lambda: any("--force" in event.reason for event in others.heard.held()))
                await witness.more_looks()
                proxy.refuses = False
                await until(paused_at(others, Stage.SHADOW, *COHORT), 30.0)
            assert ["Book"] == [trip.model for trip in trips(others.heard)]

    told = [entry.reason for entry in await history(places, "Book") if "--force" in entry.reason]
    assert 1 == len(told)
    assert "If it is lost, run `crossfade rollback Book --force`" in told[0]
