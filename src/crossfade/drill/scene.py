"""One episode as a drill's play sees it: processes to start and to harm, flags to turn, a network to break."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import signal
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossfade.drill.models import MODELS
from crossfade.drill.order import WRITERS, Part, ProcessOrder, StoreOrder
from crossfade.drill.processes import Nursery, Process
from crossfade.drill.proxy import Proxy
from crossfade.drill.stores import Standing, Stores, read_standings
from crossfade.flags.files import write_stage
from crossfade.stages import Side, Stage

WRITING, COPYING, COPIED = "writing", "copying", "copied"
"""Moments of a play with a backfill: the traffic flows, the backfill begins, its history is copied."""
NEVER = 1 << 62

_READY_SECONDS = 20.0
_LOOK = 0.1
_RELEASE_SECONDS = 12.0


@dataclass(slots=True)
class Equipment:
    """What all episodes of a run share."""

    stores: Stores
    nursery: Nursery
    proxy: Proxy
    directory: Path
    seed: int
    crash_points: tuple[str, ...]
    crashes_planned: itertools.cycle[str] = field(init=False)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    lines: dict[str, StoreOrder] = field(default_factory=dict)
    crashed_at: Counter[str] = field(default_factory=Counter)
    """How often a process was killed at each named step of a move."""
    history: dict[Side, int] = field(default_factory=dict)
    """The last entry of each store's history that was read."""

    def __post_init__(self) -> None:
        self.crashes_planned = itertools.cycle(self.crash_points)

    async def line(self, name: str, side: Side) -> StoreOrder:
        """A store behind a line of the network; the line is opened when it is first asked for."""
        if name not in self.lines:
            order = self.stores.orders[side]
            dsn = await self.proxy.line(name, order.dsn)
            self.lines[name] = StoreOrder(dsn, order.home)
        return self.lines[name]


class Scene:
    """One episode. Its `prefix` begins the name of everything that its writers write."""

    def __init__(self, equipment: Equipment, prefix: str, round_number: int, seconds: float) -> None:
        self.equipment = equipment
        self.prefix = prefix
        self.round = round_number
        self.seconds = seconds
        self.chance = random.Random(f"{equipment.seed}-{prefix}")  # noqa: S311 - faults, not secrets
        self.processes: list[Process] = []
        self.crashes = 0
        self.failures: list[str] = []
        """What went wrong beside any write, in words."""
        self.moments: dict[str, int] = {}
        """Named moments of the play, in the journals' time."""
        self.copied_rows = 0
        """How many rows of history a backfill found."""
        self._ends = asyncio.get_running_loop().time() + seconds
        self._is_over = False

    # --- time -----------------------------------------------------------------------------------------------------

    @property
    def left(self) -> float:
        """Seconds of traffic that are left."""
        return max(0.0, self._ends - asyncio.get_running_loop().time())

    def begin(self) -> None:
        """The traffic begins now."""
        self._ends = asyncio.get_running_loop().time() + self.seconds

    async def sleep(self, seconds: float) -> None:
        """Wait so long, but not beyond the end of the traffic."""
        await asyncio.sleep(min(seconds, self.left))

    # --- processes ------------------------------------------------------------------------------------------------

    async def start(
        self, part: Part, name: str, *, lines: Mapping[Side, str] | None = None, **how: Any
    ) -> Process:
        """Start a process under `name`; `lines` names the lines of the network by which it reaches the stores."""
        reached = {}
        for side in Side:
            line = (lines or {}).get(side)
            orders = self.equipment.stores.orders
            reached[side] = orders[side] if line is None else await self.equipment.line(line, side)
        order = ProcessOrder(
            part=part,
            name=f"{self.prefix}{name}",
            number=next(self.equipment.numbers),
            directory=self.equipment.directory,
            legacy=reached[Side.PRISMA],
            target=reached[Side.SQLALCHEMY],
            seed=self.equipment.seed,
            psql=self.equipment.stores.psql,
            **how,
        )
        return self._begin(order)

    def _begin(self, order: ProcessOrder) -> Process:
        process = self.equipment.nursery.start(order)
        self.processes.append(process)
        return process

    async def ready(self) -> None:
        """Wait until every process does its part."""
        waiting = [process for process in self.processes if process.runs]
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while any(one.runs and not one.is_ready for one in waiting):  # noqa: ASYNC110 - files of others
                    await asyncio.sleep(0.02)
        except TimeoutError:
            names = ", ".join(one.order.name for one in waiting if one.runs and not one.is_ready)
            self.failures.append(f"{names} did not start within {_READY_SECONDS:g} s")

    def kill(self, process: Process) -> None:
        """Have the kernel end a process at once."""
        if process.runs:
            self.crashes += 1
            self.equipment.nursery.kill(process)

    def again(self, process: Process, **how: Any) -> Process:
        """Start another process in the place of one that was killed."""
        order = dataclasses.replace(process.order, number=next(self.equipment.numbers), **how)
        return self._begin(order)

    def pause(self, process: Process) -> None:
        """Freeze a process where it stands."""
        self.equipment.nursery.kill(process, signal.SIGSTOP)

    def wake(self, process: Process) -> None:
        """Let a frozen process go on."""
        self.equipment.nursery.kill(process, signal.SIGCONT)

    def running(self, *parts: Part) -> list[Process]:
        """The processes that run and are meant to, of these parts or of all."""
        return [
            process
            for process in self.processes
            if process.runs and not process.is_doomed and (not parts or process.order.part in parts)
        ]

    def ended(self, process: Process) -> None:
        """Take note of the end of a process."""
        if process not in self.processes or process.is_doomed:
            return
        if process.order.crash_at is not None and process.status == -signal.SIGKILL:
            self.crashes += 1
            self.equipment.crashed_at[process.order.crash_at] += 1
            self.again(process, crash_at=None if self._is_over else next(self.equipment.crashes_planned))
            return
        self.failures.append(
            f"{process.order.name} ended by itself ({process.status}): {process.last_words() or 'no reason'}"
        )

    async def stop_writers(self, patience: float) -> None:
        """Let the writers finish what they are doing; kill those that do not."""
        self._is_over = True
        await self._stop(self.running(*WRITERS), patience, "finish its writes")

    async def stop_all(self, patience: float) -> None:
        """End the processes that are left."""
        await self._stop(self.running(), patience, "end")

    async def _stop(self, processes: Collection[Process], patience: float, what: str) -> None:
        for process in processes:
            self.wake(process)
            self.equipment.nursery.kill(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(patience):
                for process in processes:
                    await process.ended.wait()
        except TimeoutError:
            for process in processes:
                if process.runs:
                    self.failures.append(f"{process.order.name} did not {what} within {patience:g} s")
                    self.equipment.nursery.kill(process)
                    await process.ended.wait()
        for process in processes:
            if process.status not in (0, -signal.SIGKILL):
                self.failures.append(
                    f"{process.order.name} failed ({process.status}): {process.last_words() or 'no reason'}"
                )

    # --- stages ---------------------------------------------------------------------------------------------------

    def request(self, model: str, stage: Stage) -> None:
        """Turn a flag."""
        write_stage(self.equipment.directory / "flags", model, stage)

    async def standings(self) -> dict[str, Standing]:
        """Where every model stands, by the stores' own word."""
        return await read_standings(self.equipment.stores)

    async def reach(self, wanted: Mapping[str, Stage], patience: float) -> bool:
        """Turn flags and wait until the models stand there; whether they do."""
        for model, stage in wanted.items():
            self.request(model, stage)
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        while True:
            standings = await self.standings()
            if all(
                standings[model].stage is stage and not standings[model].is_moving
                for model, stage in wanted.items()
            ):
                return True
            if loop.time() > until:
                return False
            await asyncio.sleep(_LOOK)

    async def gather_at(self, stage: Stage, patience: float = 30.0) -> None:
        """Bring all models to one stage."""
        if not await self.reach(dict.fromkeys(MODELS, stage), patience):
            at = ", ".join(f"{model} at {one.stage}" for model, one in (await self.standings()).items())
            self.failures.append(f"the models did not come to {stage} within {patience:g} s: {at}")

    async def flip(self, *, pause: float, models: int = 2, patience: float = _RELEASE_SECONDS) -> None:
        """Move the authority of some models, again and again, until the traffic ends."""
        at = {model: one.stage for model, one in (await self.standings()).items()}
        while self.left > 0:
            chosen = self.chance.sample(MODELS, models)
            wanted = {model: Stage.SHADOW if at.get(model) is Stage.LIVE else Stage.LIVE for model in chosen}
            if await self.reach(wanted, min(patience, self.left + 0.5)):
                at |= wanted
            else:
                at = {model: one.stage for model, one in (await self.standings()).items()}
            await self.sleep(pause * self.chance.uniform(0.5, 1.5))
