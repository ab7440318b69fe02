"""Walks a model back by itself when it does not do well. The leader runs it, for every model that has begun.

Once a second it reads what the fleet sees and asks the judge (`crossfade.judge`). On a breach the model is walked back
one step, with its cohort if its authority moves, and is paused: it takes no step forward until a person resumes it.
What cannot be walked back now is tried again at each look, and takes no step forward meanwhile. The history says once
why it cannot.

A model that is paused is left alone: one step back is what was promised, and somebody is on the way. The guard keeps
nothing but its windows and what it has not achieved yet; a leader that comes new sees the same signs and does the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from crossfade.errors import StageMoveError
from crossfade.events import GuardTripped, Observer, ObserverFailed, StageHeld
from crossfade.judge import Breach, Judge, Seen
from crossfade.moving import GUARD
from crossfade.notices import TROUBLE, Notices, told
from crossfade.stages import Side, Stage, has_begun, has_moved, is_forward, moves_authority, next_step
from crossfade.steps import Steps
from crossfade.store import Store
from crossfade.store.lags import read_lags
from crossfade.store.record import Record
from crossfade.store.signals import Kind, Timing, read_kinds, read_timings
from crossfade.store.view import RecordView
from crossfade.store.waiting import within
from crossfade.thresholds import GuardThresholds

LOOK_SECONDS = 1.0
_ANSWER_SECONDS = 2.0
_AWAY_SECONDS = 10.0
"""How long a store that does not answer is not asked again: each question that is left behind holds a connection."""


class Witness(Protocol):
    """Whoever knows what the fleet sees."""

    async def look(self, entered: Mapping[str, int]) -> Seen:
        """Return the sums of these models, each since the epoch at which it came to its stage; and their lag.

        It must not take much longer than a look.

        Raises:
            CrossfadeError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError: nobody can say now.
        """


class FleetWitness:
    """What the processes have published to the legacy store, and the captured keys of every store that answers."""

    def __init__(self, stores: Mapping[Side, Store]) -> None:
        self._stores = stores
        self._asked_again_at = 0.0

    async def look(self, entered: Mapping[str, int]) -> Seen:
        """See `Witness.look`."""
        legacy = self._stores[Side.PRISMA]
        timings, kinds = await within(_ANSWER_SECONDS, self._sums(legacy, entered), legacy.where)
        if len(self._stores) == 1:
            return Seen(timings, kinds)
        lags = await within(_ANSWER_SECONDS, self._lags(legacy, entered), legacy.where)
        other = self._stores[Side.SQLALCHEMY]
        if self._asked_again_at <= monotonic():
            try:
                found = await within(_ANSWER_SECONDS / 2, self._lags(other, entered), other.where)
            except TROUBLE:  # what waits in the legacy store says enough meanwhile
                self._asked_again_at = monotonic() + _AWAY_SECONDS
            else:
                lags = {model: max(lag, found[model]) for model, lag in lags.items()}
        return Seen(timings, kinds, lags)

    @staticmethod
    async def _sums(store: Store, entered: Mapping[str, int]) -> tuple[list[Timing], list[Kind]]:
        async with store.transaction() as connection:
            timings = await read_timings(connection, store, entered)
            return timings, await read_kinds(connection, store, entered)

    @staticmethod
    async def _lags(store: Store, entered: Mapping[str, int]) -> dict[str, float]:
        async with store.transaction() as connection:
            return await read_lags(connection, store, entered)


@dataclass(slots=True)
class _Wanted:
    """A breach that a model has not been walked back for yet. `told` is what the history says about why not."""

    breach: Breach
    entered: int
    told: str = ""
    attempt: asyncio.Task[None] | None = None
    not_before: float = 0.0


class Guard:
    """Watches the models, and walks back those that do not do well.

    Args:
        witness: knows what the fleet sees.
        steps: takes the steps.
        view: what the record says.
        notices: writes into the history.
        observer: hears of breaches.
        thresholds: when a model is walked back.
        cohort: the models that the authority of a model moves with, itself included.
        interval: how often it looks, in seconds.
    """

    def __init__(
        self,
        witness: Witness,
        steps: Steps,
        view: RecordView,
        notices: Notices,
        observer: Observer,
        *,
        thresholds: Callable[[str], GuardThresholds],
        cohort: Callable[[str], Sequence[str]],
        interval: float = LOOK_SECONDS,
    ) -> None:
        self._witness = witness
        self._steps = steps
        self._view = view
        self._notices = notices
        self._observer = observer
        self._thresholds = thresholds
        self._cohort = cohort
        self._interval = interval
        self._wanted: dict[str, _Wanted] = {}

    def why_back(self, model: str) -> str:
        """Why the guard is about to walk `model` back; empty if it is not."""
        wanted = self._wanted.get(model)
        return f"the guard walks it back: {_reason(wanted.breach)}" if wanted else ""

    async def run(self) -> None:
        """Look, and act, until cancelled: for as long as this process leads."""
        judge = Judge()
        clock = asyncio.get_running_loop().time
        try:
            while True:
                began = clock()
                try:
                    await self._look(judge, clock)
                except TROUBLE:
                    pass  # the store that everything is read from is away; so is whoever could move anything
                except Exception as error:  # noqa: BLE001 - whatever it is, the watch goes on
                    self._observer.observe(ObserverFailed("guard", type(error).__name__))
                await asyncio.sleep(max(0.0, began + self._interval - clock()))
        finally:
            attempts = [wanted.attempt for wanted in self._wanted.values() if wanted.attempt is not None]
            self._wanted.clear()
            for attempt in attempts:
                attempt.cancel()
            await asyncio.gather(*attempts, return_exceptions=True)

    async def _look(self, judge: Judge, clock: Callable[[], float]) -> None:
        self._drop_done()
        entered = {
            model: record.entered for model, record in self._view.records.items() if _is_watched(record)
        }
        for model in self._steps.moving:
            entered.pop(model, None)
        if entered:
            seen = await self._witness.look(entered)
            for breach in judge.look(clock(), seen, entered, self._bounds):
                self._trip(breach, entered[breach.model], clock())
        for model, wanted in self._wanted.items():
            if (wanted.attempt is None or wanted.attempt.done()) and clock() >= wanted.not_before:
                wanted.attempt = asyncio.create_task(self._attempt(wanted), name=f"walk-back-{model}")

    def _bounds(self, model: str) -> GuardThresholds:
        """The bounds of a model; those that cannot be used are no reason not to look."""
        try:
            return self._thresholds(model)
        except Exception as error:  # noqa: BLE001 - they come from outside, and may be the user's code
            self._observer.observe(ObserverFailed("thresholds", type(error).__name__))
            return GuardThresholds()

    def _drop_done(self) -> None:
        """Forget what has been achieved, by whomever; a model that has moved since is judged anew."""
        for model, wanted in list(self._wanted.items()):
            record = self._view.record(model)
            if wanted.attempt is not None and not wanted.attempt.done():
                continue
            if record.entered != wanted.entered or not (_is_watched(record) or record.moving_to):
                del self._wanted[model]

    def _trip(self, breach: Breach, entered: int, now: float) -> None:
        record = self._view.record(breach.model)
        if breach.model in self._wanted or record.entered != entered or not _is_watched(record):
            return
        self._wanted[breach.model] = _Wanted(breach, entered)
        self._observer.observe(
            GuardTripped(breach.model, record.stage, breach.signal, _reason(breach), now - breach.since)
        )

    async def _attempt(self, wanted: _Wanted) -> None:
        model = wanted.breach.model
        record = self._view.record(model)
        step = next_step(record.stage, Stage.OFF)
        if step is None or record.entered != wanted.entered or not _is_watched(record):
            return
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            await self._walk_back(wanted.breach, record.stage, step)
        except TROUBLE as error:
            await self._say_why_not(wanted, record.stage, step, error)
        except Exception as error:  # noqa: BLE001 - it is tried again at the next look
            self._observer.observe(ObserverFailed("guard", type(error).__name__))
        # A hand-over that fails late has kept writers waiting; they are to get on with their work in between.
        wanted.not_before = clock() + 2 * (clock() - began)

    async def _walk_back(self, breach: Breach, current: Stage, step: Stage) -> None:
        model, reason = breach.model, _reason(breach)
        if not moves_authority(current, step):
            await self._steps.take([model], current, step, by=GUARD, reason=reason, pauses=True)
            return
        members = [name for name in self._cohort(model) if has_moved(self._view.record(name).stage)]
        if len(members) > 1:
            reason = f"{model}: {reason}"
        for name in members:  # whoever is ahead comes back first, so that they stand at one stage
            while is_forward(current, here := self._view.record(name).stage):
                back = next_step(here, current)
                assert back is not None
                if not await self._steps.take([name], here, back, by=GUARD, reason=reason, pauses=True):
                    return  # somebody else moves it just now
        await self._steps.take(members, current, step, by=GUARD, reason=reason, pauses=True)

    async def _say_why_not(self, wanted: _Wanted, current: Stage, step: Stage, error: Exception) -> None:
        """Tell once why a model cannot be walked back; and once more when nothing but force will do."""
        model = wanted.breach.model
        why = error.reason if isinstance(error, StageMoveError) else told(error)
        is_lost = moves_authority(current, step) and Side.SQLALCHEMY not in self._view.answering()
        kind = "lost" if is_lost else "held"
        if kind == wanted.told:
            return
        wanted.told = kind
        text = f"the guard wants it back ({_reason(wanted.breach)}), and that is not possible now: {why}"
        if is_lost:
            text += (
                "; it is tried again until the new store answers. If it is lost, run"
                f" `crossfade rollback {model} --force`"
            )
        self._observer.observe(StageHeld(model, current, step, text))
        await self._notices.note(model, f"held before {step}: {text}", by=GUARD)


def _is_watched(record: Record) -> bool:
    return (
        has_begun(record.stage)
        and record.moving_to is None
        and not (record.paused or record.final or record.forced)
    )


def _reason(breach: Breach) -> str:
    return f"{breach.signal}: {breach.reason}"
