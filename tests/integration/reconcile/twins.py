"""Two real stores with crossfade's objects in them, and a reconciler between them, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias

import asyncpg

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.mapping import NO_MAPPINGS, Mappings
from crossfade.reconcile import Reconciler, ReconcileSettings
from crossfade.schema import Schema
from crossfade.stages import Side, last_stage_of
from crossfade.store import Fence, Store
from crossfade.store.install import install
from crossfade.store.objects import set_fence
from crossfade.testing import RecordingObserver
from databases import FreshDatabase
from marketplace.seed import seed_legacy
from marketplace.setup import apply_legacy_schema, upgrade_target
from sides import marketplace_schema
from small_schema import relation, scalar

P, S = Side.PRISMA, Side.SQLALCHEMY


@dataclass
class Twins:
    """Both stores, a plain connection to each, and who has the authority over which model."""

    stores: Mapping[Side, Store]
    plain: Mapping[Side, asyncpg.Connection]
    authority: dict[str, Side | None]
    observer: RecordingObserver = field(default_factory=RecordingObserver)

    def reconciler(self, **settings: Any) -> Reconciler:
        """A reconciler that goes by `authority`."""
        given = ReconcileSettings(**settings)
        return Reconciler(self.stores, self.authority.__getitem__, self.observer, given)

    async def give(self, side: Side, *models: str) -> None:
        """Hand the authority over `models` to `side`: the fences, the records and the belief."""
        await self.fence(side, Fence.AUTHORITY, *models)
        await self.fence(side.other, Fence.FOLLOWER, *models)
        for connection in self.plain.values():
            await connection.execute(
                "UPDATE crossfade.record SET stage = $1, epoch = epoch + 1 WHERE model = ANY ($2)",
                last_stage_of(side),
                list(models),
            )
        self.authority.update(dict.fromkeys(models, side))

    async def fence(self, side: Side, state: Fence, *models: str) -> None:
        """Set the fences of one store."""
        for table in self.stores[side].tables.of(models):
            for statement in set_fence(table, state):
                await self.plain[side].execute(statement)

    async def write(self, side: Side, *statements: str, follower: bool = False) -> None:
        """Run statements in one transaction, as an author by default."""
        connection = self.plain[side]
        async with connection.transaction():
            if follower:
                await connection.execute("SET LOCAL crossfade.role = 'follower'")
            for statement in statements:
                await connection.execute(statement)

    async def both(self, *statements: str) -> None:
        """Run the same statements in both stores: as an author here, as a follower there, whoever may."""
        for connection in self.plain.values():
            await connection.execute("SET session_replication_role = DEFAULT")
        for side in Side:
            for statement in statements:
                try:
                    await self.write(side, statement)
                except asyncpg.PostgresError as error:
                    if error.sqlstate != "XF001":
                        raise
                    await self.write(side, statement, follower=True)

    async def column(self, side: Side, query: str) -> list[Any]:
        """The first column of a query's rows."""
        return [row[0] for row in await self.plain[side].fetch(query)]

    async def rows(self, side: Side) -> dict[str, list[str]]:
        """Every row of every table of one store, as text."""
        store, connection = self.stores[side], self.plain[side]
        await connection.execute("SET TimeZone = 'UTC'")
        found = {}
        for table in store.tables:
            names = ", ".join(f't."{name}"' for name in sorted(table.columns))
            found[table.model] = await self.column(
                side, f"SELECT ROW({names})::text FROM {table.quoted} t ORDER BY 1"
            )
        return found

    async def assert_level(self) -> None:
        """Both stores hold the same rows, and nothing is left to verify."""
        assert await self.rows(P) == await self.rows(S)
        assert [0, 0] == [await self.captured(side) for side in Side]

    async def captured(self, side: Side) -> int:
        """How many entries one store has."""
        return await self.plain[side].fetchval("SELECT count(*) FROM crossfade.change")

    async def conflicts(self, side: Side) -> list[tuple[Any, ...]]:
        """Model, kind, policy and whether there are images, of every conflict recorded in one store."""
        rows = await self.plain[side].fetch(
            "SELECT model, key, kind, policy, authority_image, follower_image FROM crossfade.conflict ORDER BY id"
        )
        return [tuple(row) for row in rows]


@asynccontextmanager
async def twins(
    schema: Schema, dsns: Mapping[Side, Dsn], *, installed: bool = False, mappings: Mappings = NO_MAPPINGS
) -> AsyncIterator[Twins]:
    """Open both stores; crossfade's objects are put there unless they are `installed`."""
    stores = {side: Store(side, dsn, schema, mappings=mappings) for side, dsn in dsns.items()}
    plain = {side: await asyncpg.connect(**dsn.asyncpg_kwargs()) for side, dsn in dsns.items()}
    try:
        for store in stores.values():
            await store.open()
            if not installed:
                await install(store, by="test")
        yield Twins(stores, plain, {spec.name: P for spec in schema})
    finally:
        for connection in plain.values():
            connection.terminate()
        for store in stores.values():
            await store.close()


class Wire:
    """A connection to a store that can be cut and mended."""

    def __init__(self, dsn: Dsn) -> None:
        self._target = dsn
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def dsn(self) -> Dsn:
        """Where the store is to be had over this wire."""
        return replace(self._target, host="127.0.0.1", port=self._port)

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        """Take connections, again at the same port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Drop every connection and take no more."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self._target.host, self._target.port)
        for one, other in ((reader, there[1]), (there[0], writer)):
            task = asyncio.create_task(self._pass_on(one, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()


async def until(holds: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until something holds that no future announces; `holds` may be asynchronous."""
    async with asyncio.timeout(seconds):
        while True:
            answer = holds()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return
            await asyncio.sleep(0.005)


def schema_of(**models: list[dict[str, Any]]) -> Schema:
    """A schema of models whose tables have their names, from fields as a DMMF has them."""
    entries = [
        {"name": name, "dbName": None, "fields": fields, "primaryKey": None, "uniqueIndexes": []}
        for name, fields in models.items()
    ]
    return Schema.from_dmmf({"datamodel": {"enums": [], "models": entries}})


def identifier(kind: str = "Int") -> dict[str, Any]:
    """A primary key `id`."""
    return scalar("id", kind, isId=True)


def refers(name: str, model: str, relation_name: str, *, required: bool = False) -> list[dict[str, Any]]:
    """A foreign key `<name>_id` and its relation field."""
    return [
        scalar(f"{name}_id", "Int", isRequired=required),
        relation(
            name,
            model,
            relation_name,
            relationFromFields=[f"{name}_id"],
            relationToFields=["id"],
            isRequired=required,
        ),
    ]


def referred(name: str, model: str, relation_name: str) -> dict[str, Any]:
    """The other end of a relation."""
    return relation(name, model, relation_name, isList=True)


MakeTwins: TypeAlias = Callable[..., Awaitable[Twins]]
"""`await make(schema, ddl, target_ddl, mappings=...)` makes two stores; the legacy one has every authority."""


@asynccontextmanager
async def maker(fresh_database: FreshDatabase) -> AsyncIterator[MakeTwins]:
    """Makes stores with tables of a test's own, of a schema and its DDL or one DDL for each; closes them at the end."""
    async with AsyncExitStack() as stack:

        async def create(
            schema: Schema, ddl: str, target_ddl: str | None = None, mappings: Mappings = NO_MAPPINGS
        ) -> Twins:
            dsns = {}
            for side in Side:
                dsns[side] = await fresh_database()
                connection = await asyncpg.connect(**dsns[side].asyncpg_kwargs())
                await connection.execute(ddl if side is Side.PRISMA else target_ddl or ddl)
                await connection.close()
            return await stack.enter_async_context(twins(schema, dsns, mappings=mappings))

        yield create


Prepare: TypeAlias = Callable[[Mapping[Side, Dsn]], Awaitable[None]]


def templates(postgres: EmbeddedPostgres, name: str, prepare: Prepare) -> Iterator[dict[Side, str]]:
    """Two databases to copy from, which `prepare` fills, for as long as a session runs."""
    names = {side: f"{name}_{side}" for side in Side}

    async def make() -> None:
        await prepare({side: Dsn.parse(await postgres.create_database(name)) for side, name in names.items()})

    asyncio.run(make())
    yield names
    for one in names.values():
        asyncio.run(postgres.drop_database(one))


async def make_market(dsns: Mapping[Side, Dsn], rows: int = 0) -> None:
    """The marketplace's tables and crossfade's objects, with the same rows in both stores."""
    await apply_legacy_schema(dsns[Side.PRISMA])
    await upgrade_target(dsns[Side.SQLALCHEMY])
    if rows:
        for dsn in dsns.values():
            await seed_legacy(dsn, rows)
    async with twins(marketplace_schema(), dsns):
        pass


@asynccontextmanager
async def copied(
    names: Mapping[Side, str], fresh_database: FreshDatabase, schema: Schema
) -> AsyncIterator[Twins]:
    """Two stores, copied from templates."""
    dsns = {side: await fresh_database(name) for side, name in names.items()}
    async with twins(schema, dsns, installed=True) as opened:
        yield opened
