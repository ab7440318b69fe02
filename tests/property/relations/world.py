"""One graph on two real stores, with everything that keeps them level: stores, repository, reconciler, mover."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg

from crossfade.client import DatabaseClient
from crossfade.dsn import Dsn
from crossfade.moving import Mover, MoveSettings
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from crossfade.planner import Planner
from crossfade.reconcile import Reconciler, ReconcileSettings
from crossfade.repository import Repository, RepositorySettings
from crossfade.schema import Schema
from crossfade.stages import Side, Stage, has_begun, is_forward, next_step
from crossfade.store import Store
from crossfade.store.install import install
from crossfade.store.record import Record
from crossfade.store.view import RecordView
from crossfade.testing import RecordingObserver

from .graph import Graph, orphans_sql, records_of, schema_of, statements, tables_of

MOVES = MoveSettings(
    catch_up_deadline=5.0, freeze_deadline=5.0, pause_deadline=2.0, lock_timeout=0.1, answer_deadline=5.0
)
RECONCILING = ReconcileSettings(
    settle=0.05, interval=0.005, backoff=0.02, longest_backoff=0.5, idle_after=0.2
)


class World:
    """An application whose models stand wherever they were moved to, one by one."""

    def __init__(self, graph: Graph, stores: Mapping[Side, Store], repository: Repository) -> None:
        self.graph = graph
        self.stores = stores
        self.repository = repository
        self.db: Any = DatabaseClient(repository)
        self.view: RecordView
        self.reconciler: Reconciler
        self.mover: Mover
        self.observer: RecordingObserver
        self.planner = Planner(repository.schema)
        self.looking: dict[Side, asyncpg.Connection] = {}

    @property
    def schema(self) -> Schema:
        """The models."""
        return self.repository.schema

    def authority(self, model: str) -> Side:
        """The side that takes a model's writes, as this process believes."""
        return self.repository.plan(model).authority

    async def move(self, model: str, stage: Stage) -> None:
        """Move one model one step, if the planner permits it; raises what the planner and the mover raise."""
        self.planner.check_move(self.repository.stages(), model, stage)
        try:
            await self.mover.move([model], stage, by="test")
        finally:
            await self.view.refresh()

    async def bring(self, model: str, stage: Stage) -> None:
        """Move one model step by step."""
        while (step := next_step(self.repository.plan(model).stage, stage)) is not None:
            await self.move(model, step)

    async def bring_all(self, stage: Stage) -> None:
        """Move every model to a stage, parents first on the way there and last on the way back."""
        for spec in self.schema.in_foreign_key_order():
            if is_forward(self.repository.plan(spec.name).stage, stage):
                await self.bring(spec.name, stage)
        for spec in reversed(self.schema.in_foreign_key_order()):
            await self.bring(spec.name, stage)

    async def begin_all(self) -> None:
        """See to it that no model is at the first stage, where nothing is kept level."""
        for spec in self.schema.in_foreign_key_order():
            if not has_begun(self.repository.plan(spec.name).stage):
                await self.move(spec.name, Stage.DUALWRITE)

    @property
    def table_names(self) -> list[str]:
        """Every table, those of links last."""
        return [*self.graph.models, *(f"_{link.name}" for link in self.graph.links)]

    async def rows(self, side: Side, table: str) -> list[dict[str, Any]]:
        """The rows of a table."""
        found = await self.looking[side].fetch(f'SELECT * FROM "{table}"')
        return [dict(row) for row in found]

    async def different(self) -> dict[str, list[Any]]:
        """The rows that one store has and the other has not, by table and side."""
        found: dict[str, list[Any]] = {}
        for table in self.table_names:
            one, other = [{tuple(row.values()): row for row in await self.rows(side, table)} for side in Side]
            for side, mine, theirs in ((Side.PRISMA, one, other), (Side.SQLALCHEMY, other, one)):
                lonely = [row for values, row in mine.items() if values not in theirs]
                if lonely:
                    found[f"{table} only {side}"] = lonely
        return found

    async def orphans(self) -> int:
        """How many rows of either store refer to nothing."""
        return sum(
            [
                await self.looking[side].fetchval(question)
                for side in Side
                for question in orphans_sql(self.graph)
            ]
        )

    async def conflicts(self) -> list[dict[str, Any]]:
        """What both stores have recorded of conflicts."""
        return [
            dict(row)
            for side in Side
            for row in await self.looking[side].fetch("SELECT * FROM crossfade.conflict ORDER BY id")
        ]

    async def waiting(self) -> list[str]:
        """The entries that are not verified, for a message."""
        return [
            f"{side} {row['model']} {row['key']} {row['op']!r} {row['problem']}"
            for side in Side
            for row in await self.looking[side].fetch("SELECT * FROM crossfade.change ORDER BY id LIMIT 30")
        ]


@asynccontextmanager
async def open_world(
    graph: Graph,
    dsns: Mapping[Side, Dsn],
    *,
    background: bool = True,
    is_prepared: bool = False,
    settings: RepositorySettings | None = None,
    reconciling: ReconcileSettings = RECONCILING,
    moves: MoveSettings = MOVES,
) -> AsyncIterator[World]:
    """Make the tables in two empty databases, install crossfade there and open everything.

    Args:
        graph: the models.
        dsns: two databases.
        is_prepared: whether the tables and crossfade's objects are there already.
        background: whether captured keys are verified by themselves.
        settings: bounds of the repository.
        reconciling: bounds of the reconciler.
        moves: bounds of moves.
    """
    schema, tables = schema_of(graph), tables_of(graph)
    records = records_of(schema)
    observer = RecordingObserver()
    async with AsyncExitStack() as stack:
        looking = {}
        for side, dsn in dsns.items():
            looking[side] = await asyncpg.connect(**dsn.asyncpg_kwargs())
            stack.push_async_callback(looking[side].close)
            if not is_prepared:
                await looking[side].execute("; ".join(statements(graph, tables)))
        stores = {side: Store(side, dsn, schema) for side, dsn in dsns.items()}
        for store in stores.values():
            if not is_prepared:
                await install(store, by="test")
            await stack.enter_async_context(store)
        view = await stack.enter_async_context(RecordView(stores))
        reconciler = Reconciler(stores, view.authority, observer, reconciling, stale=view.refresh)
        paths = {side: SqlAlchemyPath(schema, tables, records, dsn, side=side) for side, dsn in dsns.items()}
        followers = {
            side: SqlAlchemyPath(schema, tables, records, dsn, side=side, role="follower")
            for side, dsn in dsns.items()
        }
        repository = Repository(
            schema,
            paths,
            followers=followers,
            settler=reconciler,
            records=view,
            observer=observer,
            settings=settings,
        )

        def place(record: Record) -> None:
            if record.model in schema.models:
                repository.place(record.model, record.stage, record.epoch)

        view.on_change(place)
        for record in view.records.values():
            place(record)
        await stack.enter_async_context(repository)
        reconciler.start(background=background)
        stack.push_async_callback(reconciler.close)
        world = World(graph, stores, repository)
        world.view, world.reconciler, world.observer = view, reconciler, observer
        world.mover = Mover(stores, reconciler, schema, observer, moves)
        world.looking = looking
        yield world
