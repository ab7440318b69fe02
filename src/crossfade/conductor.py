"""Walks every model towards the stage that its flag asks for, one step at a time.

A request is a wish; the record says where a model stands. Any number of processes may have a conductor. One of them
leads, the holder of a lock in the legacy store; the others watch, and one takes over when it is gone.

The leader first puts right what its predecessor has left half-way. Then every cohort has a walker of its own, which
takes the next step when the planner permits it and the mover can; otherwise the models stay where they are, the reason
is reported once and kept in the history, and the step is tried again later. A model without a cohort is one by itself.
Steps that leave the authority where it is are taken side by side; authorities change hands one cohort at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Self

import asyncpg

from crossfade.errors import CrossfadeError, StageMoveError
from crossfade.events import Observer, StageHeld, StageRequested
from crossfade.gates import Gates, NoGates
from crossfade.moving import Mover
from crossfade.planner import Planner
from crossfade.stages import Side, Stage, moves_authority, next_step
from crossfade.store import Store
from crossfade.store.leadership import Leadership
from crossfade.store.record import Record
from crossfade.store.view import RecordView

_ELECTION_SECONDS = 0.5
_LONGEST_WAIT = 5.0
"""A hand-over that fails again and again keeps writers waiting each time, so it is tried ever more rarely; and so is a
step before which gates are shut."""


_TROUBLE: tuple[type[Exception], ...] = (
    CrossfadeError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
)


def _told(error: Exception) -> str:
    """An error in words that hold no row's values."""
    return str(error) if isinstance(error, CrossfadeError) else f"a store failed ({type(error).__name__})"


@dataclass(slots=True)
class _Cohort:
    """Models that change authority together, with what is asked of each and by whom."""

    name: str
    requests: dict[str, tuple[Stage, str]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0


class Conductor:
    """Moves the models of one migration, while this process leads.

    Args:
        mover: takes the steps.
        view: what the record says.
        planner: which steps the relations permit.
        observer: hears of requests, and of steps that are held.
        stores: the legacy store decides who leads.
        gates: what must hold before a step forward; nothing by default.
        interval: how often a held step is tried again, in seconds.
        lead: whether this process may lead at all.
    """

    def __init__(
        self,
        mover: Mover,
        view: RecordView,
        planner: Planner,
        observer: Observer,
        stores: Mapping[Side, Store],
        *,
        gates: Gates | None = None,
        interval: float = 0.2,
        lead: bool = True,
    ) -> None:
        self._mover = mover
        self._view = view
        self._planner = planner
        self._gates: Gates = gates or NoGates()
        self._observer = observer
        self._store = stores[Side.PRISMA]
        self._leadership = Leadership(self._store)
        self._interval = interval
        self._may_lead = lead
        self._leads = False
        self._cohorts: dict[str, _Cohort] = {}
        self._held: dict[str, str] = {}
        self._moving: dict[str, Stage] = {}
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._walkers: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        self._view.on_change(self._heard)
        if self._may_lead:
            self._task = asyncio.create_task(self._conduct(), name="conductor")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._stop_walking()
        await self._leadership.give_up()

    @property
    def leads(self) -> bool:
        """Whether this process is the leader."""
        return self._leads

    def request(self, model: str, stage: Stage, *, by: str, cohort: str | None = None) -> None:
        """Ask for `model` to stand at `stage`, in the end; `cohort` names the models that its authority moves with."""
        name = f"cohort {cohort}" if cohort else model
        for other in list(self._cohorts.values()):
            if other.name != name and model in other.requests:
                del other.requests[model]
                other.changed.set()
        place = self._cohorts.setdefault(name, _Cohort(name))
        known = place.requests.get(model)
        if known is not None and known[0] is stage:
            return
        self._observer.observe(StageRequested(model, stage, by))
        place.requests[model] = stage, by
        place.failures = 0
        self._held.pop(model, None)
        place.changed.set()
        if self._leads:
            self._start_walking()

    def held(self) -> Mapping[str, str]:
        """Return why each model that stands before its request cannot move on, as far as this process leads."""
        return dict(self._held)

    def _heard(self, record: Record) -> None:
        for cohort in self._cohorts.values():
            if record.model in cohort.requests:
                cohort.changed.set()

    # --- leading -------------------------------------------------------------------------------------------------

    async def _conduct(self) -> None:
        while True:
            leads = await self._leadership.take()
            if leads and not self._leads:
                await self._recover()
                self._leads = True
                self._start_walking()
            elif self._leads and not leads:
                self._leads = False
                await self._stop_walking()
            elif leads and self._view.unsettled() - self._moving.keys():
                await self._recover()
            await asyncio.sleep(self._interval if self._leads else _ELECTION_SECONDS)

    async def _recover(self) -> None:
        with suppress(*_TROUBLE):  # it is tried again as long as something is left half-way
            await self._mover.recover(skip=lambda: self._moving)
        await self._view.refresh()

    def _start_walking(self) -> None:
        for name, cohort in self._cohorts.items():
            if name not in self._walkers:
                self._walkers[name] = asyncio.create_task(self._walk(cohort), name=f"walk-{name}")

    async def _stop_walking(self) -> None:
        walkers, self._walkers = self._walkers, {}
        for walker in walkers.values():
            walker.cancel()
        await asyncio.gather(*walkers.values(), return_exceptions=True)
        self._held.clear()

    # --- walking -------------------------------------------------------------------------------------------------

    async def _walk(self, cohort: _Cohort) -> None:
        while True:
            cohort.changed.clear()
            if await self._step(cohort):
                continue
            waits = any(
                self._view.record(model).stage is not stage for model, (stage, _) in cohort.requests.items()
            )
            pause = min(self._interval * 2 ** min(cohort.failures, 10), _LONGEST_WAIT) if waits else None
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await cohort.changed.wait()
                    # What changes while a hand-over is being tried in vain is mostly its own doing.
                    if cohort.failures and pause:
                        await asyncio.sleep(pause)

    async def _step(self, cohort: _Cohort) -> bool:
        """Take every next step that is possible now; whether there was one."""
        together: dict[str, Stage] = {}
        taken = False
        for model, (stage, by) in list(cohort.requests.items()):
            current = self._view.record(model).stage
            step = next_step(current, stage)
            if step is None:
                self._held.pop(model, None)
            elif moves_authority(current, step):
                together[model] = step
            else:
                taken = await self._take(cohort, [model], step, by) or taken
        if together and not taken:
            model = next(iter(together))
            step, by = together[model], cohort.requests[model][1]
            why = self._apart(cohort, step)
            if why:
                for waiting, wanted in together.items():
                    await self._hold(waiting, wanted, why)
                return False
            async with self._one_at_a_time:
                taken = await self._take(cohort, list(cohort.requests), step, by)
        return taken

    def _apart(self, cohort: _Cohort, step: Stage) -> str:
        """Why the models of a cohort cannot take a step of the authority together, if so."""
        apart = []
        for model, (stage, _) in cohort.requests.items():
            current = self._view.record(model).stage
            if next_step(current, stage) is not step or not moves_authority(current, step):
                apart.append(f"{model} (at {current}, asked for {stage})")
        return f"its {cohort.name} moves together; it waits for {', '.join(apart)}" if apart else ""

    async def _take(self, cohort: _Cohort, models: Sequence[str], step: Stage, by: str) -> bool:
        current = self._view.record(models[0]).stage
        try:
            with self._under_way(models, step):
                self._check(models, step)
                await self._pass_gates(cohort, models, current, step)
                await self._mover.move(models, step, by=by)
        except _TROUBLE as refusal:
            why = refusal.reason if isinstance(refusal, StageMoveError) else _told(refusal)
            if moves_authority(current, step):
                cohort.failures += 1
            for model in models:
                await self._hold(model, step, why)
            return False
        finally:
            await self._view.refresh()
        cohort.failures = 0
        for model in models:
            self._held.pop(model, None)
        return True

    @contextmanager
    def _under_way(self, models: Sequence[str], step: Stage) -> Iterator[None]:
        self._moving |= dict.fromkeys(models, step)
        try:
            yield
        finally:
            for model in models:
                del self._moving[model]

    def _check(self, models: Sequence[str], step: Stage) -> None:
        """Return if the planner permits the step wherever the models that are moving now come to stand.

        Raises:
            StageMoveError: it does not.
        """
        stages = {spec.name: self._view.record(spec.name).stage for spec in self._mover.schema}
        others = {model: stage for model, stage in self._moving.items() if model not in models}
        for model in models:
            self._planner.check_move(stages, model, step)
            self._planner.check_move(stages | others, model, step)

    async def _pass_gates(self, cohort: _Cohort, models: Sequence[str], current: Stage, step: Stage) -> None:
        """Return if every gate of the step holds.

        Raises:
            StageMoveError: one does not; the reason says what to do.
        """
        unmet = await self._gates.unmet(models, current, step)
        if unmet:
            cohort.failures += 1  # it may take days, and the stores are asked each time
            named = [gate.why if len(models) == 1 else f"{gate.model}: {gate.why}" for gate in unmet]
            raise StageMoveError(unmet[0].model, current, step, "; ".join(named))

    async def _hold(self, model: str, step: Stage, why: str) -> None:
        if self._held.get(model) == why:
            return
        self._held[model] = why
        record = self._view.record(model)
        self._observer.observe(StageHeld(model, record.stage, step, why))
        with suppress(*_TROUBLE):
            await self._mover.note(replace(record, reason=f"held before {step}: {why}"))
