"""One hand-over of the write authority, step by step: from the *old* side to the *new* one, forward or back alike.

Rules:

* Whatever it writes into a store is guarded by the epoch that the store's record has: first the record is held, then
  tables are locked, then triggers are switched and the record is written, in one transaction. So a mover that was
  frozen and has been overtaken can do no harm when it wakes.
* The hand-over is decided by one COMMIT, that of `open` on the new side. Before it everything can be undone; after it
  the old side only has to learn of it.
* Between `freeze` and `open` neither store takes authors. That is the pause of the writers.
* All tables of a cohort change in one transaction per store, in one order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from time import perf_counter
from typing import Any, Protocol

import asyncpg

from crossfade.errors import CrossfadeError, UnsettledError
from crossfade.stages import Side, Stage
from crossfade.store.line import Line, bring_fence, lock_tables
from crossfade.store.objects import Fence, set_fence
from crossfade.store.record import Record, SupersededError, advance, guard, read_records
from crossfade.store.sequences import raise_numberings, read_numberings
from crossfade.store.tables import Connection, StoredTable


class Step(StrEnum):
    """The steps of a hand-over, in order."""

    ANNOUNCE = "announce"
    """Both records say where the model is moving to."""
    CATCH_UP = "catch_up"
    """What is captured is carried over, while writers go on, until little is left."""
    FREEZE = "freeze"
    """The old side refuses authors: from here on nobody takes them."""
    DRAIN = "drain"
    """The rest of what is captured is carried over."""
    SEQUENCES = "sequences"
    """The new side's sequences are raised above the old side's."""
    OPEN = "open"
    """The new side takes authors and says so: the decision."""
    CLOSE = "close"
    """The old side learns of it and takes followers."""


class CrashPoint(StrEnum):
    """The places at which a mover may die, in the order in which it passes them.

    A point that is named like a step lies after that step's commit; one that ends in `.begun` lies before it (or, where
    the step writes to both stores, between the two).
    """

    ANNOUNCE_BEGUN = "announce.begun"
    ANNOUNCE = "announce"
    CATCH_UP = "catch_up"
    FREEZE_BEGUN = "freeze.begun"
    FREEZE = "freeze"
    DRAIN = "drain"
    SEQUENCES = "sequences"
    OPEN_BEGUN = "open.begun"
    OPEN = "open"
    CLOSE_BEGUN = "close.begun"
    CLOSE = "close"

    @property
    def step(self) -> Step:
        """The step that the point belongs to."""
        return Step(self.partition(".")[0])


CRASH_POINTS: tuple[CrashPoint, ...] = tuple(CrashPoint)


class Carrier(Protocol):
    """What a hand-over needs of the reconciler."""

    def catch_up(self, models: Sequence[str], deadline: float) -> Coroutine[Any, Any, bool]:
        """Carry over what is captured of `models`, until little is left; False when it takes too long."""

    def drain(self, models: Sequence[str], deadline: float) -> Coroutine[Any, Any, bool]:
        """Carry over everything that is captured of `models`; False when it takes too long."""

    def drain_within(
        self, connection: Connection, side: Side, models: Sequence[str]
    ) -> Coroutine[Any, Any, object]:
        """Do the same on `connection`, a follower's transaction on the store of `side`; False when it cannot."""


@dataclass(frozen=True, slots=True)
class MoveSettings:
    """How long a move may take, in seconds.

    `catch_up_deadline` is for carrying over while writers go on, `freeze_deadline` for all attempts to stop them,
    `pause_deadline` for everything while they wait. A single attempt keeps them waiting for `lock_timeout` at most.
    `answer_deadline` is what a store may take to answer beside that.
    """

    catch_up_deadline: float = 10.0
    freeze_deadline: float = 10.0
    pause_deadline: float = 2.0
    lock_timeout: float = 0.15
    answer_deadline: float = 5.0

    def patient(self) -> MoveSettings:
        """The same for a store that is slow: better that writers wait once than that they stay with it."""
        return replace(self, pause_deadline=4 * self.pause_deadline, answer_deadline=2 * self.answer_deadline)


_SLACK = 0.1
"""Seconds that the reconciler may take beyond its deadline to say that it is over."""


class NotCarriedError(CrossfadeError):
    """What was captured could not be carried over in time; the message is a reason."""


class Handover:
    """The hand-over of one cohort. `records` are the records in force before it, the same in both stores."""

    def __init__(
        self,
        records: Sequence[Record],
        after: Stage,
        lines: Mapping[Side, Line],
        carrier: Carrier,
        settings: MoveSettings,
        at: Callable[[CrashPoint], Awaitable[None]],
        *,
        by: str,
        reason: str,
        pauses: bool = False,
    ) -> None:
        self.records = {record.model: record for record in records}
        self.models = tuple(self.records)
        self.before, self.after = records[0].stage, after
        old = records[0].authority
        self.old, self.new = lines[old], lines[old.other]
        self.by, self.reason = by, reason
        self._pauses = pauses
        self.pause = 0.0
        self.is_decided = False
        self._carrier = carrier
        self._settings = settings
        self._at = at
        self._frozen_at = 0.0
        self._carried = [table.model for table in self._tables(self.old)]

    def _tables(self, line: Line) -> list[StoredTable]:
        return line.store.tables.of(self.models)

    def _epochs(self, raised: int) -> dict[str, int]:
        return {model: record.epoch + raised for model, record in self.records.items()}

    def _announced(self) -> list[Record]:
        return [
            replace(record, moving_to=self.after, epoch=record.epoch + 1, by=self.by, reason=self.reason)
            for record in self.records.values()
        ]

    def _moved(self) -> list[Record]:
        return [
            replace(
                record,
                stage=self.after,
                moving_to=None,
                epoch=record.epoch + 1,
                entered=record.epoch + 1,
                paused=record.paused or self._pauses,
            )
            for record in self._announced()
        ]

    def _undone(self, why: str) -> list[Record]:
        return [
            replace(record, moving_to=None, epoch=record.epoch + 1, reason=f"undone: {why}")
            for record in self._announced()
        ]

    async def prepare(self) -> None:
        """Everything before the decision: announce, catch up, freeze, drain, raise the sequences."""
        await self._announce()
        await self._catch_up()
        await self.new.connect()  # while writers still go on
        await self._freeze()
        await self._drain()
        await self._sequences()

    async def _announce(self) -> None:
        async def work(connection: Connection, line: Line) -> None:
            await advance(connection, line.store, self._announced(), expected=self._epochs(0))

        await self.old.transact(
            lambda connection: work(connection, self.old), deadline=self._settings.answer_deadline
        )
        await self._at(CrashPoint.ANNOUNCE_BEGUN)
        await self.new.transact(
            lambda connection: work(connection, self.new), deadline=self._settings.answer_deadline
        )
        await self._at(CrashPoint.ANNOUNCE)

    async def _catch_up(self) -> None:
        seconds = self._settings.catch_up_deadline
        if not await _bounded(self._carrier.catch_up(self._carried, seconds), seconds + _SLACK):
            raise NotCarriedError("its follower has not caught up; is that store well?")
        await self._at(CrashPoint.CATCH_UP)

    async def _freeze(self) -> None:
        async def work(connection: Connection) -> None:
            await guard(connection, self.old.store, self._epochs(1))
            began = perf_counter()
            tables = self._tables(self.old)
            await lock_tables(connection, tables, self._settings.lock_timeout)
            for table in tables:
                await connection.execute("; ".join(set_fence(table, Fence.FROZEN)))
            self._frozen_at = began
            await self._at(CrashPoint.FREEZE_BEGUN)

        await self.old.transact(work, deadline=self._settings.freeze_deadline)
        await self._at(CrashPoint.FREEZE)

    def _left(self) -> float:
        return self._settings.pause_deadline - (perf_counter() - self._frozen_at)

    async def _drain(self) -> None:
        seconds = max(self._left(), 0.0)
        if not await _bounded(self._carrier.drain(self._carried, seconds), seconds + _SLACK):
            raise NotCarriedError(self._not_drained())
        await self._at(CrashPoint.DRAIN)

    def _not_drained(self) -> str:
        return f"it could not be drained within {self._settings.pause_deadline:g} s, while its writers waited"

    async def _sequences(self) -> None:
        reached = await self.old.transact(
            lambda connection: read_numberings(connection, self._tables(self.old)),
            deadline=max(self._left(), 0.0),
        )

        async def work(connection: Connection) -> None:
            if reached:
                # Under the guard, because a sequence that authors use already must not be set.
                await guard(connection, self.new.store, self._epochs(1))
                await raise_numberings(connection, self._tables(self.new), reached)

        await self.new.transact(work, deadline=max(self._left(), 0.0))
        await self._at(CrashPoint.SEQUENCES)

    async def open(self) -> None:
        """Give the authority to the new side; `is_decided` says so from then on.

        Raises:
            CommitUnknownError: nobody knows yet whether that took place; `ask` finds out.
        """

        async def work(connection: Connection) -> None:
            await guard(connection, self.new.store, self._epochs(1))
            tables = self._tables(self.new)
            # Follower writes that are in flight end before this has its locks; later ones meet the new fence.
            await lock_tables(connection, tables, self._settings.lock_timeout)
            rest = self._carrier.drain_within(connection, self.new.store.side, self._carried)
            if not await _bounded(rest, max(self._left(), 0.0) + _SLACK):
                raise NotCarriedError(self._not_drained())
            for table in tables:
                await connection.execute("; ".join(set_fence(table, Fence.AUTHORITY)))
            pause = perf_counter() - self._frozen_at
            await advance(connection, self.new.store, self._moved(), expected=self._epochs(1), pause=pause)
            await self._at(CrashPoint.OPEN_BEGUN)

        while True:
            try:
                await self.new.transact(work, deadline=max(self._left(), 0.0), follower=True)
                break
            except UnsettledError:  # another process may have had a row in hand
                if self._left() < self._settings.lock_timeout:
                    raise
                await asyncio.sleep(_SLACK / 4)
        self.pause = perf_counter() - self._frozen_at
        self.is_decided = True
        await self._at(CrashPoint.OPEN)

    async def ask(self) -> None:
        """Find out what became of a decision whose COMMIT was not answered, and make sure that it stays so.

        Raises:
            SupersededError: another leader has settled the matter differently.
            StoreUnavailableError: the new side does not answer; nothing may be undone.
        """

        async def work(connection: Connection) -> bool:
            # This waits for the transaction whose outcome is not known, if the server still has it.
            found = await read_records(connection, self.new.store, self.models, lock=True)
            if _epochs(found) != self._epochs(1):
                if any(record.stage is not self.after for record in found.values()):
                    raise SupersededError("another leader has undone the move")
                return True
            undone = self._undone("its commit failed")
            await advance(connection, self.new.store, undone, expected=self._epochs(1))
            return False

        self.is_decided = await self.new.transact(work, deadline=self._settings.answer_deadline)
        self.pause = perf_counter() - self._frozen_at

    async def close(self) -> None:
        """Tell the old side, and let it take followers."""

        async def work(connection: Connection) -> None:
            await guard(connection, self.old.store, self._epochs(1))
            await bring_fence(connection, self._tables(self.old), Fence.FOLLOWER, self._settings.lock_timeout)
            await advance(
                connection, self.old.store, self._moved(), expected=self._epochs(1), pause=self.pause
            )
            await self._at(CrashPoint.CLOSE_BEGUN)

        await self.old.transact(work, deadline=self._settings.answer_deadline)
        await self._at(CrashPoint.CLOSE)

    async def undo(self, why: str) -> None:
        """Let the old side take authors again. Only for who knows that the move is not decided: its own mover.

        The old side comes first, for its writers wait. Another leader, who cannot know, begins with the new side.
        """
        undone = self._undone(why)

        async def release(connection: Connection) -> bool:
            found = await read_records(connection, self.old.store, self.models, lock=True)
            if _epochs(found) == self._epochs(0):
                return False  # it was not even announced
            if _epochs(found) != self._epochs(2):
                await bring_fence(
                    connection, self._tables(self.old), Fence.AUTHORITY, self._settings.lock_timeout
                )
                await advance(connection, self.old.store, undone, expected=self._epochs(1))
            return True

        async def level(connection: Connection) -> None:
            found = await read_records(connection, self.new.store, self.models, lock=True)
            if _epochs(found) != self._epochs(2):
                half = _epochs(found) == self._epochs(0)
                await advance(connection, self.new.store, undone, expected=self._epochs(0 if half else 1))

        if await self.old.transact(release, deadline=self._settings.answer_deadline):
            with suppress(CrossfadeError, asyncpg.PostgresError):  # it is brought level when it answers
                await self.new.transact(level, deadline=self._settings.answer_deadline)


def _epochs(records: Mapping[str, Record]) -> dict[str, int]:
    return {model: record.epoch for model, record in records.items()}


_abandoned: set[asyncio.Task[object]] = set()


async def _bounded(work: Coroutine[Any, Any, object], seconds: float) -> bool:
    """Do `work`; False when it says so or takes longer. A store that hangs may keep it from ending even then."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            _abandoned.add(task)
            task.add_done_callback(_forget)
    return bool(done) and task.result() is not False


def _forget(task: asyncio.Task[object]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()
