"""Moving models from stage to stage in the record of both stores, and putting right what a dead mover has left.

A step that moves the authority is a hand-over (`crossfade.handover`). Any other step is two guarded writes of the
record, the legacy store's first. Where both sides share one store, every step is one write of the record.

What a mover that died has left is told from the two records alone, the one with the higher epoch being in force:

* They differ and the one in force says of no move: the other store is brought level with it, fence and all. So it is
  after a decision that was not passed on, an undoing that stopped half-way, or a step whose second write is missing.
* The one in force says of a move: it was not decided, and is undone, on the new side first. If the dead mover lives
  after all, its `open` then finds another epoch than it expects.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import asyncpg

from crossfade.errors import CrossfadeError, InstallError, StageMoveError, StoreUnavailableError
from crossfade.events import ModelResumed, Observer, StageMoved
from crossfade.handover import (
    CRASH_POINTS,
    Carrier,
    CrashPoint,
    Handover,
    MoveSettings,
    NotCarriedError,
    Step,
)
from crossfade.schema import Schema
from crossfade.stages import MOVES, Side, Stage, has_begun, has_moved, is_forward, moves_authority
from crossfade.store.line import CommitUnknownError, Line, bring_fence
from crossfade.store.record import Record, SupersededError, advance, effective, guard, keep, read_records
from crossfade.store.store import Store
from crossfade.store.tables import Connection

__all__ = [
    "CRASH_POINTS",
    "GUARD",
    "CrashPoint",
    "MoveSettings",
    "Mover",
    "NothingToCarry",
    "Step",
    "why_paused",
]

T = TypeVar("T")

RECOVERY = "recovery"
"""Who puts a half-done move right, for the history."""


GUARD = "guard"
"""Who walks a model back that does not do well, for the history."""

_PATIENCE = 1.0
"""Seconds that are waited for a store that a step can do without: it may be why the step is taken."""


async def _nothing(_: CrashPoint) -> None:
    pass


class NothingToCarry:
    """Where both sides share a store, no row is ever to be carried over."""

    async def catch_up(self, _models: Sequence[str], _deadline: float) -> bool:
        """There is nothing left."""
        return True

    async def drain(self, _models: Sequence[str], _deadline: float) -> bool:
        """There is nothing left."""
        return True

    async def drain_within(self, _connection: Connection, _side: Side, _models: Sequence[str]) -> None:
        """There is nothing to do."""


class Mover:
    """Moves models. It keeps nothing between two moves: everything is in the stores.

    Args:
        stores: the store of each side; they need not be open.
        reconciler: who carries over what is captured.
        schema: the models.
        observer: who hears what has moved.
        settings: how long things may take.
        at: awaited at each crash point, for tests and drills.
    """

    def __init__(
        self,
        stores: Mapping[Side, Store],
        reconciler: Carrier,
        schema: Schema,
        observer: Observer,
        settings: MoveSettings | None = None,
        *,
        at: Callable[[CrashPoint], Awaitable[None]] = _nothing,
    ) -> None:
        self.stores = stores
        self.schema = schema
        self.settings = settings or MoveSettings()
        self._reconciler = reconciler
        self.observer = observer
        self._at = at

    @asynccontextmanager
    async def lines(self) -> AsyncIterator[dict[Side, Line]]:
        """A line to each store, for the time of the block."""
        lines = {
            side: Line(store, lock_timeout=self.settings.lock_timeout) for side, store in self.stores.items()
        }
        try:
            yield lines
        finally:
            for line in lines.values():
                line.cut()

    async def read(
        self, line: Line, models: Sequence[str] | None = None, *, deadline: float | None = None
    ) -> dict[str, Record]:
        """Read the records of one store, within `deadline` seconds, or as the settings say.

        Raises:
            StoreUnavailableError: it does not answer.
        """
        return await line.transact(
            lambda connection: read_records(connection, line.store, models),
            deadline=self.settings.answer_deadline if deadline is None else deadline,
        )

    async def note(self, record: Record) -> None:
        """Add a line to the history of the legacy store; the record stays as it is.

        Raises:
            StoreUnavailableError: it does not answer.
        """
        async with self.lines() as lines:
            line = lines[Side.PRISMA]
            await line.transact(
                lambda connection: keep(connection, line.store, [record]),
                deadline=self.settings.answer_deadline,
            )

    # --- one step ------------------------------------------------------------------------------------------------

    async def move(
        self,
        models: Sequence[str],
        stage: Stage,
        *,
        by: str,
        reason: str = "requested",
        pauses: bool = False,
        gates: Mapping[str, str] | None = None,
    ) -> float:
        """Move `models` one step, to `stage`, together, and return how long their writers waited, in seconds.

        With `pauses` they take no step forward afterwards until they are resumed: they leave a store that is not well,
        so everything may take longer. `gates` go into the history.

        Raises:
            StageMoveError: it is not possible now; the reason says why. Nothing has moved, unless the reason says that
                this is not known yet.
            InstallError: the stores have not been prepared.
        """
        names = tuple(sorted(models))
        async with self.lines() as lines:
            records = await self._movable(lines, names, stage)
            before = records[0].stage
            if moves_authority(before, stage) and len(lines) > 1:
                told = [replace(record, gates=gates or {}) for record in records]
                handover = Handover(
                    told,
                    stage,
                    lines,
                    self._reconciler,
                    self.settings.patient() if pauses else self.settings,
                    self._at,
                    by=by,
                    reason=reason,
                    pauses=pauses,
                )
                await self._hand_over(handover)
                pause = handover.pause
            else:
                await self._step(lines, records, stage, by=by, reason=reason, pauses=pauses, gates=gates)
                pause = 0.0
        for model in names:
            self.observer.observe(StageMoved(model, before, stage, pause, by, reason))
        return pause

    async def _movable(self, lines: Mapping[Side, Line], models: Sequence[str], stage: Stage) -> list[Record]:
        """Return the records of `models` if they may be moved to `stage`."""
        for model in models:
            self.schema.model(model)
        answers: dict[Side, dict[str, Record]] = {}
        away: StoreUnavailableError | None = None
        for side, line in lines.items():
            told = answers.get(Side.PRISMA, {}).values()
            is_dispensable = bool(told) and all(_needs_legacy_only(record.stage, stage) for record in told)
            deadline = min(_PATIENCE, self.settings.answer_deadline) if is_dispensable else None
            try:
                answers[side] = await self.read(line, models, deadline=deadline)
            except StoreUnavailableError as error:
                away = error
        known = effective(*answers.values())
        current = next(iter(known.values())).stage if known else Stage.OFF
        if Side.PRISMA not in answers or (
            len(answers) < len(lines) and not _needs_legacy_only(current, stage)
        ):
            raise StageMoveError(models[0], current, stage, f"a store does not answer ({away})")
        for side, answer in answers.items():
            missing = sorted(set(models) - answer.keys())
            if missing:
                await self.stores[side].check_installed()
                raise InstallError(
                    self.stores[side].where,
                    f"it has no record of {', '.join(missing)}; run `crossfade install`",
                )
            if not has_begun(current):
                await self.stores[side].check_installed()
        for model in models:
            self._check(known[model], [answer[model] for answer in answers.values()], current, stage)
        return [known[model] for model in models]

    @staticmethod
    def _check(record: Record, answers: Sequence[Record], current: Stage, stage: Stage) -> None:
        why = None
        if record.final:
            why = "it is final: `crossfade finalize` has removed what a move needs"
        elif record.forced:
            why = "it was forced back, and what was lost is not listed yet: run `crossfade rollback --force` again"
        elif record.moving_to or any(answer.epoch != record.epoch for answer in answers):
            why = "an earlier move of it is not settled yet"
        elif record.stage is not current:
            why = f"the models that move with it are not at one stage ({record.model} is at {record.stage})"
        elif (current, stage) not in MOVES:
            why = "a model moves one step at a time"
        elif record.paused and is_forward(current, stage):
            why = why_paused(record)
        if why is not None:
            raise StageMoveError(record.model, record.stage, stage, why)

    async def _step(
        self,
        lines: Mapping[Side, Line],
        records: Sequence[Record],
        stage: Stage,
        *,
        by: str,
        reason: str,
        pauses: bool,
        gates: Mapping[str, str] | None,
    ) -> None:
        """Write a step that leaves the authority where it is. With the first write it has been taken."""
        moved = [
            replace(
                record,
                stage=stage,
                epoch=record.epoch + 1,
                entered=record.epoch + 1,
                by=by,
                reason=reason,
                paused=record.paused or pauses,
                gates=gates or {},
            )
            for record in records
        ]
        await self._write(lines, records, moved)

    async def _write(
        self, lines: Mapping[Side, Line], records: Sequence[Record], changed: Sequence[Record]
    ) -> None:
        """Write records that leave the authority where it is, the legacy store's first: with that it is done."""
        expected = {record.model: record.epoch for record in records}

        async def write(line: Line) -> None:
            await line.transact(
                lambda connection: advance(connection, line.store, changed, expected=expected),
                deadline=self.settings.answer_deadline,
            )

        try:
            await write(lines[Side.PRISMA])
        except (CrossfadeError, asyncpg.PostgresError) as error:
            first = records[0]
            raise StageMoveError(first.model, first.stage, changed[0].stage, _told(error)) from error
        for side, line in lines.items():
            if side is not Side.PRISMA:
                try:
                    await write(line)
                except (CrossfadeError, asyncpg.PostgresError):
                    return  # it is done; this store is brought level when it answers

    async def resume(self, models: Sequence[str], *, by: str, reason: str) -> list[str]:
        """Let models that the guard has walked back go forward again; return those that were paused.

        Raises:
            StageMoveError: the record cannot be written now, or a move is under way. Nothing was changed.
        """
        async with self.lines() as lines:
            answers = [await self.read(line, models) for line in lines.values()]
            paused = [record for record in effective(*answers).values() if record.paused]
            for record in paused:
                if record.moving_to or any(answer[record.model].epoch != record.epoch for answer in answers):
                    why = "a move of it is not settled yet; try again in a moment"
                    raise StageMoveError(record.model, record.stage, record.stage, why)
            if paused:
                resumed = [
                    replace(
                        record,
                        paused=False,
                        epoch=record.epoch + 1,
                        entered=record.epoch + 1,
                        by=by,
                        reason=f"resumed: {reason}",
                    )
                    for record in paused
                ]
                await self._write(lines, paused, resumed)
        for record in paused:
            self.observer.observe(ModelResumed(record.model, by, reason))
        return [record.model for record in paused]

    # --- a step that moves the authority -------------------------------------------------------------------------

    async def _hand_over(self, handover: Handover) -> None:
        try:
            await handover.prepare()
        except (Exception, asyncio.CancelledError) as error:
            await _to_the_end(self._give_up(handover, error))
            raise  # a cancellation; anything else has been raised in its own words
        # From here on nobody may stop it: a commit that is cancelled leaves everybody in the dark.
        await _to_the_end(self._finish(handover))

    async def _finish(self, handover: Handover) -> None:
        try:
            try:
                await handover.open()
            except CommitUnknownError as unknown:
                await self._ask(handover, unknown)
        except Exception as error:  # noqa: BLE001 - whatever it is, writers are waiting
            if not handover.is_decided:
                await self._give_up(handover, error)
        try:
            await handover.close()
        except (CrossfadeError, asyncpg.PostgresError):
            return  # it is decided; whoever leads brings this store level when it answers

    async def _ask(self, handover: Handover, unknown: CommitUnknownError) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.answer_deadline
        while True:
            try:
                await handover.ask()
            except (StoreUnavailableError, CommitUnknownError):
                if loop.time() >= until:
                    raise unknown from None
            else:
                if not handover.is_decided:
                    raise NotCarriedError("the connection was lost while it was being decided") from unknown
                return
            await asyncio.sleep(self.settings.lock_timeout)

    async def _give_up(self, handover: Handover, error: BaseException) -> None:
        """Undo a move that is not decided, and say why in the words of a refusal."""
        why = _told(error)
        if isinstance(error, CommitUnknownError):
            why += "; nobody knows whether it has moved, and writers wait until that store answers"
        elif not isinstance(error, SupersededError):
            try:
                await handover.undo(why)
            except SupersededError:
                pass  # whoever has overtaken this mover has put it right
            except (CrossfadeError, asyncpg.PostgresError) as second:
                why += f"; it could not be undone yet ({_told(second)})"
        if not isinstance(error, asyncio.CancelledError):
            raise StageMoveError(handover.models[0], handover.before, handover.after, why) from error

    # --- what a dead mover has left ------------------------------------------------------------------------------

    async def recover(self, skip: Callable[[], Collection[str]] = frozenset) -> list[str]:
        """Complete or undo every step that was left half-way; return the models that were put right.

        A model whose other store does not answer is left as it is: nobody can know what is written there. `skip` names
        the models that this process is moving itself, when it is asked.
        """
        settled: list[str] = []
        async with self.lines() as lines:
            answers: dict[Side, dict[str, Record]] = {}
            for side, line in lines.items():
                try:
                    answers[side] = await self.read(line)
                except StoreUnavailableError:
                    return settled
            own = frozenset(skip())  # asked now: a move that has begun since the reading is not to be undone
            everywhere = set.intersection(*(set(answer) for answer in answers.values()))
            for model in sorted(everywhere - own):
                found = {side: answer[model] for side, answer in answers.items()}
                if await self._settle(lines, found):
                    settled.append(model)
        return settled

    async def _settle(self, lines: Mapping[Side, Line], found: Mapping[Side, Record]) -> bool:
        standing = max(found.values(), key=lambda record: record.epoch)
        if standing.moving_to is None and all(record.epoch == standing.epoch for record in found.values()):
            return False
        try:
            if standing.moving_to is not None:
                new = standing.authority.other
                standing = replace(
                    standing,
                    moving_to=None,
                    epoch=standing.epoch + 1,
                    by=RECOVERY,
                    reason="undone: whoever moved it is gone",
                )
                await self.level(lines[new], standing, found[new].epoch)
                await self.level(lines[new.other], standing, found[new.other].epoch)
            else:
                for side, record in found.items():
                    if record.epoch < standing.epoch:
                        await self.level(lines[side], standing, record.epoch)
        except (CrossfadeError, asyncpg.PostgresError):
            return False  # somebody else has been quicker, or the store is away again; the next look tells
        return True

    async def level(self, line: Line, standing: Record, expected: int) -> None:
        """Bring one store's record and fence to what `standing` says, if the record has the epoch `expected`."""

        async def work(connection: Connection) -> None:
            await guard(connection, line.store, {standing.model: expected})
            if not standing.final:
                tables = line.store.tables.of([standing.model])
                fence = standing.fence(line.store.side)
                await bring_fence(connection, tables, fence, self.settings.lock_timeout)
            await advance(connection, line.store, [standing], expected={standing.model: expected})

        await line.transact(work, deadline=self.settings.freeze_deadline)


def _needs_legacy_only(current: Stage, wanted: Stage) -> bool:
    """Whether a step back can be taken while the target is away: it has nothing that is still needed."""
    return not is_forward(current, wanted) and not moves_authority(current, wanted) and not has_moved(current)


def why_paused(record: Record) -> str:
    """Why a model that was walked back takes no step forward, and what a person is to do."""
    told = f": {record.reason}" if record.by == GUARD else ""
    return f"the guard walked it back{told}; look into it, then run `crossfade resume {record.model}`"


def _told(error: BaseException) -> str:
    """An error as the reason of a refusal, without a row's values."""
    match error:
        case SupersededError():
            return "another process has taken over its move"
        case StoreUnavailableError():
            return f"a side does not answer ({error})"
        case CommitUnknownError() | NotCarriedError():
            return str(error)
        case CrossfadeError():
            return str(error)
        case asyncpg.PostgresError():
            return f"a store refused it ({type(error).__name__}, {error.sqlstate})"
        case asyncio.CancelledError():
            return "the process that moved it is ending"
        case _:
            return type(error).__name__


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Do `work` to its end even if the caller is cancelled meanwhile; the cancellation then follows."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
