"""Walks every model towards the stage that its flag asks for, one step at a time.

A request is a wish; the record says where a model stands. Any number of processes may have a conductor. One of them
leads, the holder of a lock in the legacy store; the others watch, and one takes over when it is gone.

The leader first puts right what its predecessor has left half-way. Then every cohort has a walker of its own, which
takes the next step when the planner permits it, the gates hold and the mover can; otherwise the models stay where they
are, the reason is reported once and kept in the history, and the step is tried again later. A model without a cohort is
one by itself. Steps that leave the authority where it is are taken side by side; authorities change hands one cohort at
a time. A model that nobody asks anything of is left where it stands.

Beside that the leader runs the guard (`crossfade.guard`), tells what it does (`crossfade.notices`), reads the gates of
models that nobody moves, and throws away what the fleet has seen of stages that are over. A model that the guard has
walked back takes no step forward, whatever is asked for, until a person resumes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from crossfade.errors import StageMoveError
from crossfade.events import Observer, StageRequested
from crossfade.gates import Gates, NoGates
from crossfade.guard import LOOK_SECONDS, Guard, Witness
from crossfade.moving import Mover, why_paused
from crossfade.notices import TROUBLE, Notices, told
from crossfade.planner import Planner
from crossfade.stages import Side, Stage, is_forward, moves_authority, next_step
from crossfade.steps import EITHER, ShutError, Steps
from crossfade.store import Store
from crossfade.store.leadership import Leadership
from crossfade.store.record import Record
from crossfade.store.requests import Requested
from crossfade.store.signals import prune
from crossfade.store.view import RecordView
from crossfade.store.waiting import within
from crossfade.thresholds import GuardThresholds

_ELECTION_SECONDS = 0.5
_LONGEST_WAIT = 5.0
"""A hand-over that fails again and again keeps writers waiting each time, so it is tried ever more rarely; and so is a
step before which gates are shut."""
_LEASE_WAIT = 0.5
"""How soon a step is tried again that only waits for a lease to end."""
_GATES_SECONDS = 5.0
_IDLE_GATES_SECONDS = 15.0
_PRUNE_SECONDS = 60.0
_ANSWER_SECONDS = 10.0
_UNCONFIRMED = (
    "the flag service is away, or says nothing of it that can be used; no step forward is taken until it does"
)


@dataclass(slots=True)
class _Cohort:
    """Models that change authority together, with what is asked of each and by whom.

    `changed` is set when anything about them has changed, `asked` only when something else is asked for.
    """

    name: str
    requests: dict[str, tuple[Stage, str]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    waits_for_lease: bool = False


class Conductor:
    """Moves the models of one migration, while this process leads.

    Args:
        mover: takes the steps.
        view: what the record says.
        planner: which steps the relations permit.
        observer: hears of requests, of steps that are held, of gates, and of the guard.
        stores: the legacy store decides who leads.
        gates: what must hold before a step; nothing by default.
        witness: knows what the fleet sees, for the guard; without one nothing is guarded.
        thresholds: when the guard walks a model back; the defaults by default.
        interval: how often a held step is tried again, in seconds.
        look: how often the guard looks, in seconds.
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
        witness: Witness | None = None,
        thresholds: Callable[[str], GuardThresholds] | None = None,
        interval: float = 0.2,
        look: float = LOOK_SECONDS,
        lead: bool = True,
    ) -> None:
        self._mover = mover
        self._view = view
        self._gates: Gates = gates or NoGates()
        self._observer = observer
        self._store = stores[Side.PRISMA]
        self._leadership = Leadership(self._store)
        self._interval = interval
        self._may_lead = lead
        self._leads = False
        self._cohorts: dict[str, _Cohort] = {}
        self._unconfirmed: set[str] = set()
        self._notices = Notices(mover, view, observer, self._store)
        self._steps = Steps(mover, view, planner, self._gates, self._notices)
        self._guard: Guard | None = None
        if witness is not None:
            self._guard = Guard(
                witness,
                self._steps,
                view,
                self._notices,
                observer,
                thresholds=thresholds or (lambda _: GuardThresholds()),
                cohort=self._cohort_of,
                interval=look,
            )
        self._task: asyncio.Task[None] | None = None
        self._duties: list[asyncio.Task[None]] = []
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
        await self._stop_leading()
        await self._leadership.give_up()

    @property
    def leads(self) -> bool:
        """Whether this process is the leader."""
        return self._leads

    def request(
        self, model: str, stage: Stage, *, by: str, cohort: str | None = None, confirmed: bool = True
    ) -> None:
        """Ask for `model` to stand at `stage`, in the end.

        Args:
            model: which.
            stage: where to.
            by: who asks.
            cohort: names the models that its authority moves with.
            confirmed: whether somebody stands behind it now; without that no step forward is taken.
        """
        name = f"cohort {cohort}" if cohort else model
        for other in list(self._cohorts.values()):
            if other.name != name and model in other.requests:
                del other.requests[model]
                other.changed.set()
        place = self._cohorts.setdefault(name, _Cohort(name))
        if confirmed is (model in self._unconfirmed):
            self._unconfirmed ^= {model}
            place.changed.set()
        known = place.requests.get(model)
        if known is not None and known[0] is stage:
            return
        self._observer.observe(StageRequested(model, stage, by))
        place.requests[model] = stage, by
        place.failures = 0
        self._notices.release(model)
        place.changed.set()
        place.asked.set()
        if self._leads:
            self._start_walking()

    def held(self) -> Mapping[str, str]:
        """Return why each model that stands before its request cannot move on, as far as this process leads."""
        return self._notices.held

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
                self._start_leading()
            elif self._leads and not leads:
                self._leads = False
                await self._stop_leading()
            elif leads and self._view.unsettled() - self._steps.moving.keys():
                await self._recover()
            await asyncio.sleep(self._interval if self._leads else _ELECTION_SECONDS)

    async def _recover(self) -> None:
        with suppress(*TROUBLE):  # it is tried again as long as something is left half-way
            await self._mover.recover(skip=lambda: self._steps.moving)
        await self._view.refresh()

    def _start_leading(self) -> None:
        duties = {
            "notices": self._notices.publish(self._requested),
            "gates": self._read_gates(),
            "prune": self._prune(),
        }
        if self._guard is not None:
            duties["guard"] = self._guard.run()
        self._duties = [asyncio.create_task(duty, name=name) for name, duty in duties.items()]
        self._start_walking()

    def _start_walking(self) -> None:
        for name, cohort in self._cohorts.items():
            if name not in self._walkers:
                self._walkers[name] = asyncio.create_task(self._walk(cohort), name=f"walk-{name}")

    async def _stop_leading(self) -> None:
        tasks = [*self._walkers.values(), *self._duties]
        self._walkers, self._duties = {}, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._notices.forget()

    def _cohort_of(self, model: str) -> list[str]:
        """The models that the authority of `model` moves with; from what the leader before heard, if no flag told."""
        known = {name: cohort.name for cohort in self._cohorts.values() for name in cohort.requests}
        for name, row in self._notices.found.items():
            if row.cohort is not None:
                known.setdefault(name, f"cohort {row.cohort}")
        return [model, *(name for name, of in known.items() if of == known.get(model) and name != model)]

    def _requested(self) -> list[Requested]:
        """What is asked for, for the table."""
        rows = []
        for cohort in self._cohorts.values():
            declared = cohort.name.removeprefix("cohort ") if cohort.name.startswith("cohort ") else None
            for model, (stage, by) in cohort.requests.items():
                wanted = next_step(self._view.record(model).stage, stage)
                rows.append(Requested(model, stage, by, declared, wanted))
        return rows

    async def _read_gates(self) -> None:
        """Read the gates of each model's next step now and then: of one that waits more often than of one at rest."""
        while True:
            asked = {
                model: stage
                for cohort in self._cohorts.values()
                for model, (stage, _) in cohort.requests.items()
            }
            wanted: dict[str, Stage] = {}
            for model, record in self._view.records.items():
                step = next_step(record.stage, asked.get(model, record.stage))
                step = step or next_step(record.stage, Stage.COMPLETE)
                seconds = (
                    _IDLE_GATES_SECONDS if asked.get(model, record.stage) is record.stage else _GATES_SECONDS
                )
                is_still = record.moving_to is None and not record.final and model not in self._steps.moving
                if step is not None and is_still and self._notices.is_stale(model, seconds):
                    wanted[model] = step
            if wanted:
                with suppress(*TROUBLE):  # they are read again soon
                    reading = self._gates.read(list(wanted), wanted)
                    self._notices.read(await within(_ANSWER_SECONDS, reading, EITHER))
            await asyncio.sleep(1.0)

    async def _prune(self) -> None:
        """Throw away what was seen before the models came to their stages."""
        while True:
            await asyncio.sleep(_PRUNE_SECONDS)
            entered = {model: record.entered for model, record in self._view.records.items()}
            with suppress(*TROUBLE):
                await within(_ANSWER_SECONDS, self._prune_before(entered), self._store.where)

    async def _prune_before(self, entered: Mapping[str, int]) -> None:
        async with self._store.transaction() as connection:
            await prune(connection, self._store, entered)

    # --- walking -------------------------------------------------------------------------------------------------

    async def _walk(self, cohort: _Cohort) -> None:
        while True:
            cohort.changed.clear()
            cohort.asked.clear()
            cohort.waits_for_lease = False
            if await self._step(cohort):
                continue
            waits = any(
                self._view.record(model).stage is not stage for model, (stage, _) in cohort.requests.items()
            )
            pause = min(self._interval * 2 ** min(cohort.failures, 10), _LONGEST_WAIT) if waits else None
            if cohort.waits_for_lease and pause is not None:
                pause = _LEASE_WAIT
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await cohort.changed.wait()
                    # What changes while a hand-over is being tried in vain is mostly its own doing.
                    if cohort.failures and pause:
                        await cohort.asked.wait()

    async def _step(self, cohort: _Cohort) -> bool:
        """Take every next step that is possible now; whether there was one."""
        together: dict[str, Stage] = {}
        taken = False
        for model, (stage, by) in list(cohort.requests.items()):
            record = self._view.record(model)
            step = next_step(record.stage, stage)
            if step is None:
                self._notices.release(model)
            elif why := self._stays(record, step):
                await self._notices.hold(model, step, why)
            elif moves_authority(record.stage, step):
                together[model] = step
            else:
                taken = await self._take(cohort, [model], step, by) or taken
        if together and not taken:
            model = next(iter(together))
            step, by = together[model], cohort.requests[model][1]
            why = self._apart(cohort, step)
            if why:
                for waiting, wanted in together.items():
                    await self._notices.hold(waiting, wanted, why)
                return False
            taken = await self._take(cohort, list(cohort.requests), step, by)
        return taken

    def _stays(self, record: Record, step: Stage) -> str:
        """Why a model is to take no step forward, whatever is asked for and whatever its gates say; if so."""
        if not is_forward(record.stage, step):
            return ""
        if record.paused:
            return why_paused(record)
        if record.model in self._unconfirmed:
            return _UNCONFIRMED
        return "" if self._guard is None else self._guard.why_back(record.model)

    def _apart(self, cohort: _Cohort, step: Stage) -> str:
        """Why the models of a cohort cannot take a step of the authority together, if so."""
        apart = []
        for model, (stage, _) in cohort.requests.items():
            record = self._view.record(model)
            if next_step(record.stage, stage) is not step or not moves_authority(record.stage, step):
                apart.append(f"{model} (at {record.stage}, asked for {stage})")
            elif self._stays(record, step):
                apart.append(f"{model} ({self._stays(record, step)})")
        return f"its {cohort.name} moves together; it waits for {', '.join(apart)}" if apart else ""

    async def _take(self, cohort: _Cohort, models: Sequence[str], step: Stage, by: str) -> bool:
        current = self._view.record(models[0]).stage
        try:
            if not await self._steps.take(models, current, step, by=by):
                return False
        except ShutError as refusal:
            if refusal.is_a_matter_of_seconds:
                cohort.waits_for_lease = True
            else:
                cohort.failures += 1  # it may take days, and the stores are asked each time
            for model in models:
                await self._notices.hold(model, step, refusal.reason, kind=refusal.kind)
            return False
        except TROUBLE as refusal:
            if moves_authority(current, step):
                cohort.failures += 1
            for model in models:
                why = refusal.reason if isinstance(refusal, StageMoveError) else told(refusal)
                await self._notices.hold(model, step, why)
            return False
        cohort.failures = 0
        for model in models:
            self._notices.release(model)
        return True
