"""The scenario: how the flags of ten models change in the course of a run.

The models start one after the other, parents first, so that for most of the run they stand at different stages. Each
rests at every stage until something was seen there: writes followed, reads compared. There are three courses. In the
default show one model goes as far as `rampdown`, walks all the way back to `off`, and forward again; when everyone has
arrived, all go on to `complete`, and stay there for a while. In a fleet all go to `complete` and back to `off`. With a
fault that begins late, all go to `live` and meet it there.

Only flags are changed here. The conductor, in whichever process leads, makes the moves, as in real life. Like a team
would, the walk leaves a model where it stands as soon as a mismatch was confirmed for it, or the guard has walked it
back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

from crossfade.repository import Repository
from crossfade.schema import Schema
from crossfade.stages import Side, Stage
from marketplace.demo.desk import Desk
from marketplace.demo.harm import Harm
from marketplace.demo.tally import ModelTally, Tally

DETOUR: Final = "Message"
"""The model that walks back and forth."""

# Shares of the whole run.
_LEAD = 0.04
_SPACING = 0.03
_REST: Mapping[Stage, float] = {
    Stage.DUALWRITE: 0.09,
    Stage.SHADOW: 0.17,
    Stage.LIVE: 0.17,
    Stage.RAMPDOWN: 0.03,
}
_DETOUR_REST = 0.04
_END_REST = 0.05
_THERE_AND_BACK = 0.7
"""By what the way there is shortened where there is a way back as well."""

_FORWARD = (Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN)
_PATIENCE = 120.0
"""Seconds to wait for something to be seen at a stage, and for a move to be in force."""
_GUARD_PATIENCE = 30.0
"""Seconds to wait for the guard to walk back what is broken."""
_BACK_PATIENCE = 10.0
"""Seconds to wait for what the guard has noticed to be walked back; other models may stand in the way."""
_LIVE_BEFORE = 2.0
"""Seconds that all models are live before a late fault begins."""
_TOO_SLOW = f"{_PATIENCE:.0f} s were not enough; is --rate more than this machine sustains?"

_WRITES = 3
_READS = 10
_SEEN: Mapping[Stage, Callable[[ModelTally], bool]] = {
    Stage.DUALWRITE: lambda model: model.followed_from[Side.PRISMA] >= _WRITES,
    Stage.SHADOW: lambda model: model.compared_at[Stage.SHADOW] >= _READS,
    Stage.LIVE: lambda model: (
        model.compared_at[Stage.LIVE] >= _READS and model.followed_from[Side.SQLALCHEMY] >= _WRITES
    ),
}
"""What must have been seen at a stage before a model goes on."""


class Course(Enum):
    """Where the walk leads."""

    THERE = auto()
    THERE_AND_BACK = auto()
    TO_A_FAULT = auto()
    """To `live`, where a fault begins for all models."""


class _HeldError(Exception):
    """A model goes no further; the message says why."""


class Walk:
    """Changes flags while a migration runs. `held` says which models did not get to the end.

    Args:
        schema: the models.
        repository: where they stand, as this process sees it.
        desk: takes the wishes.
        tally: what was seen.
        harm: what the guard has walked back.
        seconds: how long it all takes, or longer.
        course: where it leads.
        fault: the file that begins a late fault.
    """

    def __init__(
        self,
        schema: Schema,
        repository: Repository,
        desk: Desk,
        tally: Tally,
        harm: Harm,
        seconds: float,
        course: Course = Course.THERE,
        fault: Path | None = None,
    ) -> None:
        self.held: dict[str, str] = {}
        self._repository = repository
        self._desk = desk
        self._tally = tally
        self._harm = harm
        self._seconds = seconds
        self._course = course
        self._fault = fault
        self._pace = _THERE_AND_BACK if course is Course.THERE_AND_BACK else 1.0
        self._order = _starting_order(schema)

    async def run(self) -> None:
        """Take every model to the end, or as far as it gets."""
        await self._rest(_LEAD)
        async with asyncio.TaskGroup() as group:
            for place, model in enumerate(self._order):
                group.create_task(self._advance(model, place * _SPACING))
        if self._course is Course.TO_A_FAULT:
            await self._meet_the_fault()
        elif self.held:
            names = ", ".join(self.held)
            self._tally.note(f"no model goes on to {Stage.COMPLETE}: held back: {names}")
            await self._guard_acts([name for name in self.held if self._tally.models[name].mismatched])
        else:
            await self._all(self._order, Stage.COMPLETE)
            await self._rest(_END_REST)  # the traffic goes on where nobody follows any more
            if self._course is Course.THERE_AND_BACK and not self.held:
                # Children first: what refers to nothing that has begun can go.
                await self._all(list(reversed(self._order)), Stage.OFF)
                await self._rest(_END_REST)

    async def settle(self) -> None:
        """Bring models that are back at `off` one step forward again, so that what they wrote there is carried over."""
        await self._all([name for name in self._order if self._is_at(name, Stage.OFF)], Stage.DUALWRITE)

    async def _rest(self, share: float) -> None:
        await asyncio.sleep(share * self._pace * self._seconds)

    async def _all(self, models: Sequence[str], stage: Stage) -> None:
        async with asyncio.TaskGroup() as group:
            for model in models:
                group.create_task(self._guarded(model, self._ask(model, stage)))

    async def _advance(self, model: str, delay: float) -> None:
        await self._rest(delay)
        detours = model == DETOUR and self._course is Course.THERE
        await self._guarded(model, self._there_and_back(model) if detours else self._forward(model))

    async def _guarded(self, model: str, steps: Coroutine[Any, Any, None]) -> None:
        try:
            await steps
        except _HeldError as reason:
            self.held[model] = str(reason)
            self._tally.note(f"{model} is held at {self._repository.stages()[model]}: {reason}")

    async def _forward(self, model: str, rest: Mapping[Stage, float] = _REST) -> None:
        for stage in _FORWARD:
            await self._ask(model, stage)
            await self._rest(rest.get(stage, _DETOUR_REST))
            await self._until_seen(model, stage)
            if stage is Stage.LIVE and self._course is Course.TO_A_FAULT:
                return

    async def _there_and_back(self, model: str) -> None:
        await self._forward(model)
        await self._ask(model, Stage.OFF)
        await self._rest(_DETOUR_REST)
        await self._forward(model, {})

    # --- what is broken --------------------------------------------------------------------------------------------

    async def _meet_the_fault(self) -> None:
        """Let the fault begin, and see what the guard does about it."""
        assert self._fault is not None
        await asyncio.sleep(_LIVE_BEFORE)
        await asyncio.to_thread(self._fault.touch)
        self._tally.note("the fault begins")
        await self._guard_acts(
            [name for name in self._order if name not in self.held and self._harm.concerns(name)]
        )

    async def _guard_acts(self, models: Sequence[str]) -> None:
        """Wait until the guard has walked back the models that are broken."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GUARD_PATIENCE):
                await self._tally.until(lambda: all(name in self._harm.detected for name in models))
            async with asyncio.timeout(_BACK_PATIENCE):
                await self._tally.until(lambda: all(map(self._harm.walked_back, models)))
        for model in models:
            try:
                self._refuse_broken(model)
            except _HeldError as reason:
                self.held[model] = str(reason)
            else:
                self.held[model] = f"it is broken, and the guard has not noticed in {_GUARD_PATIENCE:.0f} s"

    # --- one step --------------------------------------------------------------------------------------------------

    async def _ask(self, model: str, stage: Stage) -> None:
        """Change the flag and wait until the stage is in force."""
        self._refuse_broken(model)
        await self._desk.ask(model, stage)
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._tally.until(lambda: self._is_at(model, stage) or self._is_blocked(model))
        except TimeoutError:
            pass
        if not self._is_at(model, stage):
            self._refuse_broken(model)
            reason = self._tally.models[model].held or _TOO_SLOW
            raise _HeldError(f"it cannot move to {stage} because {reason}")

    def _is_at(self, model: str, stage: Stage) -> bool:
        return self._repository.stages()[model] is stage

    def _is_blocked(self, model: str) -> bool:
        """Whether it is broken, was walked back, or waits for a model that goes no further."""
        tally = self._tally.models[model]
        if tally.mismatched or self._harm.walked_back(model):
            return True
        return any(name in (tally.held or "") for name in self.held)

    async def _until_seen(self, model: str, stage: Stage) -> None:
        seen = _SEEN.get(stage)
        if seen is None:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._tally.until(
                    lambda: seen(self._tally.models[model]) or self._harm.walked_back(model)
                )
        except TimeoutError:
            raise _HeldError(f"nothing was seen at {stage} in {_PATIENCE:.0f} s") from None

    def _refuse_broken(self, model: str) -> None:
        tally = self._tally.models[model]
        found = []
        if tally.mismatched:
            found.append(f"{tally.mismatched} mismatched in {', '.join(sorted(tally.differences))}")
        trip = self._harm.trip(model)
        if trip is not None:
            found.append(f"the guard walked it back from {trip.before} to {trip.after}: {trip.reason}")
        if found:
            raise _HeldError("; ".join(found))


def _starting_order(schema: Schema) -> Sequence[str]:
    """Parents before children; what the detour's model depends on comes first, so that there is time for it."""
    ordered = [spec.name for spec in schema.in_foreign_key_order()]
    needed = {DETOUR}
    for name in reversed(ordered):
        if name in needed:
            needed |= schema.parents(name)
    return [name for name in ordered if name in needed] + [name for name in ordered if name not in needed]
