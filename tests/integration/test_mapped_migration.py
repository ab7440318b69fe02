"""A whole migration over a mapping: followed, shadowed, moved forward and back, with nothing lost on the way."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from crossfade.dsn import Dsn
from crossfade.errors import InstallError
from crossfade.events import ConflictSettled, ReadCompared, Verdict, WriteCompared
from crossfade.flags.files import FileFlags
from crossfade.gates import NoGates
from crossfade.migration import Migration
from crossfade.operation import Action, Operation
from crossfade.paths import SessionRole
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from crossfade.reconcile import ReconcileSettings
from crossfade.repository import RepositorySettings
from crossfade.stages import Side, Stage
from crossfade.store import Store
from crossfade.store.install import install
from crossfade.testing import RecordingObserver
from databases import FreshDatabase
from workshop import LEGACY, MAPPINGS, MODELS, RECORDS, SAME, TABLES, TARGET, WORKSHOP

BORN = datetime(2024, 2, 29, 23, 59, 59, 999000, tzinfo=UTC)


class Running:
    """A migration of the workshop, and a plain connection to each store."""

    def __init__(
        self,
        migration: Migration,
        heard: RecordingObserver,
        plain: dict[Side, asyncpg.Connection],
        dsns: dict[Side, Dsn],
    ) -> None:
        self.migration = migration
        self.heard = heard
        self.plain = plain
        self.dsns = dsns

    async def __call__(self, model: str, action: Action, **arguments: Any) -> Any:
        """What the application calls."""
        return await self.migration.repository.execute(Operation(model, action, arguments))

    async def level(self) -> None:
        """Nothing is left to verify, and both stores say the same to who asks without crossfade."""
        assert await self.migration.repository.drain()
        drained = await self.migration.reconciler.drain(MODELS, 20)
        assert drained, await self.migration.reconciler.problems(MODELS)
        for legacy, target in SAME.values():
            rows = [
                await self.plain[side].fetch(query)
                for side, query in zip(Side, (legacy, target), strict=True)
            ]
            assert rows[0] == rows[1]


def migration_of(dsns: dict[Side, Dsn], flags: Path, heard: RecordingObserver) -> Migration:
    """The composition root, over paths that go by the mapping."""

    def paths(role: SessionRole) -> dict[Side, SqlAlchemyPath]:
        return {
            side: SqlAlchemyPath(
                WORKSHOP, TABLES, RECORDS, dsn, side=side, role=role, mappings=MAPPINGS, pool_size=4
            )
            for side, dsn in dsns.items()
        }

    return Migration(
        WORKSHOP,
        paths(SessionRole.AUTHOR),
        FileFlags(flags, WORKSHOP.models, heard),
        stores={side: Store(side, dsn, WORKSHOP, mappings=MAPPINGS) for side, dsn in dsns.items()},
        followers=paths(SessionRole.FOLLOWER),
        observer=heard,
        settings=RepositorySettings(follow="await"),
        reconciling=ReconcileSettings(settle=0.05),
        gates=NoGates(),
        conduct=False,
    )


@pytest.fixture
async def running(fresh_database: FreshDatabase, tmp_path: Path) -> AsyncIterator[Running]:
    """The migration, with every model at `off`."""
    dsns: dict[Side, Dsn] = {}
    plain: dict[Side, asyncpg.Connection] = {}
    for side, ddl in ((Side.PRISMA, LEGACY), (Side.SQLALCHEMY, TARGET)):
        dsns[side] = await fresh_database()
        plain[side] = await asyncpg.connect(**dsns[side].asyncpg_kwargs())
        await plain[side].execute(ddl)
        await plain[side].execute("SET TimeZone = 'UTC'")
        await install(Store(side, dsns[side], WORKSHOP, mappings=MAPPINGS), by="test")
    heard = RecordingObserver()
    async with migration_of(dsns, tmp_path, heard) as migration:
        yield Running(migration, heard, plain, dsns)
    for connection in plain.values():
        connection.terminate()


async def test_it_walks_there_and_back_over_the_mapping(running: Running) -> None:
    """At each stop rows of every model are written and read, whoever has the authority; nothing differs in between."""
    stages = list(Stage)
    stops = [*stages[1:], *reversed(stages[:-1]), *stages[1:4]]
    for number, stage in enumerate(stops):
        await running.migration.mover.move(MODELS, stage, by="test")
        await running.migration.view.refresh()
        for model in MODELS:
            running.migration.repository.sample(model, 1.0)
        owner = str(uuid.UUID(int=number + 1))
        data = {
            "id": owner,
            "email": owner,
            "nickname": f"n{number}",
            "born": BORN,
            "phone": "1",
            "remark": "r",
        }
        await running("Owner", Action.CREATE, data=data)
        account = {"region": "eu", "number": number, "owner_id": owner, "cents": number, "status": "OPEN"}
        await running("Account", Action.CREATE, data=account)
        key = {"region_number": {"region": "eu", "number": number}}
        changed = await running("Account", Action.UPDATE, where=key, data={"cents": {"increment": 100}})
        assert number + 100 == changed.cents
        await running(
            "Account", Action.UPSERT, where=key, data={"create": account, "update": {"status": "DONE"}}
        )
        tag = await running("Tag", Action.CREATE, data={"id": number, "name": f"{number}"})
        ticket = {"region": "eu", "number": number, "title": "t", "code": owner, "slot": number}
        made = await running("Ticket", Action.CREATE, data=ticket | {"tags": {"connect": [{"id": tag.id}]}})
        found = await running(
            "Owner",
            Action.FIND_MANY,
            where={"accounts": {"some": {"cents": {"gte": 100}, "status": "DONE"}}},
            order={"id": "asc"},
            include={"accounts": {"include": {"tickets": {"include": {"tags": True}}}}},
        )
        assert number + 1 == len(found)
        assert [str(number)] == [tag.name for tag in found[-1].accounts[0].tickets[0].tags]
        if number % 3 == 2:
            await running("Ticket", Action.DELETE, where={"id": made.id})
            await running("Ticket", Action.CREATE, data=ticket)
            await running("Ticket", Action.UPDATE_MANY, where={"number": number}, data={"title": "again"})
            await running("Ticket", Action.DELETE_MANY, where={"title": "again"})
            await running("Ticket", Action.CREATE, data=ticket | {"id": made.id})
            await running(
                "Ticket", Action.UPDATE, where={"id": made.id}, data={"tags": {"set": [{"id": tag.id}]}}
            )
        if stage is not Stage.OFF:  # there keys are captured and left alone
            await running.level()
    compared = running.heard.of(ReadCompared), running.heard.of(WriteCompared)
    for events in compared:
        assert events
        assert [] == [event for event in events if event.verdict in (Verdict.MISMATCHED, Verdict.ERROR)]
    assert [] == running.heard.of(ConflictSettled)


async def test_writes_behind_its_back_arrive_in_the_other_form(running: Running) -> None:
    """Bare SQL on either authority, and a parent that a call needs before it was carried over."""
    owner = str(uuid.UUID(int=1))
    await running.migration.mover.move(MODELS, Stage.DUALWRITE, by="test")
    await running.migration.view.refresh()
    await running.plain[Side.PRISMA].execute(
        """INSERT INTO "Owner" (id, email, born) VALUES ($1, 'e', $2)""", owner, BORN.replace(tzinfo=None)
    )
    await running("Account", Action.CREATE, data=account_of(owner))
    await running.level()
    for stage in (Stage.SHADOW, Stage.LIVE):
        await running.migration.mover.move(MODELS, stage, by="test")
    await running.migration.view.refresh()
    await running.plain[Side.SQLALCHEMY].execute("UPDATE ledger SET balance = 12.34, state = 'done'")
    await running.plain[Side.SQLALCHEMY].execute('UPDATE ledger SET "no" = 9')
    await running.level()
    row = await running.plain[Side.PRISMA].fetchrow(
        'SELECT number, cents, status::text AS status FROM "Account"'
    )
    assert (9, 1234, "DONE") == tuple(row)


def account_of(owner: str) -> dict[str, Any]:
    """An account's data."""
    return {"region": "eu", "number": 1, "owner_id": owner, "cents": 1, "status": "OPEN"}


async def test_it_does_not_start_with_tables_that_do_not_match(running: Running, tmp_path: Path) -> None:
    """While rows have to cross; at `off` nothing does, and a new column keeps nobody from starting."""
    await running.plain[Side.PRISMA].execute('ALTER TABLE "Tag" ADD COLUMN colour text')
    async with migration_of(running.dsns, tmp_path, RecordingObserver()):
        pass
    for connection in running.plain.values():
        await connection.execute("UPDATE crossfade.record SET stage = 'dualwrite', epoch = epoch + 1")
    with pytest.raises(InstallError, match="Tag: legacy column colour has no counterpart"):
        async with migration_of(running.dsns, tmp_path, RecordingObserver()):
            pass
