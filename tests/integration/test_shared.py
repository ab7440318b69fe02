"""Both clients on the same tables: one store, every stage there and back, and no write is made twice."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from crossfade.errors import ConfigurationError, UniqueViolationError
from crossfade.events import ReadCompared, StageMoved, Verdict, WriteCompared
from crossfade.flags.files import FileFlags, write_stage
from crossfade.gates import NoGates
from crossfade.migration import Migration
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from crossfade.stages import Side, Stage
from crossfade.store import Store
from crossfade.store.install import install
from crossfade.testing import RecordingObserver
from databases import FreshDatabase
from marketplace.client import MarketplaceClient
from marketplace.records import RECORDS
from sides import TABLES, marketplace_schema, open_side

SCHEMA = marketplace_schema()
FLAGS = Path(__file__).parents[2] / "flags"
FORWARD = tuple(Stage)[1:]
FAMILY = ("Item", "User")


@dataclass
class Shared:
    """A migration on one database."""

    migration: Migration
    observer: RecordingObserver
    flags: Path
    db: MarketplaceClient
    store: asyncpg.Connection

    async def reach(self, stage: Stage, *models: str) -> None:
        """Ask for a stage by the flag files, and wait until it is in force."""
        for model in models:
            write_stage(self.flags, model, stage)
        async with asyncio.timeout(30):
            while any(self.migration.repository.plan(model).stage is not stage for model in models):
                await asyncio.sleep(0.01)

    async def settle(self) -> None:
        """Let everything that is done off the caller's time come to its end."""
        assert await self.migration.repository.drain()
        await self.migration.repository.shadow.drain()

    def verdicts(self) -> set[Verdict]:
        """What every comparison came to."""
        return {e.verdict for e in (*self.observer.of(ReadCompared), *self.observer.of(WriteCompared))}


@asynccontextmanager
async def shared(fresh_database: FreshDatabase, flags: Path) -> AsyncIterator[Shared]:
    """Open a migration whose two sides are one database with Prisma's tables."""
    dsn = await fresh_database()
    observer = RecordingObserver()
    async with open_side(Side.PRISMA, dsn) as prisma:
        store = Store(Side.PRISMA, dsn, SCHEMA)
        await install(store, by="test", core_only=True)
        async with Migration(
            SCHEMA,
            {Side.PRISMA: prisma.path, Side.SQLALCHEMY: SqlAlchemyPath(SCHEMA, TABLES, RECORDS, dsn)},
            FileFlags(flags, SCHEMA.models, observer),
            stores={Side.PRISMA: store},
            observer=observer,
            gates=NoGates(),
        ) as migration:
            yield Shared(migration, observer, flags, MarketplaceClient(migration.repository), prisma.store)


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    """A copy of the flag files."""
    return shutil.copytree(FLAGS, tmp_path / "flags")


async def test_models_walk_there_and_back_on_one_store(fresh_database: FreshDatabase, flags: Path) -> None:
    """Nothing is written twice, every read agrees, and no move keeps a writer waiting."""
    async with shared(fresh_database, flags) as run:
        stops = [*FORWARD, *reversed(tuple(Stage)[:-1])]
        for number, stage in enumerate(stops):
            await run.reach(stage, *FAMILY)
            user = await run.db.user.create(data={"email": f"{number}@example.org", "name": f"{number}"})
            await run.db.user.update(where={"id": user.id}, data={"login_count": {"increment": 3}})
            item = await run.db.item.create(
                data={
                    "sku": f"s{number}",
                    "title": "T",
                    "price": "1.50",
                    "owner": {"connect": {"email": f"{number}@example.org"}},
                }
            )
            found = await run.db.item.find_unique(where={"id": item.id}, include={"owner": True})
            assert found is not None
            assert found.owner is not None
            assert (user.id, 3) == (found.owner.id, found.owner.login_count)
            with pytest.raises(UniqueViolationError):
                await run.db.user.create(data={"email": f"{number}@example.org", "name": "again"})
            assert number + 1 == await run.db.user.count()
            await run.settle()

        assert [len(stops), 3 * len(stops)] == list(
            await run.store.fetchrow("SELECT count(*), sum(login_count) FROM users")
        )
        assert stops == [event.after for event in run.observer.of(StageMoved) if event.model == "User"]
        assert {0.0} == {event.pause for event in run.observer.of(StageMoved)}
        assert Verdict.MATCHED in run.verdicts()
        assert {Verdict.MATCHED, Verdict.IN_FLIGHT} >= run.verdicts()


async def test_a_transaction_may_span_models_of_both_sides(
    fresh_database: FreshDatabase, flags: Path
) -> None:
    """There is one store, so whoever executes it, it is one transaction."""
    async with shared(fresh_database, flags) as run:
        for stage in FORWARD[:3]:
            await run.reach(stage, "User")
        async with run.db.tx() as tx:
            user = await tx.user.create(data={"email": "ada@example.org", "name": "Ada"})
            await tx.item.create(
                data={"sku": "1", "title": "T", "price": "2", "owner": {"connect": {"id": user.id}}}
            )
        await run.settle()

        assert 1 == await run.db.item.count(where={"owner": {"is": {"email": "ada@example.org"}}})


async def test_what_is_compared_is_what_both_clients_read(fresh_database: FreshDatabase, flags: Path) -> None:
    """A follower that reads the row back differently is found."""
    async with shared(fresh_database, flags) as run:
        await run.reach(Stage.DUALWRITE, "User")
        await run.db.user.create(data={"email": "ada@example.org", "name": "Ada"})
        await run.settle()
        [compared] = run.observer.of(WriteCompared)

    assert ("User", Verdict.MATCHED, ()) == (compared.model, compared.verdict, compared.differences)


async def test_a_target_store_alone_is_refused(flags: Path) -> None:
    """The one store that both sides share is Prisma's."""
    with pytest.raises(ConfigurationError, match="that of Prisma alone where they share it"):
        Migration(SCHEMA, {}, FileFlags(flags, SCHEMA.models, RecordingObserver()), stores={})
