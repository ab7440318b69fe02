"""The guard as a whole, at its default settings: a new store that fails or slows down under an application's load."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from pathlib import Path

import pytest
from fleet import prepared
from member import SCHEMA, TABLES

from crossfade.client import DatabaseClient
from crossfade.drill.network import Mode
from crossfade.drill.proxy import Proxy
from crossfade.errors import CrossfadeError
from crossfade.events import GuardTripped
from crossfade.flags.files import FileFlags, write_stage
from crossfade.gates import NoGates
from crossfade.migration import Migration
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from crossfade.stages import Side, Stage, next_step
from crossfade.store import Store
from crossfade.testing import RecordingObserver
from databases import FreshDatabase
from property.relations.graph import records_of

MODEL = "Parent"
PEOPLE = 8
"""How many callers there are at a time."""


async def use(db: DatabaseClient, person: int) -> None:
    """Write and read, again and again; an error is the caller's business, who goes on."""
    model = db.model(MODEL)
    for number in itertools.count():
        key = f"{person}-{number}"
        with suppress(CrossfadeError):
            await model.create(data={"id": key, "tag": key, "code": key})
            for _ in range(4):
                await model.find_unique(where={"id": key})
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("stage", "mode", "delay", "signals"),
    [
        (Stage.SHADOW, Mode.CUT, 0.0, {"errors"}),
        (Stage.SHADOW, Mode.STALLED, 0.0, {"errors", "latency"}),
        (Stage.SHADOW, Mode.OPEN, 0.2, {"latency"}),
        (Stage.LIVE, Mode.OPEN, 0.04, {"latency"}),
    ],
    ids=["shadow-cut", "shadow-stalled", "shadow-slow", "live-slow"],
)
async def test_a_new_store_in_trouble_is_left_within_fifteen_seconds(
    fresh_database: FreshDatabase, tmp_path: Path, stage: Stage, mode: Mode, delay: float, signals: set[str]
) -> None:
    """From the moment at which it begins to fail, or to be slow, until the model stands one step back."""
    dsns = await prepared(fresh_database)
    flags = tmp_path / "flags"
    flags.mkdir()
    (tmp_path / "logs").mkdir()
    for model in SCHEMA.models:
        write_stage(flags, model, stage)
    observer = RecordingObserver()
    records = records_of(SCHEMA)
    async with Proxy(tmp_path) as proxy:
        dsns[Side.SQLALCHEMY] = await proxy.line("target", dsns[Side.SQLALCHEMY])
        async with Migration(
            SCHEMA,
            {side: SqlAlchemyPath(SCHEMA, TABLES, records, dsn, side=side) for side, dsn in dsns.items()},
            FileFlags(flags, SCHEMA.models, observer),
            stores={side: Store(side, dsn, SCHEMA) for side, dsn in dsns.items()},
            followers={
                side: SqlAlchemyPath(SCHEMA, TABLES, records, dsn, side=side, role="follower")
                for side, dsn in dsns.items()
            },
            observer=observer,
            gates=NoGates(),
        ) as migration:
            async with asyncio.timeout(20):
                while migration.view.record(MODEL).stage is not stage:
                    await asyncio.sleep(0.02)
            db = DatabaseClient(migration.repository)
            people = [asyncio.create_task(use(db, person)) for person in range(PEOPLE)]
            try:
                await asyncio.sleep(4)  # the guard has watched it do well
                assert [] == observer.of(GuardTripped)
                await proxy.set("target", mode, delay=delay)
                async with asyncio.timeout(15):
                    while not migration.view.record(MODEL).paused:
                        await asyncio.sleep(0.02)
            finally:
                for person in people:
                    person.cancel()
                await asyncio.gather(*people, return_exceptions=True)
                await proxy.set("target")

    [trip] = [event for event in observer.of(GuardTripped) if event.model == MODEL]
    assert trip.signal in signals
    assert next_step(stage, Stage.OFF) is migration.view.record(MODEL).stage
