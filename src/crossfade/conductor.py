"""Walks every model towards the stage that its flag asks for, one step at a time.

A request is a wish. Each model has a walker of its own, which takes the next step when the planner permits it and the
other side has caught up; otherwise the model stays where it is, the reason is reported once, and the step is tried
again later. A model that waits for its follower keeps no other from moving; the repository sees to it that authorities
change hands one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from crossfade.errors import StageMoveError
from crossfade.events import Observer, StageHeld, StageRequested
from crossfade.repository import Repository
from crossfade.stages import Stage, next_step


@dataclass(slots=True)
class _Request:
    stage: Stage
    by: str
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Conductor:
    """Moves the models of one repository. `interval` is how often a held step is tried again, in seconds."""

    def __init__(self, repository: Repository, observer: Observer, *, interval: float = 0.2) -> None:
        self._repository = repository
        self._observer = observer
        self._interval = interval
        self._requests: dict[str, _Request] = {}
        self._held: dict[str, str] = {}
        self._walkers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for walker in self._walkers:
            walker.cancel()
        await asyncio.gather(*self._walkers, return_exceptions=True)
        self._walkers.clear()

    def request(self, model: str, stage: Stage, *, by: str) -> None:
        """Ask for `model` to stand at `stage`, in the end."""
        request = self._requests.get(model)
        if request is None:
            request = self._requests[model] = _Request(stage, by)
            self._walkers.append(asyncio.create_task(self._walk(model, request), name=f"walk-{model}"))
        elif request.stage is stage:
            return
        self._observer.observe(StageRequested(model, stage, by))
        request.stage, request.by = stage, by
        self._held.pop(model, None)
        request.changed.set()

    def held(self) -> Mapping[str, str]:
        """Return why each model that stands before its request cannot move on."""
        return dict(self._held)

    async def _walk(self, model: str, request: _Request) -> None:
        while True:
            request.changed.clear()
            if await self._step(model, request):
                continue
            arrived = self._repository.plan(model).stage is request.stage
            with suppress(TimeoutError):
                async with asyncio.timeout(None if arrived else self._interval):
                    await request.changed.wait()

    async def _step(self, model: str, request: _Request) -> bool:
        current = self._repository.plan(model).stage
        step = next_step(current, request.stage)
        if step is None:
            self._held.pop(model, None)
            return False
        try:
            await self._repository.move(model, step, by=request.by)
        except StageMoveError as refusal:
            if self._held.get(model) != refusal.reason:
                self._held[model] = refusal.reason
                self._observer.observe(StageHeld(model, current, step, refusal.reason))
            return False
        self._held.pop(model, None)
        return True
