"""One operation, from the call to the answer: resolve the plan, pin, execute on the authority, follow, compare.

What the caller waits for is the authority, and nothing else. Whatever concerns the other side is queued (`follow`,
`shadow`) or noted (`capture`), and cannot raise into the call. There are two exceptions, both asked for:
`follow="await"`, and models that *straddle*: while a neighbour's writes belong to the other side, a parent must be on
both sides before its child can be created on either, so the follower is awaited then, within `follow_deadline`.

A move of the authority is the only time a writer waits: `move` closes the model's gate, lets the writes under way
finish, drains the follower, raises sequences, swaps the plan and opens the gate. The pause is measured.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any, Literal, Self

from crossfade.breaker import FAILURES, OUTAGES, Breaker
from crossfade.capture import Capture
from crossfade.errors import CrossfadeError, StageMoveError, UnsupportedQueryError
from crossfade.events import NullObserver, Observer, Role, SideUnavailable, StageMoved
from crossfade.follow import FollowQueue
from crossfade.follower import AcceptedWrite, Follower
from crossfade.keys import (
    Key,
    is_primary,
    key_from_values,
    key_of,
    keys_named,
    keys_written,
    primary_key_named,
)
from crossfade.operation import MANY_WRITES, READS, Action, Operation, Pinner, models_touched, nested_writes
from crossfade.paths import Path
from crossfade.planner import Planner
from crossfade.reconcile import Reconciler, ReconcileSettings
from crossfade.schema import ModelSpec, Schema
from crossfade.shadow import ShadowReader, ShadowSettings
from crossfade.side import Sides, ask
from crossfade.stages import PLANS, FollowerPart, Plan, Side, Stage, Topology, has_begun, moves_authority
from crossfade.standing import Standing


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """How the repository treats the other side. Times in seconds."""

    topology: Topology = Topology.SEPARATE
    follow: Literal["background", "await"] = "background"
    follow_deadline: float = 5.0
    follow_workers: int = 8
    follow_limit: int = 10_000
    capture_at_off: bool = False
    """Whether keys written at `off` are kept and brought level, too, for who has copied the rows already."""
    drain_deadline: float = 10.0
    """How long a move may wait for a follower to catch up, while writers go on."""
    pause_deadline: float = 2.0
    """How long writers may wait in a move before it is given up."""
    connect_interval: float = 1.0
    """How often a side that no caller depends on is tried again when it does not answer at the start."""
    shadow: ShadowSettings = field(default_factory=ShadowSettings)
    reconcile: ReconcileSettings = field(default_factory=ReconcileSettings)


class Repository:
    """Executes operations on two sides, by the stage of each model. Open it with `async with`."""

    def __init__(
        self,
        schema: Schema,
        paths: Mapping[Side, Path],
        *,
        stages: Mapping[str, Stage] | None = None,
        observer: Observer | None = None,
        settings: RepositorySettings | None = None,
        pinner: Pinner | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.schema = schema
        self._settings = settings or RepositorySettings()
        self._paths = paths
        self._observer = observer or NullObserver()
        self._pinner = pinner or Pinner(schema)
        self._chance = chance
        self._planner = Planner(schema)
        self._plans = PLANS[self._settings.topology]
        self._unfollowed = _unfollowed(self._plans, self._settings)
        at = {spec.name: Stage.OFF for spec in schema} | dict(stages or {})
        self._models = {
            name: Standing(schema.model(name), self._plans[stage], (name,), schema.touched_by_delete(name))
            for name, stage in at.items()
        }
        self.capture = Capture()
        self.breakers = {side: Breaker(side, self._observer) for side in paths}
        self.queue = FollowQueue(
            self._observer, workers=self._settings.follow_workers, limit=self._settings.follow_limit
        )
        sides = Sides(schema, paths, self.breakers, self._observer)
        self.reconciler = Reconciler(sides, self.capture, self.queue, self.plan, self._settings.reconcile)
        self.shadow = ShadowReader(sides, self.capture, self._settled, self._settings.shadow)
        self._follower = Follower(sides, self.capture, self.queue, self._settings.follow_deadline)
        self._connecting: list[asyncio.Task[None]] = []
        self._moving = asyncio.Lock()
        self._note_straddling()

    async def __aenter__(self) -> Self:
        needed = {model.plan.authority for model in self._models.values()}
        attempts = (
            path.connect() if side in needed else self._connect_if_it_answers(path)
            for side, path in self._paths.items()
        )
        refusals = [r for r in await asyncio.gather(*attempts, return_exceptions=True) if r is not None]
        if refusals:
            await self._close_paths()
            raise refusals[0]
        self.queue.start()
        self.reconciler.start()
        self.shadow.start()
        return self

    async def _connect_if_it_answers(self, path: Path) -> None:
        """Connect a side that no caller depends on, now or later. While it is away the application runs without it."""
        if not await self._connects(path):
            self._connecting.append(
                asyncio.create_task(self._connect_in_time(path), name=f"connect-{path.side}")
            )

    async def _connect_in_time(self, path: Path) -> None:
        connected = False
        while not connected:
            await asyncio.sleep(self._settings.connect_interval)
            connected = await self._connects(path)

    async def _connects(self, path: Path) -> bool:
        try:
            await path.connect()
        except FAILURES as error:
            self._observer.observe(SideUnavailable(path.side, type(error).__name__))
            return False
        return True

    async def __aexit__(self, *_: object) -> None:
        await self.shadow.close()
        await self.reconciler.close()
        await self.queue.close()
        await self._close_paths()

    async def _close_paths(self) -> None:
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await asyncio.gather(*(path.close() for path in self._paths.values()))

    # --- what stands where ---------------------------------------------------------------------------------------

    def plan(self, model: str) -> Plan:
        """Return what the stage of `model` means now."""
        return self._models[model].plan

    def stages(self) -> dict[str, Stage]:
        """Return the stage of every model."""
        return {name: model.plan.stage for name, model in self._models.items()}

    def sample(self, model: str, share: float) -> None:
        """Set the share of reads of `model` that are compared, 0 to 1."""
        self._models[model].sample = share

    # --- one operation -------------------------------------------------------------------------------------------

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation and return the authority's result, or raise the authority's error, unchanged.

        Raises:
            DataError: the authority refused it.
            QueryError: the arguments cannot be used.
            UnsupportedQueryError: a write holds nested writes while a model it spans is being migrated.
        """
        model = self._models[operation.model]
        if operation.action not in READS:
            return await self._write(model, operation)
        arguments = operation.arguments
        where = arguments.get("where")
        if len(arguments) == 1 and where and model.spec.uniques.keys() >= where.keys():
            models = model.alone  # a plain read by a unique key, the commonest call
        else:
            models = models_touched(self.schema, operation)
        plan = model.plan
        side = plan.reads if len(models) == 1 else self._reads_of(models)
        if plan.shadow is None or (model.sample < 1.0 and self._chance() >= model.sample):
            return await ask(self._paths[side], operation, Role.AUTHORITY, self._observer)
        return await self._shadowed_read(operation, side, models)

    async def _shadowed_read(self, operation: Operation, side: Side, models: Sequence[str]) -> Any:
        try:
            result = await ask(self._paths[side], operation, Role.AUTHORITY, self._observer)
        except CrossfadeError as error:
            if not isinstance(error, OUTAGES) and self._all_fed(models):
                self.shadow.offer(operation, error, side, models)
            raise
        if len(models) == 1 or self._all_fed(models):
            self.shadow.offer(operation, result, side, models)
        return result

    def _reads_of(self, models: Sequence[str]) -> Side:
        """SQLAlchemy answers a read of several models only if it answers for each of them."""
        on_sqlalchemy = all(self._models[name].plan.reads is Side.SQLALCHEMY for name in models)
        return Side.SQLALCHEMY if on_sqlalchemy else Side.PRISMA

    def _all_fed(self, models: Sequence[str]) -> bool:
        fed = (FollowerPart.APPLY, FollowerPart.READ_BACK)
        return all(self._models[name].plan.follower_part in fed for name in models)

    async def _write(self, model: Standing, operation: Operation) -> Any:
        if model.gate is not None:
            await model.wait_at_gate()
        model.writing += 1
        try:
            self._refuse_nested(model, operation)
            plan = model.plan
            if plan.stage in self._unfollowed:
                return await ask(self._paths[plan.authority], operation, Role.AUTHORITY, self._observer)
            return await self._followed_write(model, plan, operation)
        finally:
            model.leave()

    def _refuse_nested(self, model: Standing, operation: Operation) -> None:
        """Nested writes are passed through while nothing they span has begun to move, and refused after that."""
        nested = nested_writes(model.spec, operation)
        if not nested:
            return
        spanned = [operation.model, *(model.spec.relations[name].model for name in nested)]
        if any(has_begun(self._models[name].plan.stage) for name in spanned):
            raise UnsupportedQueryError(
                operation.model,
                f"data.{nested[0]}",
                "nested writes cannot be followed; write the related rows by calls of their own",
            )

    async def _followed_write(self, model: Standing, plan: Plan, operation: Operation) -> Any:
        pinned = self._pinner.pin(operation)
        many = operation.action in MANY_WRITES
        path = self._paths[plan.authority]
        if operation.action is Action.CREATE_MANY:
            pinned = await self._with_reserved_ids(model.spec, path, pinned)
        keys = await self._keys_before(model.spec, path, pinned) if many else ()
        named = None if many else primary_key_named(model.spec, pinned)
        shakes = model.shakes if operation.action in _DELETES else _NOBODY
        ticket = self.capture.begin(operation.model, named, many=many, shakes=shakes)
        try:
            result = await ask(path, pinned, Role.AUTHORITY, self._observer)
        except BaseException as error:
            keys = (*keys, *keys_named(model.spec, pinned))
            self.capture.end(operation.model, named, keys, ticket, many=many, shakes=shakes)
            if not isinstance(error, CrossfadeError) or isinstance(error, OUTAGES):
                # Nobody knows whether the write took place: the connection broke, or the caller gave up.
                for key in keys:
                    vague = not is_primary(model.spec, key)
                    self.capture.suspect([key], monotonic(), vague=vague, shakes=shakes)
            raise
        if many:
            keys = tuple(dict.fromkeys((*keys, *self.capture.crossed(operation.model, ticket))))
        else:
            keys = keys_written(model.spec, pinned, result)
        overlapped = self.capture.end(operation.model, named, keys, ticket, many=many, shakes=shakes)
        if many or overlapped or shakes or plan.follower_part is FollowerPart.CAPTURE:
            self.capture.suspect(keys, monotonic(), shakes=shakes)
        if plan.follower_part is not FollowerPart.CAPTURE and (keys or many):
            accepted = AcceptedWrite(model.spec, plan, pinned, result, keys, overlapped=overlapped or many)
            done = self._follower.follow(accepted)
            if done is not None and (model.awaits or self._settings.follow == "await"):
                await self._wait_for(done)
        return result

    async def _wait_for(self, job_done: asyncio.Future[None]) -> None:
        await asyncio.wait([job_done], timeout=self._settings.follow_deadline)

    async def _with_reserved_ids(self, spec: ModelSpec, path: Path, operation: Operation) -> Operation:
        """Give the rows of a `create_many` the ids that the authority's sequence would give them.

        The engine returns only a count, so there is no row to take them from afterwards.
        """
        rows = [dict(row) for row in operation.arguments["data"]]
        for column in spec.minted_by_database:
            lacking = [row for row in rows if column.name not in row]
            if lacking:
                values = await path.reserve(spec.name, column.name, len(lacking))
                for row, value in zip(lacking, values, strict=True):
                    row[column.name] = value
        return operation._replace(arguments={**operation.arguments, "data": rows})

    async def _keys_before(self, spec: ModelSpec, path: Path, operation: Operation) -> tuple[Key, ...]:
        """Return the keys of the rows that a write of many rows is about to touch."""
        if operation.action is Action.CREATE_MANY:
            found = [key_from_values(spec, row) for row in operation.arguments["data"]]
            return tuple(key for key in found if key is not None)
        where = operation.arguments.get("where")
        rows = await path.execute(Operation(spec.name, Action.FIND_MANY, {"where": where} if where else {}))
        return tuple(key_of(spec, row) for row in rows)

    # --- moving a model ------------------------------------------------------------------------------------------

    async def move(self, model: str, stage: Stage, *, by: str, reason: str = "requested") -> float:
        """Move `model` one step, to `stage`, and return how long its writers waited, in seconds.

        Raises:
            StageMoveError: the step is not permitted, or the other side could not be drained; nothing moved.
        """
        state = self._models[model]
        self._planner.check_move(self.stages(), model, stage)
        moves = moves_authority(state.plan.stage, stage)
        if moves and self.capture.forgotten[model]:
            why = "more rows were written than could be remembered while the other store was away; copy it again"
            raise StageMoveError(model, state.plan.stage, stage, why)
        if moves and not await self.reconciler.catch_up([model], self._settings.drain_deadline):
            why = "its follower has not caught up; is that store well?"
            raise StageMoveError(model, state.plan.stage, stage, why)
        async with self._moving:
            self._planner.check_move(self.stages(), model, stage)  # a neighbour may have moved meanwhile
            before = state.plan.stage
            pause = 0.0
            if moves:
                pause = await self._hand_over(state, stage)
            else:
                state.plan = self._plans[stage]
            self._note_straddling()
        self._observer.observe(StageMoved(model, before, stage, pause, by, reason))
        return pause

    async def _hand_over(self, state: Standing, stage: Stage) -> float:
        """Give the write authority to the other side, with the writers waiting for `pause_deadline` at most."""
        name, before = state.spec.name, state.plan
        started = perf_counter()
        try:
            with state.closed():
                async with asyncio.timeout(self._settings.pause_deadline):
                    await state.until_quiet()
                    if not await self.reconciler.drain([name], self._settings.pause_deadline):
                        raise TimeoutError  # it is met below, where all such reasons are
                    await self._raise_sequences(state.spec, before)
                state.plan = self._plans[stage]
        except FAILURES as error:
            why = f"it could not be drained within {self._settings.pause_deadline:g} s, while its writers waited"
            if not isinstance(error, TimeoutError):
                why = f"a side does not answer ({error})"
            raise StageMoveError(name, before.stage, stage, why) from error
        return perf_counter() - started

    async def _raise_sequences(self, spec: ModelSpec, before: Plan) -> None:
        for column in spec.minted_by_database:
            last = await self._paths[before.authority].sequence_value(spec.name, column.name)
            if last:
                await self._paths[before.follower].advance_sequence(spec.name, column.name, last)

    def _note_straddling(self) -> None:
        for name, state in self._models.items():
            others = (self._models[other].plan.authority for other in self.schema.neighbours(name))
            state.awaits = any(authority is not state.plan.authority for authority in others)

    async def _settled(self, models: Sequence[str]) -> bool:
        """Wait, within bounds, until nothing of `models` is queued or suspect; True when it came to that."""
        return await self.reconciler.rest(models, self._settings.shadow.settle_deadline)

    async def drain(self, deadline: float = 60.0) -> bool:
        """Bring every follower level with its authority; True when nothing is left to do in time."""
        return await self.reconciler.drain(self._models, deadline)


_NOBODY: frozenset[str] = frozenset()
_DELETES = frozenset({Action.DELETE, Action.DELETE_MANY})


def _unfollowed(plans: Mapping[Stage, Plan], settings: RepositorySettings) -> frozenset[Stage]:
    """The stages at which a write is the authority's alone."""
    idle = {stage for stage, plan in plans.items() if plan.follower_part is FollowerPart.NONE}
    captured = {stage for stage, plan in plans.items() if plan.follower_part is FollowerPart.CAPTURE}
    if not settings.capture_at_off:
        idle |= {stage for stage in captured if not has_begun(stage)}
    return frozenset(idle)
