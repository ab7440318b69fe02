"""Walks every model towards the stage that its flag asks for, one step at a time.

A request is a wish. The conductor takes the next step when the planner permits it and the other side can be drained;
otherwise the model stays where it is, the reason is reported once, and the step is tried again later. Steps of
different models never run at the same time, so every step sees settled neighbours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self

from crossfade.errors import StageMoveError
from crossfade.events import Observer, StageHeld, StageRequested
from crossfade.repository import Repository
from crossfade.stages import Stage, next_step


class Conductor:
    """Moves the models of one repository. `interval` is how often a held step is tried again, in seconds."""

    def __init__(self, repository: Repository, observer: Observer, *, interval: float = 0.2) -> None:
        self._repository = repository
        self._observer = observer
        self._interval = interval
        self._requests: dict[str, tuple[Stage, str]] = {}
        self._held: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._walk(), name="conductor")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def request(self, model: str, stage: Stage, *, by: str) -> None:
        """Ask for `model` to stand at `stage`, in the end."""
        if self._requests.get(model, (None, ""))[0] is not stage:
            self._observer.observe(StageRequested(model, stage, by))
        self._requests[model] = (stage, by)
        self._held.pop(model, None)
        self._wake.set()

    def held(self) -> Mapping[str, str]:
        """Return why each model that stands before its request cannot move on."""
        return dict(self._held)

    async def _walk(self) -> None:
        while True:
            moved = [await self._step(model) for model in list(self._requests)]
            if any(moved):
                continue
            self._wake.clear()
            waiting = any(self._repository.plan(m).stage is not s for m, (s, _) in self._requests.items())
            try:
                async with asyncio.timeout(self._interval if waiting else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _step(self, model: str) -> bool:
        requested, by = self._requests[model]
        current = self._repository.plan(model).stage
        step = next_step(current, requested)
        if step is None:
            self._held.pop(model, None)
            return False
        try:
            await self._repository.move(model, step, by=by)
        except StageMoveError as refusal:
            if self._held.get(model) != refusal.reason:
                self._held[model] = refusal.reason
                self._observer.observe(StageHeld(model, current, step, refusal.reason))
            return False
        self._held.pop(model, None)
        return True
