"""The conductor and what keeps it from a step: a pause, a lease that runs, gates; and what it tells of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from places import COHORT, MODELS, QUICK, SHELF, Places

from crossfade.conductor import Conductor
from crossfade.errors import StageMoveError
from crossfade.events import GateRead, ModelResumed
from crossfade.gates import AllGates, Gate, GateName, NoGates
from crossfade.moving import Mover
from crossfade.planner import Planner
from crossfade.stages import Side, Stage
from crossfade.store.record import read_history
from crossfade.store.requests import GateReading, Requested, read_requests

LEASE = 1.0


class Counting(NoGates):
    """One gate, whose figure is another one each time; it holds when that is wanted."""

    def __init__(self, *, holds: bool = False) -> None:
        self.holds = holds
        self.asked = 0

    def _gate(self, model: str) -> Gate:
        self.asked += 1
        remedy = "" if self.holds else "wait for more"
        return Gate(model, GateName.COMPARISONS, f"{self.asked} keys", remedy, float(self.asked))

    async def unmet(self, models: Sequence[str], current: Stage, wanted: Stage) -> list[Gate]:
        return [gate for model in models if not (gate := self._gate(model)).holds]

    async def read(
        self, models: Sequence[str], wanted: Mapping[str, Stage] | None = None
    ) -> dict[str, list[Gate]]:
        return {model: [self._gate(model)] for model in models}


@asynccontextmanager
async def conducting(places: Places, gates: NoGates | AllGates | None = None) -> AsyncIterator[Conductor]:
    """A conductor, with gates if any."""
    mover = Mover(places.stores, places.carrier, SHELF, places.heard, QUICK)
    async with Conductor(
        mover, places.view, Planner(SHELF), places.heard, places.stores, gates=gates, interval=0.02
    ) as conductor:
        yield conductor


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that the conductor does."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def pause(places: Places, *models: str, stage: Stage = Stage.SHADOW) -> None:
    """Let models be walked back to a stage."""
    await places.mover().move(models, stage, by="guard", reason="errors: too many", pauses=True)
    await places.view.refresh()


async def reasons(places: Places, model: str) -> list[str]:
    store = places.stores[Side.PRISMA]
    async with store.transaction() as connection:
        return [entry.reason for entry in await read_history(connection, store, model, after=0)]


async def requests(places: Places) -> dict[str, Requested]:
    """What the leader has written down."""
    store = places.stores[Side.PRISMA]
    async with store.transaction() as connection:
        return await read_requests(connection, store)


async def written(places: Places, model: str, condition: Callable[[Requested], bool]) -> Requested:
    """Wait until what stands in the table is as it should be."""
    async with asyncio.timeout(20):
        while True:
            row = (await requests(places)).get(model)
            if row is not None and condition(row):
                return row
            await asyncio.sleep(0.02)


async def test_a_paused_model_takes_no_step_forward_whoever_asks(places: Places) -> None:
    """Neither for a request of before nor for a new one, nor with its cohort; back it goes as ever."""
    await places.stand_at(Stage.LIVE)
    await pause(places, *COHORT)
    async with conducting(places) as conductor:
        for stage in (Stage.RAMPDOWN, Stage.COMPLETE):
            for model in COHORT:
                conductor.request(model, stage, by=f"team that asks for {stage}", cohort="shelf")
            why = "the guard walked it back: errors: too many; look into it, then run `crossfade resume Book`"
            await until(lambda: why == conductor.held().get("Book"))  # noqa: B023 - it is awaited right here
        with pytest.raises(StageMoveError, match="crossfade resume Book"):
            await places.mover().move(["Book"], Stage.LIVE, by="somebody")
        assert Stage.SHADOW is places.view.record("Book").stage
        for model in MODELS:
            conductor.request(model, Stage.DUALWRITE, by="team", cohort="shelf" if model in COHORT else None)
        await until(lambda: places.view.record("Book").stage is Stage.DUALWRITE)

    assert places.view.record("Book").paused


async def test_a_model_that_is_resumed_goes_on(places: Places) -> None:
    """At once, and what was seen before counts no more."""
    await places.stand_at(Stage.SHADOW)
    await pause(places, "Tag", stage=Stage.DUALWRITE)
    before = places.view.record("Tag")
    async with conducting(places) as conductor:
        conductor.request("Tag", Stage.SHADOW, by="team")
        await until(lambda: "resume" in conductor.held().get("Tag", ""))
        assert ["Tag"] == await places.mover().resume(["Tag", "Book"], by="ann", reason="index added")
        await until(lambda: places.view.record("Tag").stage is Stage.SHADOW)
        await until(lambda: not conductor.held())

    record = places.view.record("Tag")
    assert not record.paused
    assert before.entered < record.entered
    assert [("Tag", "ann", "index added")] == [
        tuple(event) for event in places.heard.events if isinstance(event, ModelResumed)
    ]
    assert "resumed: index added" in await reasons(places, "Tag")


async def test_a_step_that_stops_feeding_a_store_waits_for_a_lease(places: Places) -> None:
    """Back to `off` as well; the history says once that it waited."""
    gates = AllGates(places.stores, SHELF, lambda _: None, lease=LEASE)
    async with conducting(places, gates) as conductor:
        conductor.request("Tag", Stage.DUALWRITE, by="team")
        await until(lambda: places.view.record("Tag").stage is Stage.DUALWRITE)
        began = places.view.record("Tag").since
        conductor.request("Tag", Stage.OFF, by="team")
        await until(lambda: places.view.record("Tag").stage is Stage.OFF)
        ended = places.view.record("Tag").since

    waited = (ended - began).total_seconds()
    assert LEASE <= waited < LEASE + 2.0
    assert 1 == sum(reason.startswith("held before off: ") for reason in await reasons(places, "Tag"))


async def test_the_figures_of_its_gates_go_into_the_history_with_a_step(places: Places) -> None:
    """So that it can be seen later on what ground it was taken."""
    async with conducting(places, Counting(holds=True)) as conductor:
        conductor.request("Author", Stage.DUALWRITE, by="team")
        await until(lambda: places.view.record("Author").stage is Stage.DUALWRITE)
    store = places.stores[Side.PRISMA]
    async with store.transaction() as connection:
        told = await connection.fetchval(
            "SELECT gates FROM crossfade.history WHERE model = 'Author' AND stage = 'dualwrite'"
        )

    assert "comparisons" in json.loads(told)
    assert json.loads(told)["comparisons"].endswith(" keys")


async def test_a_gate_that_stays_shut_is_told_once_and_its_figure_is_kept_up_to_date(places: Places) -> None:
    """In the table for whoever asks; not in the history, which would have no end."""
    gates = Counting()
    async with conducting(places, gates) as conductor:
        conductor.request("Author", Stage.SHADOW, by="team", cohort="shelf")
        row = await written(places, "Author", lambda row: bool(row.held and row.gates))
        await written(places, "Author", lambda later: later.gates != row.gates and later.at > row.at)
        assert 1 == len(places.heard.held())
        gates.holds = True
        await until(lambda: places.view.record("Author").stage is Stage.SHADOW)
        done = await written(places, "Author", lambda row: row.wanted is None)

    assert ("Author", Stage.SHADOW, "team", "shelf", Stage.DUALWRITE) == (
        row.model,
        row.stage,
        row.by,
        row.cohort,
        row.wanted,
    )
    assert "its comparisons do not prove enough: " in row.held
    [gate] = row.gates
    assert GateReading("comparisons", False, gate.figure, "wait for more", gate.number) == gate
    assert "" == done.held
    assert 1 == sum("held before" in reason for reason in await reasons(places, "Author"))


async def test_the_gates_of_models_that_nobody_moves_are_read_too(places: Places) -> None:
    """A dashboard shows how far each model is from its next step."""
    async with conducting(places, Counting()):
        await until(
            lambda: (
                set(MODELS) <= {event.model for event in places.heard.events if isinstance(event, GateRead)}
            )
        )

    read = [event for event in places.heard.events if isinstance(event, GateRead)]
    assert all((event.gate, event.holds) == ("comparisons", False) for event in read)
    assert all(event.figure is not None for event in read)


async def test_a_model_that_nobody_asks_anything_of_stays_where_it_is(places: Places) -> None:
    """A flag service that has no opinion yet moves nothing."""
    await places.stand_at(Stage.SHADOW)
    async with conducting(places) as conductor:
        conductor.request("Tag", Stage.DUALWRITE, by="team")
        await until(lambda: places.view.record("Tag").stage is Stage.DUALWRITE)
        await written(places, "Tag", lambda row: row.wanted is None)

    assert {"Tag"} == (await requests(places)).keys()
    assert Stage.SHADOW is places.view.record("Book").stage
