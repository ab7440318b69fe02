"""Canary reads on real stores: the rows of the share, all of them and only those, and nobody reads anything old."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml
from fleet import bring, prepared
from member import SCHEMA, TABLES, migration

from crossfade.canary import in_share
from crossfade.client import DatabaseClient
from crossfade.dsn import Dsn
from crossfade.events import CanaryFellBack, OperationFinished, ReadCompared, Role, Verdict
from crossfade.keys import Key
from crossfade.migration import Migration
from crossfade.operation import Action
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from crossfade.repository import Repository, RepositorySettings
from crossfade.shadow import ShadowSettings
from crossfade.stages import Side, Stage, Topology
from crossfade.testing import RecordingObserver
from databases import FreshDatabase
from property.relations.graph import records_of

SHARE = 0.3
IDS = [f"c{number:024d}" for number in range(60)]
MINE = [each for each in IDS if in_share(Key("Parent", (("id", each),)), SHARE)]


class Shop:
    """A migration whose models stand at shadow."""

    def __init__(self, ours: Migration, observer: RecordingObserver) -> None:
        self.ours = ours
        self.repository = ours.repository
        self.observer = observer
        self.db = DatabaseClient(ours.repository).model("Parent")

    async def fill(self) -> None:
        """Create the rows."""
        for each in IDS:
            await self.db.create(data={"id": each, "tag": each, "code": each.upper(), "label": "0"})

    async def answered(self, **where: Any) -> Side:
        """Which side answers a read of one row."""
        self.observer.events.clear()
        assert await self.db.find_unique(where=where) is not None
        reads = [e for e in self.observer.of(OperationFinished) if e.role is Role.AUTHORITY]
        return reads[-1].side

    async def answers(self) -> None:
        """Wait until the canary is on."""
        await until(lambda: self.repository.standings.models["Parent"].candidate is not None)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds that nothing announces."""
    async with asyncio.timeout(15.0):
        while not holds():
            await asyncio.sleep(0.01)


def write_flags(folder: Path, canary: float) -> None:
    """Ask for shadow with a canary."""
    for model in SCHEMA.models:
        text = {"model": model, "owner": "t", "description": "d", "stage": "shadow", "canary": canary}
        (folder / f"{model}.yaml").write_text(yaml.safe_dump(text))


@asynccontextmanager
async def opened(dsns: dict[Side, Dsn], flags: Path, canary: float = SHARE) -> AsyncIterator[Shop]:
    """Open a migration at shadow."""
    write_flags(flags, canary)
    observer = RecordingObserver()
    async with migration(dsns, flags, observer) as ours:
        await bring(ours, Stage.SHADOW)
        yield Shop(ours, observer)


async def test_exactly_the_rows_of_the_share_are_read_from_the_new_store(
    fresh_database: FreshDatabase, tmp_path: Path
) -> None:
    """By the primary key and by any other, and the same ones after a restart."""
    dsns = await prepared(fresh_database)
    assert 0 < len(MINE) < len(IDS)
    async with opened(dsns, tmp_path) as shop:
        await shop.fill()
        assert await shop.repository.drain()
        await shop.answers()
        by_id = [each for each in IDS if await shop.answered(id=each) is Side.SQLALCHEMY]
        by_code = [each for each in IDS if await shop.answered(code=each.upper()) is Side.SQLALCHEMY]
    async with opened(dsns, tmp_path) as shop:
        await shop.answers()
        again = [each for each in IDS if await shop.answered(id=each) is Side.SQLALCHEMY]

    assert [MINE, MINE, MINE] == [by_id, by_code, again]


async def test_callers_read_their_own_writes_and_no_answer_is_wrong(
    fresh_database: FreshDatabase, tmp_path: Path
) -> None:
    """Plain writes, transactions and batches, by twelve callers at once, all rows in the share."""
    dsns = await prepared(fresh_database)
    wrong: list[str] = []
    async with opened(dsns, tmp_path, 1.0) as shop:
        await shop.answers()
        client: Any = DatabaseClient(shop.repository)

        async def expect(key: str, label: str) -> None:
            row = await client.parent.find_unique(where={"id": key})
            if row is None or row.label != label:
                wrong.append(f"{key} {label} {row and row.label}")

        async def caller(number: int) -> None:
            for turn in range(6):
                key = f"p{number}-{turn}"
                await client.parent.create(data={"id": key, "tag": key, "code": key, "label": "a"})
                await expect(key, "a")
                await client.parent.update(where={"id": key}, data={"label": "b"})
                await expect(key, "b")
                async with client.tx() as tx:
                    await tx.parent.update(where={"id": key}, data={"label": "c"})
                await expect(key, "c")
                async with client.batch_() as batch:
                    batch.parent.update(where={"id": key}, data={"label": "d"})
                await expect(key, "d")
                await client.parent.update_many(where={"code": key}, data={"label": "e"})
                await expect(key, "e")
                await client.parent.delete(where={"id": key})
                if await client.parent.find_unique(where={"id": key}) is not None:
                    wrong.append(f"{key} is still there")

        shop.observer.events.clear()
        await asyncio.gather(*(caller(number) for number in range(12)))
        reads = [
            e
            for e in shop.observer.of(OperationFinished)
            if e.role is Role.AUTHORITY and e.action is Action.FIND_UNIQUE and e.model == "Parent"
        ]
        assert await shop.repository.drain()
        await shop.repository.shadow.drain()

    assert [] == wrong
    assert {Side.SQLALCHEMY} == {event.side for event in reads}
    verdicts = {event.verdict for event in shop.observer.of(ReadCompared)}
    assert {Verdict.MATCHED, Verdict.IN_FLIGHT} >= verdicts


async def test_a_new_store_that_stalls_costs_no_answer_and_returns_when_it_is_level(
    fresh_database: FreshDatabase, tmp_path: Path
) -> None:
    """Writes that it missed are not read from it before the reconciler has brought them."""
    dsns = await prepared(fresh_database)
    async with opened(dsns, tmp_path, 1.0) as shop:
        shop.repository.sample("Parent", 0.0)
        await shop.answers()
        await shop.fill()
        holder = await asyncpg.connect(**dsns[Side.SQLALCHEMY].asyncpg_kwargs())
        await holder.execute('BEGIN; LOCK TABLE "Parent"')
        async with asyncio.timeout(5.0):
            assert "0" == (await shop.db.find_unique(where={"id": IDS[0]})).label
        assert [CanaryFellBack("Parent", Action.FIND_UNIQUE, "TimeoutError")] == shop.observer.of(
            CanaryFellBack
        )

        write = asyncio.create_task(shop.db.update(where={"id": IDS[0]}, data={"label": "1"}))
        await until(lambda: bool(shop.repository.queue.outstanding("Parent")))
        async with asyncio.timeout(15.0):
            await write  # after the follower's deadline
            assert "1" == (await shop.db.find_unique(where={"id": IDS[0]})).label
        await holder.execute("ROLLBACK")
        await holder.close()
        for _ in range(50):
            assert "1" == (await shop.db.find_unique(where={"id": IDS[0]})).label
        async with asyncio.timeout(15.0):
            while await shop.answered(id=IDS[0]) is not Side.SQLALCHEMY:
                await asyncio.sleep(0.05)
        assert "1" == (await shop.db.find_unique(where={"id": IDS[0]})).label


@pytest.mark.parametrize("share", [0.0, SHARE])
async def test_in_a_shared_store_the_other_client_answers_the_share(
    fresh_database: FreshDatabase, share: float
) -> None:
    """At once: there is nothing that it could lack."""
    dsn = (await prepared(fresh_database))[Side.PRISMA]
    observer = RecordingObserver()
    records = records_of(SCHEMA)
    async with Repository(
        SCHEMA,
        {side: SqlAlchemyPath(SCHEMA, TABLES, records, dsn, side=side) for side in Side},
        stages=dict.fromkeys(SCHEMA.models, Stage.SHADOW),
        observer=observer,
        settings=RepositorySettings(topology=Topology.SHARED, shadow=ShadowSettings(pause=0.001)),
    ) as repository:
        db = DatabaseClient(repository).model("Parent")
        repository.canary("Parent", share)
        for each in IDS:
            await db.create(data={"id": each, "tag": each, "code": each, "label": "0"})
            assert "0" == (await db.find_unique(where={"id": each})).label
        await repository.shadow.drain()
    reads = [
        e.side
        for e in observer.of(OperationFinished)
        if e.role is Role.AUTHORITY and e.action is Action.FIND_UNIQUE
    ]

    assert (len(MINE) if share else 0) == reads.count(Side.SQLALCHEMY)
    assert Verdict.MISMATCHED not in {event.verdict for event in observer.of(ReadCompared)}
