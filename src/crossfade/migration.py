"""One running migration: flags, record, reconciler, conductor and repository, opened and closed together.

This is the composition root that an application uses::

    stores = {Side.PRISMA: Store(Side.PRISMA, ...), Side.SQLALCHEMY: Store(Side.SQLALCHEMY, ...)}
    async with Migration(schema, paths, FileFlags(...), stores=stores, followers=...) as migration:
        db = DatabaseClient(migration.repository)

With one store, which is the topology `shared`, there is nothing to keep level: no followers, no reconciler, no fence. A
move is then one write of the record, and both clients go on writing to the same tables.

Flags are requests. Where a model stands is what the record in the stores says; nothing is served before it has been
read, and from then on this process follows it. One process at a time, whichever is the leader, walks the models
towards their requests; every process helps to keep the stores level.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from time import monotonic
from typing import Self

from crossfade.conductor import Conductor
from crossfade.errors import ConfigurationError, StoreUnavailableError
from crossfade.events import CaptureLagged, NullObserver, Observer, Observers
from crossfade.flags import Flag, FlagProvider
from crossfade.gates import AllGates, Gates
from crossfade.guard import FleetWitness
from crossfade.mapping import NO_MAPPINGS, Mappings
from crossfade.moving import CrashPoint, Mover, MoveSettings, NothingToCarry
from crossfade.operation import Pinner
from crossfade.paths import Path
from crossfade.planner import Planner
from crossfade.readiness import NOT_OPEN, Readiness, judge
from crossfade.reconcile import Reconciler, ReconcileSettings
from crossfade.repository import Repository, RepositorySettings
from crossfade.schema import Schema
from crossfade.signals import Signals
from crossfade.stages import Side, Topology, has_begun
from crossfade.store import Store
from crossfade.store.crossing import check_crossings
from crossfade.store.record import Record
from crossfade.store.view import LEASE_SECONDS, RecordView
from crossfade.thresholds import GuardThresholds

_LAG_INTERVAL = 1.0


class Migration:
    """Wires the parts. What it is given is opened and closed with it.

    Args:
        schema: the models.
        paths: how each side is asked in the application's name.
        flags: where requests come from.
        stores: the databases behind the sides, with crossfade's objects installed; that of Prisma alone where both
            sides share it.
        followers: how each side is written to as a follower.
        observer: who hears what happened.
        settings: bounds of the repository.
        reconciling: bounds of the reconciler.
        moves: bounds of moves.
        gates: what must hold before a model takes a step; everything there is, by default.
        pinner: what fills in ids and times.
        conduct: whether this process may become the leader.
        guard: whether it walks models back, while it leads, that do not do well.
        reconcile: whether this process verifies captured keys in the background.
        at: awaited at each crash point of a move, for drills.
        name: what this process is called where the fleet is listed; its host and process id by default.
        signals: whether this process tells the fleet what it sees: without that, nobody can judge by it.
    """

    repository: Repository
    conductor: Conductor
    reconciler: Reconciler
    """Only where there are two stores."""
    mover: Mover
    view: RecordView

    def __init__(
        self,
        schema: Schema,
        paths: Mapping[Side, Path],
        flags: FlagProvider,
        *,
        stores: Mapping[Side, Store],
        followers: Mapping[Side, Path] | None = None,
        observer: Observer | None = None,
        settings: RepositorySettings | None = None,
        reconciling: ReconcileSettings | None = None,
        moves: MoveSettings | None = None,
        gates: Gates | None = None,
        pinner: Pinner | None = None,
        conduct: bool = True,
        guard: bool = True,
        reconcile: bool = True,
        at: Callable[[CrashPoint], Awaitable[None]] | None = None,
        name: str | None = None,
        signals: bool = True,
    ) -> None:
        if not stores or (len(stores) == 1 and Side.PRISMA not in stores):
            raise ConfigurationError(
                "give the stores of both sides, or that of Prisma alone where they share it"
            )
        self._schema = schema
        self._paths = paths
        self._flags = flags
        self._stores = stores
        self._followers = followers
        self._given_observer = observer
        self._observer: Observer = NullObserver()
        self._settings = settings
        self._reconciling = reconciling
        self._moves = moves
        self._gates: Gates = gates or AllGates(stores, schema, self._flag)
        self._pinner = pinner
        self._conduct = conduct
        self._guards = guard
        self._reconcile = reconcile
        self._at = at or _nothing
        self._name = name
        self._tells = signals
        self._is_open = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._flags)
            changes = self._flags.changes()  # before the first look, so that no change falls in between
            flags = {
                name: flag for name, flag in self._flags.current().items() if name in self._schema.models
            }
            await self._open_stores(stack)
            self.view = await stack.enter_async_context(RecordView(self._stores))
            await self._check_tables()
            signals = Signals(
                self._stores[Side.PRISMA],
                self._schema,
                self.view,
                name=self._name,
                leads=lambda: self.conductor.leads,
                epochs=self._epochs,
            )
            self._observer = self._hearing(signals)
            if not self._is_shared:
                self.reconciler = Reconciler(
                    self._stores, self._authority, self._observer, self._reconciling, stale=self.view.refresh
                )
            self.repository = Repository(
                self._schema,
                self._paths,
                followers=self._followers,
                stages={
                    name: record.stage
                    for name, record in self.view.records.items()
                    if name in self._schema.models
                },
                settler=None if self._is_shared else self.reconciler,
                records=self.view,
                observer=self._observer,
                settings=self._bounds(),
                pinner=self._pinner,
                mappings=self._mappings(),
            )
            self.view.on_change(self._place)
            for record in self.view.records.values():
                self._place(record)
            await stack.enter_async_context(self.repository)
            for flag in flags.values():
                self._apply(flag)
            if not self._is_shared:
                self.reconciler.start(background=self._reconcile)
                stack.push_async_callback(self.reconciler.close)
            carrier = NothingToCarry() if self._is_shared else self.reconciler
            self.mover = Mover(self._stores, carrier, self._schema, self._observer, self._moves, at=self._at)
            self.conductor = Conductor(
                self.mover,
                self.view,
                Planner(self._schema, self._topology),
                self._observer,
                self._stores,
                gates=self._gates,
                witness=FleetWitness(self._stores) if self._guards else None,
                thresholds=self._guard_thresholds,
                lead=self._conduct,
            )
            if self._tells:
                await stack.enter_async_context(signals)
            await stack.enter_async_context(self.conductor)
            for flag in flags.values():
                self._request(flag)
            stack.push_async_callback(_stop, asyncio.create_task(self._follow_flags(changes), name="flags"))
            if not self._is_shared:
                stack.push_async_callback(_stop, asyncio.create_task(self._watch_lag(), name="capture-lag"))
            self._stack = stack.pop_all()
        self._is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_open = False
        await self._stack.aclose()

    def readiness(self) -> Readiness:
        """Whether this process may be sent requests. Cheap, and may be asked on any thread."""
        if not self._is_open:
            return NOT_OPEN
        return judge(
            age=self.view.age(),
            lease=LEASE_SECONDS,
            recorded=self.view.stages(),
            placed=self.repository.stages(),
        )

    def _flag(self, model: str) -> Flag | None:
        """The flag of a model, as it is now."""
        return self._flags.current().get(model)

    def _guard_thresholds(self, model: str) -> GuardThresholds:
        flag = self._flag(model)
        return GuardThresholds.of({} if flag is None else flag.guard)

    def _epochs(self) -> dict[str, int]:
        """The epochs of the records that this process acts by."""
        return {name: model.epoch for name, model in self.repository.standings.models.items()}

    def _hearing(self, signals: Signals) -> Observer:
        """Who hears what happens. What one of them raises must not end a move half-way."""
        given = [] if self._given_observer is None else [self._given_observer]
        return Observers(*given, *([signals] if self._tells else []))

    @property
    def _is_shared(self) -> bool:
        return len(self._stores) == 1

    @property
    def _topology(self) -> Topology:
        return Topology.SHARED if self._is_shared else Topology.SEPARATE

    def _bounds(self) -> RepositorySettings:
        """The repository's settings, in the topology that the stores make."""
        return replace(self._settings or RepositorySettings(), topology=self._topology)

    async def _open_stores(self, stack: AsyncExitStack) -> None:
        """Open the stores and make sure that they are installed; one that is away is opened when it is back."""
        refusals = []
        for store in self._stores.values():
            stack.push_async_callback(store.close)
            try:
                await store.open()
                await store.check_installed()
            except StoreUnavailableError as refusal:
                refusals.append(refusal)
        if len(refusals) == len(self._stores):
            raise refusals[0]

    async def _check_tables(self) -> None:
        """Make sure that rows can cross, if any have to.

        Raises:
            InstallError: the tables of the two stores do not match, so nothing could be kept level.
        """
        begun = any(has_begun(record.stage) and not record.final for record in self.view.records.values())
        if begun and len(self._stores) > 1:
            with suppress(StoreUnavailableError):  # that is seen to when the store is back
                await check_crossings(self._stores)

    def _mappings(self) -> Mappings:
        target = self._stores.get(Side.SQLALCHEMY)
        return NO_MAPPINGS if target is None else target.mappings

    def _authority(self, model: str) -> Side | None:
        """Which side wins over a captured key of `model` now; None while its keys are to be left alone."""
        record = self.view.records.get(model)
        if record is None or record.final or record.forced or not has_begun(record.stage):
            return None
        return self.repository.plan(model).authority

    def _place(self, record: Record) -> None:
        if record.model in self._schema.models:
            self.repository.place(record.model, record.stage, record.epoch)
            self._set_canary(record.model)

    def _request(self, flag: Flag) -> None:
        self.conductor.request(
            flag.model,
            flag.stage,
            by=flag.owner or "flag",
            cohort=flag.cohort,
            confirmed=flag.confirmed,
        )

    def _apply(self, flag: Flag) -> None:
        """Do at once what a flag asks of this process's reads, whatever the record says yet.

        A flag that nobody stands behind now says nothing new: what was asked for last stays.
        """
        self.repository.sample(flag.model, flag.sample)
        if flag.confirmed:
            self.repository.recall(flag.model, wanted=not has_begun(flag.stage))
        self._set_canary(flag.model)

    def _set_canary(self, model: str) -> None:
        """Let the next side answer its share; none after a forced rollback, until what was lost is listed."""
        flag = self._flag(model)
        if self.view.record(model).forced:
            self.repository.canary(model, 0.0)
        elif flag is not None and flag.confirmed:
            self.repository.canary(model, flag.canary)

    async def _follow_flags(self, changes: AsyncIterator[Flag]) -> None:
        async for flag in changes:
            if flag.model in self._schema.models:
                self._apply(flag)
                self._request(flag)

    async def _watch_lag(self) -> None:
        """Tell, each second, how much is captured and not verified yet."""
        begun: list[str] = []
        while True:
            with suppress(StoreUnavailableError):
                begun = [name for name in self._schema.models if self._authority(name) is not None]
                looked_at = monotonic()
                lags = await self.reconciler.pending(begun)
                waiting = {name: lag.oldest if lag.keys else None for name, lag in lags.items()}
                self.repository.note_lagging(waiting, looked_at)
                for name in begun:
                    keys, oldest = lags.get(name, (0, 0.0))
                    self._observer.observe(CaptureLagged(name, keys, oldest))
            await asyncio.sleep(_LAG_INTERVAL)


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _nothing(_: CrashPoint) -> None:
    pass
