"""The recall on real stores: a flag that is toggled off turns the reads of a whole fleet, at once and unharmed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, Self

import pytest
from fleet import bring, prepared, processes
from member import SCHEMA, migration

from crossfade.client import DatabaseClient
from crossfade.events import OperationFinished, Role
from crossfade.flags import Changes, Flag
from crossfade.flags.files import write_stage
from crossfade.stages import Side, Stage
from crossfade.testing import RecordingObserver
from databases import FreshDatabase

FLEET = 4


def ask(flags: Path, stage: Stage) -> None:
    """Write every flag."""
    for model in SCHEMA.models:
        write_stage(flags, model, stage)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds that nothing announces."""
    async with asyncio.timeout(15.0):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("stage", [Stage.LIVE, Stage.RAMPDOWN])
async def test_a_fleet_returns_to_prisma_at_once_and_walks_back_drained(
    fresh_database: FreshDatabase, tmp_path: Path, stage: Stage
) -> None:
    """Four processes under load: no request fails, no caller misses a write of its own, and the record follows."""
    dsns = await prepared(fresh_database)
    ask(tmp_path, stage)
    async with migration(dsns, tmp_path, RecordingObserver()) as ours:
        await bring(ours, stage)
        async with processes(FLEET, dsns, tmp_path) as fleet:
            await asyncio.gather(*(each.order("load", name=f"m{n}") for n, each in enumerate(fleet)))
            turns = [each.order("await-reads", side=Side.PRISMA) for each in fleet]
            ends = [each.order("await-stage", stage=Stage.OFF) for each in fleet]
            asked_at = monotonic()
            ask(tmp_path, Stage.OFF)
            async with asyncio.timeout(30.0):
                recalled = await asyncio.gather(*turns)
                stands = [each["stage"] for each in recalled]
                await bring(ours, Stage.OFF)
                await asyncio.gather(*ends)
            told = [(await each.order("rest"))["told"] for each in fleet]

    latest = max(each["at"] for each in recalled) - asked_at
    assert [stage] * FLEET == stands, "the record had moved before the reads"
    assert latest < 3.0  # a poll of the files, on a busy machine
    assert [(0, 0)] * FLEET == [(each["failed"], each["different"]) for each in told], told
    assert min(each["calls"] for each in told) > 10


async def test_a_flag_that_goes_on_again_takes_the_reads_back(
    fresh_database: FreshDatabase, tmp_path: Path
) -> None:
    """The record has not moved; nothing was lost in between."""
    dsns = await prepared(fresh_database)
    observer = RecordingObserver()
    ask(tmp_path, Stage.LIVE)
    async with migration(dsns, tmp_path, observer) as ours:
        await bring(ours, Stage.LIVE)
        db = DatabaseClient(ours.repository).model("Parent")
        state = ours.repository.standings.models["Parent"]
        for turn, (wanted, side) in enumerate([(Stage.OFF, Side.PRISMA), (Stage.LIVE, Side.SQLALCHEMY)]):
            ask(tmp_path, wanted)
            await until(lambda side=side: state.reads is side)
            key = f"p{turn}"
            await db.create(data={"id": key, "tag": key, "code": key})
            observer.events.clear()
            assert await db.find_unique(where={"id": key}) is not None
            assert {side} == answered(observer)
            assert Stage.LIVE is ours.view.record("Parent").stage


def answered(observer: RecordingObserver) -> set[Any]:
    """Which sides have answered callers."""
    return {event.side for event in observer.of(OperationFinished) if event.role is Role.AUTHORITY}


async def test_at_complete_a_recall_waits_for_the_record(
    fresh_database: FreshDatabase, tmp_path: Path
) -> None:
    """Prisma's store has not been written to at once, and so it answers only when the authority is back."""
    dsns = await prepared(fresh_database)
    ask(tmp_path, Stage.COMPLETE)
    async with migration(dsns, tmp_path, RecordingObserver()) as ours:
        await bring(ours, Stage.COMPLETE)
        db = DatabaseClient(ours.repository).model("Parent")
        state = ours.repository.standings.models["Parent"]
        ask(tmp_path, Stage.OFF)
        await until(lambda: state.is_recalled)
        for number in range(20):
            key = f"p{number}"
            await db.create(data={"id": key, "tag": key, "code": key})
            assert await db.find_unique(where={"id": key}) is not None
        assert Side.SQLALCHEMY is state.reads

        await bring(ours, Stage.RAMPDOWN)
        assert Side.SQLALCHEMY is state.reads
        await bring(ours, Stage.OFF)
        assert Side.PRISMA is state.reads
        assert 20 == await db.count()


class Said:
    """A provider that says what a test says."""

    def __init__(self, **flag: Any) -> None:
        self._changes = Changes()
        self._flags: dict[str, Flag] = {}
        self.say(**flag)

    def say(self, **flag: Any) -> None:
        """Change every flag."""
        self._flags = {model: Flag(model, **flag) for model in SCHEMA.models}
        for each in self._flags.values():
            self._changes.put(each)

    def current(self) -> dict[str, Flag]:
        return self._flags

    def changes(self) -> Changes:
        return self._changes

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._changes.close()


async def test_only_a_flag_that_somebody_stands_behind_recalls(fresh_database: FreshDatabase) -> None:
    """What was remembered while the flag service is away changes nothing; what it has recalled stays recalled."""
    dsns = await prepared(fresh_database)
    flags = Said(stage=Stage.LIVE)
    async with migration(dsns, flags, RecordingObserver()) as ours:
        await bring(ours, Stage.LIVE)
    flags = Said(stage=Stage.OFF, confirmed=False)
    async with migration(dsns, flags, RecordingObserver()) as ours:
        state = ours.repository.standings.models["Parent"]
        assert Side.SQLALCHEMY is state.reads

        flags.say(stage=Stage.OFF, sample=0.5)
        await until(lambda: 0.5 == state.sample)
        assert Side.PRISMA is state.reads

        flags.say(stage=Stage.OFF, sample=0.25, confirmed=False)
        await until(lambda: 0.25 == state.sample)
        assert Side.PRISMA is state.reads


async def test_a_model_that_was_forced_back_has_no_canary(fresh_database: FreshDatabase) -> None:
    """Its new store may hold writes that were lost."""
    dsns = await prepared(fresh_database)
    flags = Said(stage=Stage.LIVE, canary=1.0)
    async with migration(dsns, flags, RecordingObserver()) as ours:
        await bring(ours, Stage.SHADOW)
        state = ours.repository.standings.models["Parent"]
        await until(lambda: state.candidate is Side.SQLALCHEMY)
        for store in ours.mover.stores.values():
            async with store.transaction() as connection:
                await connection.execute(
                    "UPDATE crossfade.record SET forced = true, epoch = epoch + 1 WHERE model = 'Parent'"
                )
        await ours.view.refresh()

        assert state.candidate is None
