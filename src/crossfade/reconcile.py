"""Verify suspect keys and bring the follower's row level with the authority's.

Theory of operation. A key is taken up when it has been quiet for `settle` seconds and no follower write for it is under
way. Both sides are read. Equal rows clear the key. Different rows are copied, authority to follower, by a job in the
follow queue: it is in order with every follower write of that key, reads the authority again just before it writes,
and leaves the key down for another look, so a copy is itself verified. A write that ends meanwhile puts the key down
anew. Parents are copied before children, and deletes go the other way round.

Both clients read a list that is NULL as an empty one, but filters tell them apart, so here an empty list is looked at
twice: a row that was read has None where the store has NULL.

A row that cannot be copied (a constraint in the way, a side that does not answer) stays down and is tried again, later
each time; it never keeps the others from their turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from crossfade.capture import Capture, Suspicion
from crossfade.compare import row_differences, value_difference
from crossfade.events import Difference, DifferenceKind, Role, RowReconciled, Verdict, WriteCompared
from crossfade.fields import Json
from crossfade.follow import FollowJob, FollowQueue
from crossfade.keys import Key, is_primary, key_of, parent_keys, read_by_key, where_of
from crossfade.operation import Action, Operation
from crossfade.records import Record
from crossfade.schema import FieldSpec, ModelSpec, Scalar
from crossfade.side import Sides
from crossfade.stages import FollowerPart, Plan, Side


@dataclass(frozen=True, slots=True)
class ReconcileSettings:
    """Bounds of reconciling. Times in seconds."""

    settle: float = 0.05
    batch: int = 64
    interval: float = 0.05
    deadline: float = 5.0
    backoff: float = 0.1
    longest_backoff: float = 5.0
    near: int = 16
    """How many keys and queued writes of a model count as little."""
    patience: int = 20
    """How often to look for a moment of rest before a difference is repaired without a verdict on its cause."""


class Reconciler:
    """Works through the suspect keys. `plan_of(model)` says which side is the authority now."""

    def __init__(
        self,
        sides: Sides,
        capture: Capture,
        queue: FollowQueue,
        plan_of: Callable[[str], Plan],
        settings: ReconcileSettings | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._sides = sides
        self._schema = sides.schema
        self._capture = capture
        self._queue = queue
        self._observer = sides.observer
        self._plan_of = plan_of
        self._settings = settings or ReconcileSettings()
        self._clock = clock
        self._rank = {spec.name: rank for rank, spec in enumerate(sides.schema.in_foreign_key_order())}
        self._task: asyncio.Task[None] | None = None
        self._in_hand: set[Key] = set()

    def start(self) -> None:
        """Start the loop."""
        self._task = asyncio.create_task(self._loop(), name="reconcile")

    async def close(self) -> None:
        """Stop the loop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def drain(self, models: Iterable[str], deadline: float) -> bool:
        """Verify every suspect key of `models`, without waiting for quiet; True when none is left in time."""
        return await self._work_off(models, deadline, self._is_level)

    async def catch_up(self, models: Iterable[str], deadline: float) -> bool:
        """Do the same while writers go on: True when what is left is little, and none of it is stuck."""
        return await self._work_off(models, deadline, self._is_near)

    def _is_level(self, model: str) -> bool:
        return not self._capture.pending(model) and not self._capture.forgotten[model]

    def _is_near(self, model: str) -> bool:
        left = self._capture.pending(model) + self._capture.forgotten[model]
        if left + self._queue.outstanding(model) > self._settings.near:
            return False
        suspects = self._capture.suspects.items() if left else ()
        return not any(key.model == model and (s.attempts or key in self._in_hand) for key, s in suspects)

    async def _work_off(self, models: Iterable[str], deadline: float, is_done: Callable[[str], bool]) -> bool:
        wanted = frozenset(models)
        try:
            async with asyncio.timeout(deadline):
                while True:
                    await self._queue.settle(wanted)
                    looked_at = await self.run_once(wanted, settle=0.0)
                    if all(map(is_done, wanted)):
                        return True
                    if not looked_at:
                        await asyncio.sleep(self._settings.interval / 10)
        except TimeoutError:
            return False

    async def rest(self, models: Iterable[str], deadline: float) -> bool:
        """Wait until nothing of `models` is queued or suspect, without hurrying it; True when it came to that."""
        wanted = frozenset(models)
        until = self._clock() + deadline
        while True:
            if not any(map(self._is_busy, wanted)):
                return True
            if self._clock() >= until:
                return False
            await asyncio.sleep(self._settings.interval / 5)

    def _is_busy(self, model: str) -> bool:
        capture = self._capture
        return bool(self._queue.outstanding(model) or capture.pending(model) or capture.is_shaken(model))

    async def _loop(self) -> None:
        while True:
            if not await self.run_once():
                await asyncio.sleep(self._settings.interval)

    async def run_once(self, models: frozenset[str] | None = None, *, settle: float | None = None) -> int:
        """Look at one batch of keys that are due; return how many were looked at."""
        quiet = self._settings.settle if settle is None else settle
        due = self._due(models, quiet)
        if due:
            await asyncio.gather(*(self._take_in_hand(key, suspicion) for key, suspicion in due))
        return len(due)

    async def _take_in_hand(self, key: Key, suspicion: Suspicion) -> None:
        self._in_hand.add(key)  # the loop and a drain may run side by side, and one look at a time is enough
        try:
            await self._verify(key, suspicion)
        finally:
            self._in_hand.discard(key)

    def _due(self, models: frozenset[str] | None, quiet: float) -> list[tuple[Key, Suspicion]]:
        now = self._clock()
        due: list[tuple[Key, Suspicion]] = []
        for key, suspicion in self._capture.suspects.items():
            if models is not None and key.model not in models:
                continue
            if key in self._in_hand or self._queue.busy(key):
                continue
            if self._is_due(suspicion, now, quiet):
                due.append((key, suspicion))
                if len(due) >= self._settings.batch:
                    break
        return sorted(due, key=lambda entry: self._rank[entry[0].model])

    def _is_due(self, suspicion: Suspicion, now: float, quiet: float) -> bool:
        wait = quiet
        if suspicion.attempts > 1:
            backoff = self._settings.backoff * 2 ** min(suspicion.attempts - 2, 10)
            wait = max(wait, min(backoff, self._settings.longest_backoff))
        return now - suspicion.since >= wait

    async def _verify(self, key: Key, suspicion: Suspicion) -> None:
        spec = self._schema.models[key.model]
        plan = self._plan_of(key.model)
        ended = self._capture.last_end(key)
        since = suspicion.since
        try:
            expected, actual = await self._read_both(plan, spec, key)
        except Exception:  # noqa: BLE001  # whatever it is, this row waits and the others go on
            self._put_off(key, suspicion)
            return
        if not is_primary(spec, key):
            self._capture.suspect((key_of(spec, row) for row in (expected, actual) if row is not None), since)
            self._capture.clear(key)
            return
        if self._capture.last_end(key) != ended or suspicion.since != since or self._queue.busy(key):
            return  # it was written meanwhile; its turn comes again
        differences = self._differences(key.model, expected, actual)
        at_rest = self._capture.is_quiet(key)
        if differences and suspicion.blame and not at_rest and suspicion.attempts < self._settings.patience:
            self._put_off(key, suspicion)  # a copy now would remove what the verdict must be passed on
            return
        self._pass_verdict(key, suspicion, differences if at_rest and not suspicion.tainted else ())
        if not differences:
            self._capture.clear(key)
            self._observer.observe(RowReconciled(key.model, "equal"))
            return
        if plan.follower_part is FollowerPart.READ_BACK:
            # One store: the difference lies in how it is read, and nothing can be copied.
            self._capture.clear(key)
            return
        self._queue_copy(spec, key, suspicion, parents=parent_keys(spec, vars(expected)) if expected else [])

    def _pass_verdict(self, key: Key, suspicion: Suspicion, differences: tuple[Difference, ...]) -> None:
        """Judge the write that brought the key here, once, now that the rows have been read at rest."""
        if suspicion.blame is None:
            return
        action, suspicion.blame = suspicion.blame, None
        verdict = Verdict.MISMATCHED if differences else Verdict.IN_FLIGHT
        self._observer.observe(WriteCompared(key.model, action, verdict, differences))

    def _differences(self, model: str, expected: Any, actual: Any) -> tuple[Difference, ...]:
        if expected is None or actual is None:
            if expected is actual:
                return ()
            return (Difference("", DifferenceKind.MISSING if actual is None else DifferenceKind.EXTRA),)
        fields = self._schema.models[model].fields
        return tuple(
            difference
            for difference in row_differences(self._schema, model, expected, actual)
            # No call can make a list NULL again.
            if not (
                fields[difference.field].is_list
                and getattr(expected, difference.field) is None
                and getattr(actual, difference.field) == []
            )
        )

    def _queue_copy(self, spec: ModelSpec, key: Key, suspicion: Suspicion, parents: list[Key]) -> None:
        async def run() -> None:
            await self._copy(spec, key, suspicion)

        # A child's copy waits for its parent's. A parent that is itself suspect is copied in the same round, before it.
        job = FollowJob(spec.name, Action.UPSERT, run, keys=(key,), parents=parents)
        job.on_drop = lambda _reason: self._put_off(key, suspicion)
        self._queue.offer(job)

    async def _copy(self, spec: ModelSpec, key: Key, suspicion: Suspicion) -> None:
        plan = self._plan_of(key.model)
        try:
            row, stale = await self._read_both(plan, spec, key)
            operation = copy_of(spec, key, row, stale)
            await self._sides.ask(plan.follower, operation, Role.FOLLOWER, self._settings.deadline)
        except Exception:  # noqa: BLE001  # see above
            self._observer.observe(RowReconciled(key.model, "failed"))
        else:
            self._observer.observe(RowReconciled(key.model, "deleted" if row is None else "copied"))
        self._put_off(key, suspicion)

    def _put_off(self, key: Key, suspicion: Suspicion) -> None:
        """Leave the key down for another look; each one that was in vain makes the next wait longer."""
        if key in self._capture.suspects:
            suspicion.attempts += 1
            suspicion.since = self._clock()
            self._capture.suspects.move_to_end(key)

    async def _read_both(self, plan: Plan, spec: ModelSpec, key: Key) -> tuple[Any, Any]:
        """Return the authority's row and the follower's."""
        authority, follower = self._read(plan.authority, spec, key), self._read(plan.follower, spec, key)
        return await asyncio.gather(authority, follower)

    async def _read(self, side: Side, spec: ModelSpec, key: Key) -> Any:
        row = await self._sides.ask(side, read_by_key(spec, key), Role.SHADOW, self._settings.deadline)
        if row is None:
            return None
        empty = [name for name, column in spec.fields.items() if column.is_list and getattr(row, name) == []]
        are_null = await asyncio.gather(*(self._is_null(side, spec, key, name) for name in empty))
        nulls = dict.fromkeys(name for name, is_null in zip(empty, are_null, strict=True) if is_null)
        return row.build(vars(row) | nulls) if nulls else row

    async def _is_null(self, side: Side, spec: ModelSpec, key: Key, name: str) -> bool:
        where = {**dict(key.items), name: {"equals": None}}
        question = Operation(spec.name, Action.COUNT, {"where": where})
        return bool(await self._sides.ask(side, question, Role.SHADOW, self._settings.deadline))


def copy_of(spec: ModelSpec, key: Key, row: Record | None, stale: Record | None = None) -> Operation:
    """Return the operation that makes the row of `key` equal to `row`: a delete, or an upsert.

    Where `stale` already says the same as `row` it is left alone: a JSON null reads as no value at all, so that writing
    such a field again might change what is stored. In both rows a list that is NULL is None.
    """
    where = where_of(spec, key)
    if row is None:
        return Operation(spec.name, Action.DELETE, {"where": where})
    values = {name: _argument(column, getattr(row, name)) for name, column in spec.fields.items()}
    create = {name: value for name, value in values.items() if not _is_absent(spec.fields[name], row)}
    update = {
        name: value
        for name, value in values.items()
        if name not in spec.primary_key
        and (
            stale is None
            or spec.fields[name].is_updated_at  # not given, it would become the time of the copy
            or value_difference(getattr(row, name), getattr(stale, name)) is not None
        )
    }
    return Operation(spec.name, Action.UPSERT, {"where": where, "data": {"create": create, "update": update}})


def _is_absent(column: FieldSpec, row: Record) -> bool:
    """Whether a new row gets its value by not being given one; Prisma would store a JSON null where one is given."""
    if getattr(row, column.name) is not None:
        return False
    return column.is_list or (column.scalar is Scalar.JSON and not column.is_required)


def _argument(column: FieldSpec, value: Any) -> Any:
    """Turn a canonical value back into what a caller would pass; Prisma takes no None for a document or a list."""
    if column.is_list:
        return [Json(item) if column.scalar is Scalar.JSON else item for item in value or ()]
    return Json(value) if column.scalar is Scalar.JSON else value
