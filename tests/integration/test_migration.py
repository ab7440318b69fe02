"""The composition root on real stores: a flag file moves a model, and nothing is lost on the way."""

from __future__ import annotations

import asyncio
import importlib
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from crossfade.covering import cover
from crossfade.dialect import ErrorDialect
from crossfade.errors import DataError, FlagError, StoreUnavailableError, UniqueViolationError
from crossfade.events import FlagRejected, ReadCompared, StageMoved, Verdict, WriteCompared
from crossfade.flags.files import FileFlags, write_stage
from crossfade.gates import Coverage
from crossfade.migration import Migration
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from crossfade.reconcile import ReconcileSettings
from crossfade.stages import Side, Stage, has_begun, has_moved
from crossfade.store import Store
from crossfade.store.install import install
from crossfade.testing import RecordingObserver
from databases import FreshDatabase
from marketplace.client import MarketplaceClient
from marketplace.records import RECORDS
from sides import TABLES, OpenSide, marketplace_schema, open_side

FLAGS = Path(__file__).parents[2] / "flags"
KIN = ("Item", "Listing", "Order")
ADA = {"email": "ada@example.org", "name": "Ada", "tags": ["x"], "reputation": 0.1 + 0.2}


class Running:
    """A migration on two real stores."""

    def __init__(
        self, migration: Migration, observer: RecordingObserver, flags: Path, prisma: OpenSide, new: OpenSide
    ) -> None:
        self.migration = migration
        self.observer = observer
        self.flags = flags
        self.db = MarketplaceClient(migration.repository, errors=ErrorDialect.of("marketplace.prisma_client"))
        self.stores = {Side.PRISMA: prisma.store, Side.SQLALCHEMY: new.store}

    async def reach(self, model: str, stage: Stage) -> None:
        """Ask for a stage by the flag file, and wait until it is in force.

        Rows that can forbid the deletion of a user must be on both sides before users move, and leave it before them.
        """
        if has_moved(stage):
            for other in KIN:
                if not has_begun(self.migration.repository.plan(other).stage):
                    await self._reach(other, Stage.DUALWRITE)
        if not has_begun(stage):
            for other in reversed(KIN):
                await self._reach(other, stage)
        await self._reach(model, stage)

    async def _reach(self, model: str, stage: Stage) -> None:
        write_stage(self.flags, model, stage)
        async with asyncio.timeout(20):
            await self.until(lambda: self.migration.repository.plan(model).stage is stage)

    @staticmethod
    async def until(holds: Callable[[], bool]) -> None:
        """Wait until something holds that no future announces."""
        while not holds():
            await asyncio.sleep(0.01)

    async def names(self, side: Side) -> list[str]:
        """The users' names in one store, read behind everyone's back."""
        rows = await self.stores[side].fetch('SELECT name FROM "users" ORDER BY name')
        return [row["name"] for row in rows]


@asynccontextmanager
async def running(fresh_database: FreshDatabase, flags: Path) -> AsyncIterator[Running]:
    """Open a migration whose flags stand in `flags`."""
    dsns = {side: await fresh_database() for side in Side}
    observer = RecordingObserver()
    schema = marketplace_schema()
    async with (
        open_side(Side.PRISMA, dsns[Side.PRISMA]) as prisma,
        open_side(Side.SQLALCHEMY, dsns[Side.SQLALCHEMY]) as new,
    ):
        stores = {side: Store(side, dsn, schema) for side, dsn in dsns.items()}
        for store in stores.values():
            await install(store, by="test")
        await cover(stores, by="test")
        async with Migration(
            schema,
            {Side.PRISMA: prisma.path, Side.SQLALCHEMY: new.path},
            FileFlags(flags, schema.models, observer),
            stores=stores,
            followers={
                side: SqlAlchemyPath(schema, TABLES, RECORDS, dsn, side=side, role="follower")
                for side, dsn in dsns.items()
            },
            observer=observer,
            reconciling=ReconcileSettings(settle=0.05),
            gates=Coverage(stores),
        ) as migration:
            yield Running(migration, observer, flags, prisma, new)


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    """A copy of the flag files."""
    return shutil.copytree(FLAGS, tmp_path / "flags")


async def test_a_model_walks_there_and_back_by_its_flag_file(
    fresh_database: FreshDatabase, flags: Path
) -> None:
    """Written at every stop, read at every stop, the same in both stores at the end."""
    async with running(fresh_database, flags) as run:
        stops = [*list(Stage)[1:5], *reversed(list(Stage)[:4]), Stage.DUALWRITE]
        for number, stage in enumerate(stops):
            await run.reach("User", stage)
            created = await run.db.user.create(
                data={**ADA, "email": f"{number}@example.org", "name": f"{number}"}
            )
            found = await run.db.user.find_unique(where={"id": created.id})
            assert found == created
            changed = await run.db.user.update(
                where={"id": created.id}, data={"login_count": {"increment": 2}}
            )
            assert changed is not None
            assert 2 == changed.login_count
        assert await run.migration.repository.drain()
        await run.migration.repository.shadow.drain()

        everyone = [str(number) for number in range(len(stops))]
        assert everyone == await run.names(Side.PRISMA)
        assert everyone == await run.names(Side.SQLALCHEMY)
        assert stops == [event.after for event in run.observer.of(StageMoved) if event.model == "User"]
        verdicts = [e.verdict for e in (*run.observer.of(ReadCompared), *run.observer.of(WriteCompared))]
        assert Verdict.MATCHED in verdicts
        # A read right behind a write may find the other side not there yet; it is never called a mismatch.
        assert {Verdict.MATCHED, Verdict.IN_FLIGHT} >= set(verdicts)


async def test_a_row_that_is_connected_to_its_parent_is_followed(
    fresh_database: FreshDatabase, flags: Path
) -> None:
    """By any unique key, in both directions, and disconnected again."""
    async with running(fresh_database, flags) as run:
        for stage in (Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE):
            await run.reach("User", stage)
            await run.reach("Item", stage)
            await run.reach("MarketResearchData", stage)
            owner = {"connect": {"email": f"{stage}@example.org"}}
            await run.db.user.create(data={**ADA, "email": f"{stage}@example.org"})
            item = {"sku": str(stage), "title": "T", "price": "1.50", "owner": owner}
            created = await run.db.item.create(data=item)
            other = await run.db.item.create(
                data={**item, "sku": f"{stage}-2", "parent": {"connect": {"id": created.id}}}
            )
            assert created.id == other.parent_id
            await run.db.item.update(where={"sku": f"{stage}-2"}, data={"parent": {"disconnect": True}})
        assert await run.migration.repository.drain()
        question = 'SELECT sku, owner_user_id, parent_id, updated_at FROM "items" ORDER BY sku'
        one, two = [await run.stores[side].fetch(question) for side in Side]

    assert 6 == len(one)
    assert one == two
    assert {None} == {row["parent_id"] for row in one}
    assert Verdict.MISMATCHED not in [event.verdict for event in run.observer.of(WriteCompared)]


async def test_both_authorities_refuse_alike(fresh_database: FreshDatabase, flags: Path) -> None:
    """The same class, code and fields, whichever side has the authority."""
    vendor = importlib.import_module("marketplace.prisma_client.errors")
    refusals: list[DataError] = []
    async with running(fresh_database, flags) as run:
        for stage in (Stage.SHADOW, Stage.LIVE):
            await run.reach("User", stage)
            if not refusals:
                await run.db.user.create(data=ADA)
            with pytest.raises(UniqueViolationError) as refusal:
                await run.db.user.create(data=ADA)
            assert isinstance(refusal.value, vendor.UniqueViolationError)
            refusals.append(refusal.value)

    one, two = refusals
    assert (one.code, one.meta, str(one)) == (two.code, two.meta, str(two))


async def test_a_half_written_flag_file_changes_nothing_and_is_reported(
    fresh_database: FreshDatabase, flags: Path
) -> None:
    """The model stays; the report names the file; a good file is taken up again."""
    async with running(fresh_database, flags) as run:
        await run.reach("User", Stage.DUALWRITE)
        (flags / "User.yaml").write_text("model: User\nstage: sha")
        async with asyncio.timeout(10):
            await run.until(lambda: bool(run.observer.of(FlagRejected)))
        assert Stage.DUALWRITE is run.migration.repository.plan("User").stage
        assert "User.yaml" in run.observer.of(FlagRejected)[0].source

        (flags / "User.yaml").write_text("model: User\nowner: accounts\ndescription: people\nstage: shadow\n")
        await run.reach("User", Stage.SHADOW)


async def test_a_cold_start_with_a_wrong_flag_is_refused(fresh_database: FreshDatabase, flags: Path) -> None:
    """There is no last good value to fall back on."""
    (flags / "User.yaml").write_text("model: User\nowner: accounts\ndescription: people\nstage: banana\n")

    with pytest.raises(FlagError, match=r"User\.yaml.*banana"):
        async with running(fresh_database, flags):
            pytest.fail("it started")


async def test_a_store_that_is_not_there_is_one_clear_error(flags: Path) -> None:
    """Host, port and database are named, the password is not."""
    from crossfade.dsn import Dsn

    path = SqlAlchemyPath(
        marketplace_schema(), TABLES, RECORDS, Dsn.parse("postgresql://app:hush@127.0.0.1:1/nowhere")
    )
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1/nowhere") as refusal:
        await path.connect()

    assert "hush" not in str(refusal.value)
