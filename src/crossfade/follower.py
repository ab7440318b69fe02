"""The follower's part in a write: apply it to the other store, or read the row back, and compare the two rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any, NamedTuple

from crossfade.capture import Capture
from crossfade.compare import compare
from crossfade.errors import UnsupportedQueryError
from crossfade.events import FollowDropped, Role, Verdict, WriteCompared
from crossfade.follow import FollowJob, FollowQueue
from crossfade.keys import Key, parent_keys, read_by_key
from crossfade.operation import MANY_WRITES, Action, Operation, for_follower
from crossfade.schema import ModelSpec
from crossfade.side import Sides
from crossfade.stages import FollowerPart, Plan


class AcceptedWrite(NamedTuple):
    """A write that the authority has accepted: what was asked, what came of it, and the rows it touched.

    `overlapped` says that another write of the same rows was under way at the same time.
    """

    spec: ModelSpec
    plan: Plan
    operation: Operation
    result: Any
    keys: Sequence[Key]
    overlapped: bool


class Follower:
    """Queues what the follower has to do, and judges what came of it."""

    def __init__(self, sides: Sides, capture: Capture, queue: FollowQueue, deadline: float) -> None:
        self._sides = sides
        self._capture = capture
        self._queue = queue
        self._observer = sides.observer
        self._deadline = deadline

    def follow(self, write: AcceptedWrite) -> asyncio.Future[None] | None:
        """Queue the follower's part in a write.

        Returns:
            A future that is done when the follower's part is over, whatever came of it; None if it was dropped.
        """
        many = write.operation.action in MANY_WRITES
        asked = for_follower(write.spec, write.operation, write.result)

        async def run() -> None:
            await self._run(write, asked)

        job = FollowJob(
            write.spec.name,
            write.operation.action,
            run,
            keys=write.keys,
            parents=() if many else _parents(write.spec, asked),
            is_barrier=many,
            on_drop=lambda _reason: self._suspect(write),
            done=asyncio.get_running_loop().create_future(),
        )
        return job.done if self._queue.offer(job) else None

    async def _run(self, write: AcceptedWrite, operation: Operation) -> None:
        follower = write.plan.follower
        if not self._sides.breakers[follower].allows():
            self._observer.observe(FollowDropped(write.spec.name, write.operation.action, "breaker_open"))
            self._suspect(write)
            return
        asked: Operation | None = operation
        expected = write.result
        if write.plan.follower_part is FollowerPart.READ_BACK:
            asked, expected = _read_back(write)
        if asked is None:
            return
        try:
            actual = await self._sides.ask(follower, asked, Role.FOLLOWER, self._deadline)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the follower's and not a caller's
            skipped = isinstance(error, UnsupportedQueryError)
            self._report(write, Verdict.SKIPPED if skipped else Verdict.ERROR)
            self._suspect(write)
            return
        except BaseException:
            self._suspect(write)
            raise
        self._judge(write, asked, expected, actual)

    def _judge(self, write: AcceptedWrite, asked: Operation, expected: Any, actual: Any) -> None:
        comparison = compare(self._sides.schema, asked, expected, actual)
        if comparison.equal:
            self._report(write, Verdict.MATCHED)
        elif write.overlapped or self._capture.disturbed(write.spec.name, write.keys):
            # Two writes crossed, or an earlier one has not arrived yet, so two results may rightly differ. The rows
            # themselves are verified at rest.
            self._report(write, Verdict.IN_FLIGHT)
            self._suspect(write)
        else:
            # The verdict is passed once the rows have been read at rest, by the reconciler.
            self._capture.suspect(write.keys, monotonic(), blame=write.operation.action)

    def _suspect(self, write: AcceptedWrite) -> None:
        self._capture.suspect(write.keys, monotonic())

    def _report(self, write: AcceptedWrite, verdict: Verdict) -> None:
        self._observer.observe(WriteCompared(write.spec.name, write.operation.action, verdict, ()))


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
