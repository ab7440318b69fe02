"""The scenario: how the flags of ten models change in the course of a run.

The models start one after the other, parents first, so that for most of the run they stand at different stages. Each
rests at every stage until something was seen there: writes followed, reads compared. One model goes as far as
`rampdown`, walks all the way back to `off`, and forward again. When everyone has arrived, all go on to `complete`, and
stay there for a while.

Only flag files are written here. The watcher notices them and the conductor, in whichever process leads, makes the
moves, as in real life. Like a team would, the walk leaves a model where it stands as soon as a mismatch was confirmed
for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from crossfade.flags.files import write_stage
from crossfade.repository import Repository
from crossfade.schema import Schema
from crossfade.stages import Side, Stage
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

_FORWARD = (Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN)
_PATIENCE = 120.0
"""Seconds to wait for something to be seen at a stage, and for a move to be in force."""
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


class _HeldError(Exception):
    """A model goes no further; the message says why."""


class Walk:
    """Writes flag files in `flags` while a migration runs. `held` says which models did not get to the end."""

    def __init__(
        self, schema: Schema, repository: Repository, flags: Path, tally: Tally, seconds: float
    ) -> None:
        self.held: dict[str, str] = {}
        self._repository = repository
        self._flags = flags
        self._tally = tally
        self._seconds = seconds
        self._order = _starting_order(schema)

    async def run(self) -> None:
        """Take every model to the end, or as far as it gets."""
        await asyncio.sleep(_LEAD * self._seconds)
        async with asyncio.TaskGroup() as group:
            for place, model in enumerate(self._order):
                group.create_task(self._advance(model, place * _SPACING * self._seconds))
        if self.held:
            names = ", ".join(self.held)
            self._tally.note(f"no model goes on to {Stage.COMPLETE}: held back: {names}")
            return
        async with asyncio.TaskGroup() as group:
            for model in self._order:
                group.create_task(self._guarded(model, self._complete(model)))
        await asyncio.sleep(_END_REST * self._seconds)  # the traffic goes on where nobody follows any more

    async def _advance(self, model: str, delay: float) -> None:
        await asyncio.sleep(delay)
        await self._guarded(model, self._there_and_back(model) if model == DETOUR else self._forward(model))

    async def _guarded(self, model: str, steps: Coroutine[Any, Any, None]) -> None:
        try:
            await steps
        except _HeldError as reason:
            self.held[model] = str(reason)
            self._tally.note(f"{model} is held at {self._repository.stages()[model]}: {reason}")

    async def _forward(self, model: str, rest: Mapping[Stage, float] = _REST) -> None:
        for stage in _FORWARD:
            await self._ask(model, stage)
            await asyncio.sleep(rest.get(stage, _DETOUR_REST) * self._seconds)
            await self._until_seen(model, stage)

    async def _there_and_back(self, model: str) -> None:
        await self._forward(model)
        await self._ask(model, Stage.OFF)
        await asyncio.sleep(_DETOUR_REST * self._seconds)
        await self._forward(model, {})

    async def _complete(self, model: str) -> None:
        await self._ask(model, Stage.COMPLETE)

    async def _ask(self, model: str, stage: Stage) -> None:
        """Write the flag and wait until the stage is in force."""
        self._refuse_mismatched(model)
        await asyncio.to_thread(write_stage, self._flags, model, stage)
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._tally.until(lambda: self._is_at(model, stage) or self._is_blocked(model))
        except TimeoutError:
            pass
        if not self._is_at(model, stage):
            self._refuse_mismatched(model)
            reason = self._tally.models[model].held or _TOO_SLOW
            raise _HeldError(f"it cannot move to {stage} because {reason}")

    def _is_at(self, model: str, stage: Stage) -> bool:
        return self._repository.stages()[model] is stage

    def _is_blocked(self, model: str) -> bool:
        """Whether it waits for a model that goes no further."""
        reason = self._tally.models[model].held or ""
        return any(name in reason for name in self.held)

    async def _until_seen(self, model: str, stage: Stage) -> None:
        seen = _SEEN.get(stage)
        if seen is None:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._tally.until(lambda: seen(self._tally.models[model]))
        except TimeoutError:
            raise _HeldError(f"nothing was seen at {stage} in {_PATIENCE:.0f} s") from None

    def _refuse_mismatched(self, model: str) -> None:
        tally = self._tally.models[model]
        if tally.mismatched:
            fields = ", ".join(sorted(tally.differences))
            raise _HeldError(f"{tally.mismatched} mismatched in {fields}")


def _starting_order(schema: Schema) -> Sequence[str]:
    """Parents before children; what the detour's model depends on comes first, so that there is time for it."""
    ordered = [spec.name for spec in schema.in_foreign_key_order()]
    needed = {DETOUR}
    for name in reversed(ordered):
        if name in needed:
            needed |= schema.parents(name)
    return [name for name in ordered if name in needed] + [name for name in ordered if name not in needed]
