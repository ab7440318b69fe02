"""Two small stores with crossfade's objects in them, and what the tests about moving ask of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from crossfade.dsn import Dsn
from crossfade.events import Event, NullObserver, StageHeld, StageMoved
from crossfade.handover import CrashPoint
from crossfade.moving import Mover, MoveSettings
from crossfade.reconcile import Reconciler
from crossfade.schema import Schema
from crossfade.stages import Side, Stage
from crossfade.store import Store
from crossfade.store.install import install
from crossfade.store.record import Record, read_records
from crossfade.store.tables import Connection
from crossfade.store.view import RecordView
from small_schema import cuid_id, relation, scalar

AUTHOR = {
    "name": "Author",
    "dbName": None,
    "fields": [cuid_id(), scalar("name"), relation("books", "Book", "Books", isList=True)],
    "primaryKey": None,
    "uniqueIndexes": [],
}
BOOK = {
    "name": "Book",
    "dbName": "books",
    "fields": [
        scalar("id", "Int", isId=True, hasDefaultValue=True, default={"name": "autoincrement", "args": []}),
        scalar("title"),
        scalar("author_id", isRequired=False),
        relation("author", "Author", "Books", relationFromFields=["author_id"], relationToFields=["id"]),
        relation("tags", "Tag", "BookToTag", isList=True),
    ],
    "primaryKey": None,
    "uniqueIndexes": [],
}
TAG = {
    "name": "Tag",
    "dbName": None,
    "fields": [cuid_id(), relation("books", "Book", "BookToTag", isList=True)],
    "primaryKey": None,
    "uniqueIndexes": [],
}
SHELF = Schema.from_dmmf({"datamodel": {"enums": [], "models": [AUTHOR, BOOK, TAG]}})
TABLES = """
CREATE TABLE "Author" (id text PRIMARY KEY, name text NOT NULL);
CREATE TABLE books (id serial PRIMARY KEY, title text NOT NULL,
    author_id text REFERENCES "Author" (id) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE "Tag" (id text PRIMARY KEY);
CREATE TABLE "_BookToTag" ("A" integer NOT NULL REFERENCES books (id) ON DELETE CASCADE,
    "B" text NOT NULL REFERENCES "Tag" (id) ON DELETE CASCADE, PRIMARY KEY ("A", "B"));
"""
MODELS = ("Author", "Book", "Tag")
COHORT = ["Author", "Book"]
QUICK = MoveSettings(
    catch_up_deadline=2.0, freeze_deadline=1.0, pause_deadline=1.0, lock_timeout=0.1, answer_deadline=2.0
)


class Killed(BaseException):
    """What a crash point raises: nothing may tidy up after it, as after a kill."""


def killed_at(point: CrashPoint) -> Callable[[CrashPoint], Awaitable[None]]:
    """A mover with this dies at `point`."""

    async def at(reached: CrashPoint) -> None:
        if reached is point:
            raise Killed(point)

    return at


class Heard(NullObserver):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event) -> None:
        self.events.append(event)

    def moved(self) -> list[StageMoved]:
        return [event for event in self.events if isinstance(event, StageMoved)]

    def held(self) -> list[StageHeld]:
        return [event for event in self.events if isinstance(event, StageHeld)]


class Carrying:
    """The reconciler, with a hook that is awaited before it drains, to hold it up or make it fail."""

    def __init__(self, reconciler: Reconciler) -> None:
        self.reconciler = reconciler
        self.before_drain: Callable[[], Awaitable[object]] | None = None

    async def catch_up(self, models: Sequence[str], deadline: float) -> bool:
        return await self.reconciler.catch_up(models, deadline)

    async def drain(self, models: Sequence[str], deadline: float) -> bool:
        if self.before_drain is not None:
            await self.before_drain()
        return await self.reconciler.drain(models, deadline)

    async def drain_within(self, connection: Connection, side: Side, models: Sequence[str]) -> None:
        await self.reconciler.drain_within(connection, side, models)


class Places:
    """Both stores, and questions to them."""

    def __init__(self, stores: dict[Side, Store], view: RecordView) -> None:
        self.stores = stores
        self.view = view
        self.heard = Heard()
        self.reconciler = Reconciler(stores, view.authority, self.heard, stale=view.refresh)
        self.carrier = Carrying(self.reconciler)

    def mover(
        self,
        *,
        at: Callable[[CrashPoint], Awaitable[None]] | None = None,
        settings: MoveSettings = QUICK,
        stores: dict[Side, Store] | None = None,
    ) -> Mover:
        arguments = {} if at is None else {"at": at}
        return Mover(stores or self.stores, self.carrier, SHELF, self.heard, settings, **arguments)

    @asynccontextmanager
    async def connect(self, side: Side) -> AsyncIterator[asyncpg.Connection]:
        """A connection of an author who knows nothing of crossfade."""
        connection = await asyncpg.connect(**self.stores[side].dsn.asyncpg_kwargs())
        try:
            yield connection
        finally:
            connection.terminate()

    async def write(self, side: Side, statement: str, *values: Any) -> Any:
        """Write as an author; return the first value that comes back."""
        async with self.connect(side) as connection:
            return await connection.fetchval(statement, *values)

    async def until_somebody_waits(self, kind: str) -> None:
        """Wait until some session waits for a lock of a kind, in one of the two databases or on a transaction."""
        async with asyncio.timeout(5), self.connect(Side.PRISMA) as watcher:
            while not await watcher.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                " WHERE NOT l.granted AND l.locktype = $1 AND a.datname = ANY ($2))",
                kind,
                [store.dsn.database for store in self.stores.values()],
            ):
                await asyncio.sleep(0.005)

    async def takes(self, side: Side, model: str, *, follower: bool = False) -> bool:
        """Whether a store takes writes of authors, or of followers."""
        table = self.stores[side].tables[model]
        async with self.connect(side) as connection:
            await connection.execute("SET crossfade.role = 'follower'" if follower else "SELECT 1")
            try:
                await connection.execute(f"DELETE FROM {table.quoted} WHERE false")
            except asyncpg.PostgresError as error:
                if error.sqlstate != ("XF002" if follower else "XF001"):
                    raise
                return False
            return True

    async def stand_at(self, stage: Stage) -> None:
        """Bring every model to `shadow`, and the cohort to `live` if that is wanted."""
        await self.bring(MODELS, Stage.DUALWRITE, Stage.SHADOW)
        if stage is Stage.LIVE:
            await self.bring(COHORT, Stage.LIVE)

    async def level(self) -> bool:
        """Drain everything; whether both stores then hold the same rows."""
        await self.view.refresh()
        drained = await self.reconciler.drain(MODELS, 5.0)
        tables = [table.model for table in self.stores[Side.PRISMA].tables]
        legacy, target = [[await self.rows(side, model) for model in tables] for side in Side]
        return drained and legacy == target

    async def authors(self, model: str) -> list[Side]:
        """The sides that take authors."""
        return [side for side in Side if await self.takes(side, model)]

    async def followers(self, model: str) -> list[Side]:
        """The sides that take followers."""
        return [side for side in Side if await self.takes(side, model, follower=True)]

    async def record(self, side: Side, model: str) -> Record:
        """What a store says of a model."""
        async with self.stores[side].transaction() as connection:
            return (await read_records(connection, self.stores[side]))[model]

    async def agree(self, model: str) -> Record:
        """What both stores say of a model; they have to say the same, and of no move."""
        legacy, target = [await self.record(side, model) for side in Side]
        assert (legacy.stage, legacy.epoch, legacy.forced, legacy.final) == (
            target.stage,
            target.epoch,
            target.forced,
            target.final,
        )
        assert legacy.moving_to is None
        assert target.moving_to is None
        return legacy

    async def rows(self, side: Side, model: str) -> list[tuple[Any, ...]]:
        """The rows of a model's table."""
        async with self.connect(side) as connection:
            found = await connection.fetch(f"SELECT * FROM {self.stores[side].tables[model].quoted}")
            return sorted((tuple(row) for row in found), key=str)

    async def bring(self, models: Sequence[str], *stages: Stage) -> None:
        """Move `models` through `stages`."""
        for stage in stages:
            await self.mover().move(models, stage, by="test")
        await self.view.refresh()
        self.heard.events.clear()


async def prepare(dsn: Dsn) -> None:
    """Make the tables."""
    connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
    await connection.execute(TABLES)
    await connection.close()


async def install_places(dsns: dict[Side, Dsn]) -> None:
    """Make tables and crossfade's objects in both stores."""
    for side, dsn in dsns.items():
        await prepare(dsn)
        async with Store(side, dsn, SHELF) as store:
            await install(store, by="test")


@asynccontextmanager
async def opened(dsns: dict[Side, Dsn]) -> AsyncIterator[Places]:
    """Open both stores; one that does not answer is opened when it does."""
    stores = {side: Store(side, dsn, SHELF) for side, dsn in dsns.items()}
    try:
        async with RecordView(stores, poll=0.2) as view:
            yield Places(stores, view)
    finally:
        for store in stores.values():
            await store.close()
