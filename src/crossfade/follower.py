"""The follower's part in a write: apply it to the other store, or read the row back, and compare the two rows.

A difference is `mismatched` only where it proves something: in a field to which this very write gave a value. Whatever
else differs (a counter, a field that somebody else wrote) may be a matter of timing; both stores have captured the row,
and the reconciler sees to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from crossfade.compare import Comparison, compare
from crossfade.errors import LateWriteError, UnsupportedQueryError
from crossfade.events import Difference, FollowDropped, Role, Verdict, WriteCompared
from crossfade.follow import FollowJob, FollowQueue
from crossfade.keys import Key, parent_keys, read_by_key, subject
from crossfade.operation import MANY_WRITES, Action, Operation, for_follower
from crossfade.paths import Path
from crossfade.schema import ModelSpec
from crossfade.side import Sides
from crossfade.stages import FollowerPart, Plan


class AcceptedWrite(NamedTuple):
    """A write that the authority has accepted: what was asked, what came of it, and the rows it touched."""

    spec: ModelSpec
    plan: Plan
    operation: Operation
    result: Any
    keys: Sequence[Key]


class Follower:
    """Queues what the follower has to do, and judges what came of it. `sides` are the paths that write as followers."""

    def __init__(self, sides: Sides, queue: FollowQueue, deadline: float) -> None:
        self._sides = sides
        self._queue = queue
        self._observer = sides.observer
        self._deadline = deadline

    def follow(self, write: AcceptedWrite) -> asyncio.Future[None] | None:
        """Queue the follower's part in a write.

        Returns:
            A future that is done when the follower's part is over, whatever came of it; None if it was dropped.
        """
        asked = for_follower(write.spec, write.operation, write.result)

        async def run() -> None:
            await self._run(write, asked)

        return self._offer([write], run, [asked])

    def follow_together(self, writes: Sequence[AcceptedWrite]) -> asyncio.Future[None] | None:
        """Queue writes that the authority has accepted as one transaction; the follower does them in one, too."""
        asked = [for_follower(write.spec, write.operation, write.result) for write in writes]

        async def run() -> None:
            await self._run_together(writes, asked)

        return self._offer(writes, run, asked)

    def follow_batch(self, writes: Sequence[AcceptedWrite]) -> asyncio.Future[None] | None:
        """Queue a batch that the authority has accepted. Nobody knows its results, so there is nothing to compare."""

        async def run() -> None:
            await self._run_batch(writes)

        first = writes[0]
        job = FollowJob(
            first.spec.name,
            first.operation.action,
            run,
            keys=(),
            is_barrier=True,
            done=asyncio.get_running_loop().create_future(),
        )
        return job.done if self._queue.offer(job) else None

    async def _run_batch(self, writes: Sequence[AcceptedWrite]) -> None:
        plan = writes[0].plan
        if plan.follower_part is FollowerPart.READ_BACK:
            return
        breaker = self._sides.breakers[plan.follower]
        if not breaker.allows():
            for write in writes:
                self._drop(write, "breaker_open")
            return
        try:
            async with asyncio.timeout(self._deadline):
                await self._sides.paths[plan.follower].batch([write.operation for write in writes])
        except LateWriteError:
            for write in writes:
                self._drop(write, "late")
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the follower's and not a caller's
            breaker.failed(error)
            for write in writes:
                self._report_failure(write, error)
        else:
            breaker.succeeded()

    def _offer(
        self, writes: Sequence[AcceptedWrite], run: Callable[[], Awaitable[None]], asked: Sequence[Operation]
    ) -> asyncio.Future[None] | None:
        first = writes[0]
        many = any(write.operation.action in MANY_WRITES for write in writes)
        pairs = [
            pair for pair in zip(writes, asked, strict=True) if pair[0].operation.action not in MANY_WRITES
        ]
        job = FollowJob(
            first.spec.name,
            first.operation.action,
            run,
            keys=tuple(dict.fromkeys(key for write in writes for key in write.keys)),
            parents=[key for write, operation in pairs for key in _parents(write.spec, operation)],
            is_barrier=many,
            done=asyncio.get_running_loop().create_future(),
        )
        return job.done if self._queue.offer(job) else None

    async def _run(self, write: AcceptedWrite, operation: Operation) -> None:
        follower = write.plan.follower
        if not self._sides.breakers[follower].allows():
            self._drop(write, "breaker_open")
            return
        asked: Operation | None = operation
        expected = write.result
        if write.plan.follower_part is FollowerPart.READ_BACK:
            asked, expected = _read_back(write)
        if asked is None:
            return
        try:
            actual = await self._sides.ask(follower, asked, Role.FOLLOWER, self._deadline)
        except LateWriteError:
            self._drop(write, "late")
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the follower's and not a caller's
            self._report_failure(write, error)
        else:
            if asked is not operation and not compare(self._sides.schema, asked, expected, actual).equal:
                await self._look_again(write, asked)
                return
            self._judge(write, asked, expected, actual)

    async def _look_again(self, write: AcceptedWrite, asked: Operation) -> None:
        """Read the row through both clients: in a shared store only a difference between two reads proves anything."""
        authority, follower = write.plan.authority, write.plan.follower
        try:
            before, actual, after = [
                await self._sides.ask(side, asked, Role.SHADOW, self._deadline)
                for side in (authority, follower, authority)
            ]
        except Exception as error:  # noqa: BLE001  # as above
            self._report_failure(write, error)
            return
        comparison = compare(self._sides.schema, asked, before, actual)
        moved = not compare(self._sides.schema, asked, before, after).equal
        if comparison.equal or moved:
            self._report(write, Verdict.IN_FLIGHT)
        else:
            self._report(write, Verdict.MISMATCHED, comparison.differences)

    async def _run_together(self, writes: Sequence[AcceptedWrite], asked: Sequence[Operation]) -> None:
        plan = writes[0].plan
        if plan.follower_part is FollowerPart.READ_BACK:
            for write, operation in zip(writes, asked, strict=True):
                await self._run(write, operation)
            return
        if not self._sides.breakers[plan.follower].allows():
            for write in writes:
                self._drop(write, "breaker_open")
            return
        path: Path = self._sides.paths[plan.follower]
        try:
            async with asyncio.timeout(self._deadline):
                results = await _in_one_transaction(path, asked, self._deadline)
        except LateWriteError:
            for write in writes:
                self._drop(write, "late")
        except Exception as error:  # noqa: BLE001  # as above
            self._sides.breakers[plan.follower].failed(error)
            for write in writes:
                self._report_failure(write, error)
        else:
            self._sides.breakers[plan.follower].succeeded()
            for write, operation, actual in zip(writes, asked, results, strict=True):
                self._judge(write, operation, write.result, actual)

    def _judge(self, write: AcceptedWrite, asked: Operation, expected: Any, actual: Any) -> None:
        comparison = compare(self._sides.schema, asked, expected, actual)
        proof = _proof(write, comparison, expected, actual)
        if comparison.equal:
            self._report(write, Verdict.MATCHED)
        elif proof:
            self._report(write, Verdict.MISMATCHED, proof)
        else:
            self._report(write, Verdict.IN_FLIGHT)

    def _drop(self, write: AcceptedWrite, reason: str) -> None:
        self._observer.observe(FollowDropped(write.spec.name, write.operation.action, reason))

    def _report_failure(self, write: AcceptedWrite, error: Exception) -> None:
        skipped = isinstance(error, UnsupportedQueryError)
        self._report(write, Verdict.SKIPPED if skipped else Verdict.ERROR)

    def _report(
        self, write: AcceptedWrite, verdict: Verdict, differences: tuple[Difference, ...] = ()
    ) -> None:
        about = subject(write.operation, write.keys[0] if write.keys else None)
        self._observer.observe(
            WriteCompared(write.spec.name, write.operation.action, verdict, differences, about)
        )


async def _in_one_transaction(path: Path, operations: Sequence[Operation], deadline: float) -> list[Any]:
    transaction = await path.begin(timeout=deadline)
    try:
        results = [await transaction.execute(operation) for operation in operations]
        await transaction.commit()
    except BaseException:
        await transaction.rollback()
        raise
    return results


def _proof(
    write: AcceptedWrite, comparison: Comparison, expected: Any, actual: Any
) -> tuple[Difference, ...]:
    """The differences that no other write can explain: those in fields that this write gave a value."""
    if comparison.equal or expected is None or actual is None or isinstance(expected, int):
        return ()
    given = _given(write, expected, actual)
    return tuple(difference for difference in comparison.differences if difference.field in given)


def _given(write: AcceptedWrite, expected: Any, actual: Any) -> frozenset[str]:
    """The fields to which this write gave a value of its own, on both sides."""
    operation, fields = write.operation, write.spec.fields
    data: Any = operation.arguments.get("data")
    match operation.action:
        case Action.CREATE | Action.UPDATE:
            return _plain(data)
        case Action.UPSERT:
            create, update = data["create"], data["update"]
            made = all(
                getattr(row, name) == create.get(name)
                for row in (expected, actual)
                for name in write.spec.primary_key
            )
            if made:  # both rows are the one that this write has made, or an equal of it
                return frozenset(name for name in _plain(create) if name not in update and name in fields)
            return frozenset(name for name in _plain(update) if name not in create)
        case _:
            return frozenset()


def _plain(data: Mapping[str, Any]) -> frozenset[str]:
    """The fields that are given a value, rather than an operation on the one that is there."""
    return frozenset(
        name for name, value in data.items() if not isinstance(value, Mapping) or value.keys() == {"set"}
    )


def _parents(spec: ModelSpec, operation: Operation) -> list[Key]:
    data = operation.arguments.get("data")
    if not data:
        return []
    if operation.action is Action.UPSERT:
        return [*parent_keys(spec, data["create"]), *parent_keys(spec, data["update"])]
    return parent_keys(spec, data)


def _read_back(write: AcceptedWrite) -> tuple[Operation | None, Any]:
    """In a shared store the write is there already: the follower reads the row, and a deleted row must be gone."""
    if write.operation.action in MANY_WRITES or not write.keys:
        return None, None
    expected = None if write.operation.action is Action.DELETE else write.result
    return read_by_key(write.spec, write.keys[0]), expected
