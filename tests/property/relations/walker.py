"""Who moves models meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from time import perf_counter

from crossfade.errors import StageMoveError
from crossfade.stages import MOVES, Stage, next_step

from .journal import Journal
from .world import World


class Walker:
    """Moves one model after the other, forward or back, wherever the planner permits."""

    def __init__(self, world: World, journal: Journal, chance: random.Random) -> None:
        self._world = world
        self._journal = journal
        self._chance = chance
        self.moved = 0
        self.refused: list[str] = []

    def __str__(self) -> str:
        return f"{self.moved} moves, {len(self.refused)} refused: {dict(Counter(self.refused))}"

    async def spread(self) -> None:
        """Bring each model to a stage of its own, as far as the planner permits, before anybody writes."""
        world = self._world
        wanted = {name: self._chance.choices(list(Stage), _OFTEN)[0] for name in world.graph.models}
        for _ in Stage:
            for name, stage in wanted.items():
                step = next_step(world.repository.plan(name).stage, stage)
                if step is not None:
                    await self._try(name, step)

    async def step(self) -> None:
        """Try one move."""
        model = self._chance.choice(list(self._world.graph.models))
        current = self._world.repository.plan(model).stage
        stages = [to for one, to in sorted(MOVES) if one is current]
        await self._try(model, self._chance.choices(stages, [_LIKED[to] for to in stages])[0])

    async def _try(self, model: str, stage: Stage) -> None:
        current = self._world.repository.plan(model).stage
        start = perf_counter()
        try:
            await self._world.move(model, stage)
        except StageMoveError as error:
            self.refused.append(error.reason)
            return
        self.moved += 1
        self._journal.note(f"moved {model} from {current} to {stage} (since {start:.4f})")

    async def walk(self, over: asyncio.Event) -> None:
        """Move until it is over."""
        while not over.is_set():
            await self.step()


_OFTEN = (1, 1, 3, 4, 1, 1)
_LIKED = dict(zip(Stage, (1, 4, 9, 9, 4, 2), strict=True))
"""Near the middle authorities change."""
