"""The conductor and a real Unleash server: requests are followed, and without the server no step forward is taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from places import QUICK, SHELF, Places

from crossfade.conductor import Conductor
from crossfade.flags.unleash import UnleashFlags
from crossfade.gates import Gate, GateName, NoGates
from crossfade.moving import Mover
from crossfade.planner import Planner
from crossfade.stages import Stage
from flag_readers import Ear, flag_that, until
from unleash import Unleash

AWAY = (
    "the flag service is away, or says nothing of it that can be used; no step forward is taken until it does"
)


class Shut(NoGates):
    """A gate that holds when it is wanted."""

    def __init__(self) -> None:
        self.is_open = False

    async def unmet(self, models: Sequence[str], current: Stage, wanted: Stage) -> list[Gate]:
        return [] if self.is_open else [Gate(model, GateName.LAG, "9 s", "wait") for model in models]

    async def read(
        self, models: Sequence[str], wanted: Mapping[str, Stage] | None = None
    ) -> dict[str, list[Gate]]:
        return {model: [] for model in models}


@asynccontextmanager
async def following(
    places: Places, unleash: Unleash, cache: Path, gates: NoGates
) -> AsyncIterator[tuple[Conductor, UnleashFlags]]:
    """A conductor that is asked by the server."""
    flags = UnleashFlags(
        unleash.server.url,
        unleash.server.backend_token,
        ["Tag"],
        Ear(),
        environment="development",
        app_name="shelf",
        cache_dir=cache,
        poll_seconds=0.2,
    )
    mover = Mover(places.stores, places.carrier, SHELF, places.heard, QUICK)
    planner = Planner(SHELF)
    async with (
        flags,
        Conductor(
            mover, places.view, planner, places.heard, places.stores, gates=gates, interval=0.02
        ) as conductor,
    ):

        async def follow() -> None:
            changes = flags.changes()
            for flag in flags.current().values():
                conductor.request(flag.model, flag.stage, by="flag", confirmed=flag.confirmed)
            async for flag in changes:
                conductor.request(flag.model, flag.stage, by="flag", confirmed=flag.confirmed)

        task = asyncio.create_task(follow())
        yield conductor, flags
        task.cancel()


def stands(places: Places, stage: Stage) -> Callable[[], bool]:
    return lambda: places.view.record("Tag").stage is stage


async def test_a_flip_moves_the_record_there_and_back(
    places: Places, unleash: Unleash, tmp_path: Path
) -> None:
    """What is clicked in the server happens to the record; switched off, the model walks back to where it began."""
    await unleash.flag("Tag", {"stage": "dualwrite"})
    await unleash.settle()

    async with following(places, unleash, tmp_path, NoGates()):
        await until(stands(places, Stage.DUALWRITE))
        await unleash.flag("Tag", {"stage": "shadow"})
        await until(stands(places, Stage.SHADOW))
        await unleash.switch("Tag", on=False)
        await until(lambda: len(places.heard.moved()) == 4)

    assert ["dualwrite", "shadow", "dualwrite", "off"] == [str(moved.after) for moved in places.heard.moved()]


async def test_nothing_goes_forward_while_the_server_is_away(
    places: Places, unleash: Unleash, tmp_path: Path
) -> None:
    """A step that was asked for waits until the server is back, though its gates hold by now."""
    await unleash.flag("Tag", {"stage": "dualwrite"})
    await unleash.settle()
    gates = Shut()

    async with following(places, unleash, tmp_path, gates) as (conductor, flags):
        await until(lambda: "its lag is too large" in conductor.held().get("Tag", ""))
        await unleash.server.stop()
        await flag_that(flags, lambda flag: not flag.confirmed)
        gates.is_open = True
        await until(lambda: conductor.held().get("Tag") == AWAY)
        stood = places.view.record("Tag").stage
        await unleash.server.start()
        await until(stands(places, Stage.DUALWRITE))

    assert Stage.OFF is stood


async def test_a_cold_start_without_the_server_moves_nothing_forward(
    places: Places, unleash: Unleash, tmp_path: Path
) -> None:
    """What an earlier process remembers may be out of date: a model that was walked back since stays where it is."""
    await unleash.flag("Tag", {"stage": "shadow"})
    await unleash.settle()
    async with following(places, unleash, tmp_path, NoGates()) as (conductor, flags):
        await until(stands(places, Stage.SHADOW))
        await until(lambda: not conductor._steps.moving)
        await until(flags._remembered.path.exists)
    await places.mover().move(["Tag"], Stage.DUALWRITE, by="somebody")
    await places.view.refresh()
    await unleash.server.stop()

    async with following(places, unleash, tmp_path, NoGates()) as (conductor, flags):
        await until(lambda: conductor.held().get("Tag") == AWAY)
        asked = flags.current()["Tag"]
        stood = places.view.record("Tag").stage
    async with following(places, unleash, tmp_path / "new", NoGates()) as (conductor, flags):
        await until(lambda: conductor.leads)
        nothing = dict(flags.current())

    assert (Stage.SHADOW, False) == (asked.stage, asked.confirmed)
    assert Stage.DUALWRITE is stood
    assert {} == nothing
    assert Stage.DUALWRITE is places.view.record("Tag").stage
