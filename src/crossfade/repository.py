"""One operation, from the call to the answer: resolve the plan, pin, execute on the authority, follow, compare.

What the caller waits for is the authority, and nothing else. Whatever concerns the other side is queued (`follow`,
`shadow`) or left to the stores' own capture and the reconciler, and cannot raise into the call. There are two
exceptions: `follow="await"`, which is asked for, and models that *straddle*: while a neighbour's writes belong to the
other side, a parent must be on both sides before its child can be created on either, so the follower is awaited then,
within `follow_deadline`.

The repository does not move anybody. It follows the record: `place` says where a model stands now. A process whose
view is old is put right by the stores: a write to a side that has lost the authority is refused, with
`WrongAuthorityError`, and is made again on the right side as soon as a newer record is known, so that a move costs a
writer time and never an error. A follower's write that comes too late is refused as well, dropped and counted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal, Self, TypeVar

from crossfade.answering import Answering, Doubting
from crossfade.breaker import Breaker
from crossfade.connections import Connections
from crossfade.errors import WrongAuthorityError
from crossfade.events import AuthorityMissed, NullObserver, Observer, Role
from crossfade.follow import FollowQueue
from crossfade.follower import AcceptedWrite, Follower
from crossfade.keys import Key, keys_written
from crossfade.mapping import NO_MAPPINGS, Mappings
from crossfade.neighbours import Neighbours
from crossfade.operation import (
    MANY_WRITES,
    READS,
    Action,
    Operation,
    Pinner,
    models_written,
)
from crossfade.paths import Path
from crossfade.reading import NoRecords, Reader, Records, note_span
from crossfade.schema import ModelSpec, Schema
from crossfade.settler import NothingToSettle, Settler
from crossfade.shadow import ShadowReader, ShadowSettings
from crossfade.side import Sides, ask
from crossfade.stages import Plan, Side, Stage, Topology, has_begun
from crossfade.standing import Standing, Standings
from crossfade.store.view import LEASE_SECONDS

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """How the repository treats the other side. Times in seconds."""

    topology: Topology = Topology.SEPARATE
    follow: Literal["background", "await"] = "background"
    follow_deadline: float = 5.0
    follow_workers: int = 8
    follow_limit: int = 10_000
    move_deadline: float = 10.0
    """How long a write may wait, while the authority is handed over, before its caller hears of it."""
    connect_interval: float = 1.0
    """How often a side that no caller depends on is tried again when it does not answer at the start."""
    canary_deadline: float = 1.0
    """How long a caller waits for the next side, in a canary's share, before the authority is asked."""
    lease: float = LEASE_SECONDS
    """For how long other processes may not have heard of a flag or a record yet; see `answering`."""
    shadow: ShadowSettings = field(default_factory=ShadowSettings)


class Repository:
    """Executes operations on two sides, by the stage of each model. Open it with `async with`.

    Args:
        schema: the models.
        paths: how each side is asked in the application's name.
        followers: how each side is written to as a follower; the same paths by default, for stores without a fence.
        stages: where models stand until a record says otherwise.
        settler: who keeps the stores level.
        records: who knows the record that is in force.
        observer: who hears what happened.
        settings: bounds.
        pinner: what fills in ids and times.
        chance: a random number from 0 to 1, for sampling.
        mappings: where the sides' tables differ: what crosses one way is not compared.
    """

    def __init__(
        self,
        schema: Schema,
        paths: Mapping[Side, Path],
        *,
        followers: Mapping[Side, Path] | None = None,
        stages: Mapping[str, Stage] | None = None,
        settler: Settler | None = None,
        records: Records | None = None,
        observer: Observer | None = None,
        settings: RepositorySettings | None = None,
        pinner: Pinner | None = None,
        chance: Callable[[], float] = random.random,
        mappings: Mappings = NO_MAPPINGS,
    ) -> None:
        self.schema = schema
        compared = schema.without(mappings.one_way_columns)
        self._settings = settings or RepositorySettings()
        self._paths = paths
        self._followers = {**paths, **(followers or {})}
        self._observer = observer or NullObserver()
        self._pinner = pinner or Pinner(schema)
        self._settler: Settler = settler or NothingToSettle()
        self._records: Records = records or NoRecords()
        self.standings = Standings(schema, self._settings.topology, stages or {})
        self._models = self.standings.models
        self.neighbours = Neighbours(self._models, self._settler, self._settings.follow_deadline)
        self.breakers = {side: Breaker(side, self._observer) for side in paths}
        doubting = Doubting(self._observer)
        self.queue = FollowQueue(
            doubting, workers=self._settings.follow_workers, limit=self._settings.follow_limit
        )
        self._answering = Answering(self.standings, self.queue, self._settings.lease)
        doubting.answering = self._answering
        sides = Sides(compared, paths, self.breakers, self._observer)
        self.shadow = ShadowReader(sides, self._settler, self._settings.shadow)
        self._reader = Reader(
            schema,
            sides,
            self.standings,
            self._answering,
            self._records,
            self.shadow,
            self._settings.canary_deadline,
            chance,
        )
        followed = paths if self._settings.topology is Topology.SHARED else self._followers
        self._follower = Follower(
            Sides(compared, followed, self.breakers, doubting), self.queue, self._settings.follow_deadline
        )
        separate = [path for side, path in self._followers.items() if path is not paths.get(side)]
        self._connections = Connections(
            (*paths.values(), *separate), self._observer, self._settings.connect_interval
        )

    async def __aenter__(self) -> Self:
        await self._connections.open({self._paths[model.plan.authority] for model in self._models.values()})
        self.queue.start()
        self.shadow.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._answering.close()
        await self.shadow.close()
        await self.queue.close()
        await self._connections.close()

    # --- what stands where ---------------------------------------------------------------------------------------

    def plan(self, model: str) -> Plan:
        """Return what the stage of `model` means now."""
        return self._models[model].plan

    def stages(self) -> dict[str, Stage]:
        """Return the stage of every model."""
        return self.standings.stages()

    def place(self, model: str, stage: Stage, epoch: int) -> None:
        """Note that the record places `model` at `stage`; see `Standings.place`."""
        self._answering.place(model, stage, epoch)

    def sample(self, model: str, share: float) -> None:
        """Set the share of reads of `model` that are compared, 0 to 1."""
        self._models[model].sample = share

    def recall(self, model: str, *, wanted: bool) -> None:
        """Let reads of `model` return to Prisma before the record does, or follow the record again; see `answering`."""
        self._answering.recall(model, wanted=wanted)

    def canary(self, model: str, share: float) -> None:
        """Set the share of rows of `model`, 0 to 1, of which the next side answers the reads while it is compared."""
        self._answering.canary(model, share)

    def note_lagging(self, oldest: Mapping[str, float | None], looked_at: float) -> None:
        """Note how old the oldest captured key of each model is that is not verified yet, in seconds, or that none is.

        `looked_at` is when that was asked for, by the monotonic clock.
        """
        self._reader.lagging = frozenset(name for name, age in oldest.items() if age is not None)
        self._answering.note_lag(oldest, looked_at)

    async def renew(self) -> None:
        """Have the record read again if what is known of it is older than the lease."""
        if monotonic() > self._records.fresh_until:
            await self._records.renew()

    # --- one operation -------------------------------------------------------------------------------------------

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation and return the authority's result, or raise the authority's error, unchanged.

        Raises:
            DataError: the authority refused it.
            QueryError: the arguments cannot be used.
            MixedAuthorityError: a write spans models whose writes belong to different sides.
            WrongAuthorityError: no side took writes for `move_deadline` seconds.
        """
        model = self._models[operation.model]
        if operation.action in READS:
            return await self._reader.read(model, operation)
        return await self._write(model, operation)

    # --- writes --------------------------------------------------------------------------------------------------

    async def _write(self, model: Standing, operation: Operation) -> Any:
        spanned = models_written(self.schema, operation)
        if monotonic() > self._records.fresh_until:
            await self._records.renew()
        if len(spanned) > 1:
            self.note_span(spanned, is_write=True)
        elif not (model.plan.is_followed or model.awaits):
            epoch = model.epoch
            authority = model.plan.authority
            # Prisma's engine fills in by itself what a client mints.
            made = operation if authority is Side.PRISMA else self._pinner.pin(operation)
            try:
                return await ask(self._paths[authority], made, Role.AUTHORITY, self._observer)
            except WrongAuthorityError as refusal:
                deadline = monotonic() + self._settings.move_deadline
                await self._wait_for_record({model.spec.name: epoch}, deadline, refusal)
        pinned = self._pinner.pin(operation)

        async def attempt() -> Any:
            self.standings.authority_over(spanned)
            return await self._followed_write(model, pinned, spanned)

        return await self.with_authority(spanned, attempt)

    async def with_authority(self, models: Sequence[str], attempt: Callable[[], Awaitable[T]]) -> T:
        """Do `attempt`, which writes to `models`, again with a newer record when a store refuses it, in time.

        Raises:
            WrongAuthorityError: no side took it for `move_deadline` seconds.
        """
        deadline = monotonic() + self._settings.move_deadline
        while True:
            epochs = {name: self._models[name].epoch for name in models}
            try:
                return await attempt()
            except WrongAuthorityError as refusal:
                await self._wait_for_record(epochs, deadline, refusal)

    async def _wait_for_record(
        self, epochs: Mapping[str, int], deadline: float, refusal: WrongAuthorityError
    ) -> None:
        """Wait until a model has a newer record than `epochs` says; raise `refusal` when that takes too long.

        A store does not say which of several models it was that it refused.
        """
        self._observer.observe(AuthorityMissed(next(iter(epochs))))
        if any(self._models[name].epoch > epoch for name, epoch in epochs.items()):
            return
        left = max(deadline - monotonic(), 0.0)
        waiting = [
            asyncio.ensure_future(self._records.newer_than(name, epoch, left))
            for name, epoch in epochs.items()
        ]
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiting:
                waiter.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if all(waiter.cancelled() or waiter.exception() is not None for waiter in done):
            raise refusal

    async def _followed_write(self, model: Standing, pinned: Operation, spanned: Sequence[str]) -> Any:
        plan = model.plan
        path = self._paths[plan.authority]
        if pinned.action is Action.CREATE_MANY:
            pinned = await self.with_reserved_ids(model.spec, path, pinned)
        await self.neighbours.bring_restricting([pinned])
        result = await self.neighbours.with_parents(
            [pinned], lambda: ask(path, pinned, Role.AUTHORITY, self._observer)
        )
        if len(spanned) == 1:
            keys = _keys(model.spec, pinned, result)
            done = self.follow([AcceptedWrite(model.spec, plan, pinned, result, keys)])
            if (model.awaits or self._settings.follow == "await") and (done is not None or keys):
                await self.followed(spanned, done)
        else:
            await self.followed(spanned, None)
        return result  # rows that a nested write has touched are carried over by capture

    def follow(self, writes: Sequence[AcceptedWrite]) -> asyncio.Future[None] | None:
        """Have accepted writes followed, several as one transaction; None when there is nothing to be done at once."""
        follows = [
            write
            for write in writes
            if write.plan.is_followed and (write.keys or write.operation.action in MANY_WRITES)
        ]
        if not follows:
            return None
        return (
            self._follower.follow(follows[0])
            if len(follows) == 1
            else self._follower.follow_together(follows)
        )

    def follow_batch(self, writes: Sequence[AcceptedWrite]) -> asyncio.Future[None] | None:
        """Have an accepted batch followed as one; its results are not known, and so they are not compared."""
        if not all(write.plan.is_followed for write in writes):
            return None  # what one of them captures, the reconciler carries over with all the others
        return self._follower.follow_batch(writes)

    async def followed(
        self, models: Sequence[str], done: asyncio.Future[None] | None, *, is_all: bool = True
    ) -> None:
        """Wait for the follower's part in a write to `models`, within its deadline, if it is to be awaited.

        What was not followed at once, `done` being None or not the whole of it, is brought level where it may be read.
        """
        if not (self._settings.follow == "await" or self.standings.awaits(models)):
            return
        if done is not None:
            await asyncio.wait([done], timeout=self._settings.follow_deadline)
        if not self.standings.read_beside(models):
            return
        is_level = done.done() if done is not None else False
        if done is None or not is_all:
            is_level = await self.neighbours.level(models)
        if not is_level:
            self._answering.doubt(models)

    def note_span(self, models: Iterable[str], *, is_write: bool) -> None:
        """Tell it if one operation, or one transaction, touches several models."""
        note_span(self._observer, models, is_write=is_write)

    def pin(self, operation: Operation) -> Operation:
        """Fill in what a client mints."""
        return self._pinner.pin(operation)

    def path(self, side: Side) -> Path:
        """Return the path of a side."""
        return self._paths[side]

    async def with_reserved_ids(self, spec: ModelSpec, path: Path, operation: Operation) -> Operation:
        """Give the rows of a create the ids that the authority's sequence would give them.

        The engine returns only a count of many rows, so there is no row to take them from afterwards.
        """
        if not spec.minted_by_database:
            return operation
        data = operation.arguments["data"]
        rows = [dict(row) for row in (data if isinstance(data, (list, tuple)) else [data])]
        for column in spec.minted_by_database:
            lacking = [row for row in rows if column.name not in row]
            if lacking:
                values = await path.reserve(spec.name, column.name, len(lacking))
                for row, value in zip(lacking, values, strict=True):
                    row[column.name] = value
        given = rows if isinstance(data, (list, tuple)) else rows[0]
        return operation._replace(arguments={**operation.arguments, "data": given})

    async def drain(self, deadline: float = 60.0) -> bool:
        """Bring every follower level with its authority; True when nothing is left to do in time."""
        began = monotonic()
        try:
            async with asyncio.timeout(deadline):
                await self.queue.settle(self._models)
        except TimeoutError:
            return False
        begun = [name for name, model in self._models.items() if has_begun(model.plan.stage)]
        return await self._settler.drain(begun, deadline - (monotonic() - began))


def _keys(spec: ModelSpec, operation: Operation, result: Any) -> tuple[Key, ...]:
    return () if operation.action in MANY_WRITES else keys_written(spec, operation, result)
