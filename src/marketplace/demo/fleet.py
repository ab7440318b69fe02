"""The application processes beside the demo's own: who there is, and what becomes of each in the course of a run.

Two processes are the default show: the other one is killed twice, the first time in the middle of a move that it
conducts. In a fleet one worker is killed, one is frozen, and one is started cold in the middle of the run, by as many
workers as there are; a process that does nothing else conducts the moves.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple, TypeAlias, assert_never

from crossfade.events import Observer
from crossfade.store.view import RecordView
from marketplace.calls import Account
from marketplace.demo.application import Application
from marketplace.demo.harm import Harm
from marketplace.demo.tally import Tally
from marketplace.demo.worker import Order
from marketplace.demo.workers import LOOK_EVERY, Fate, Worker
from marketplace.journal import Journal
from marketplace.workload import pause

KILLS: Final = 2

_READ_EVERY = 0.1
_FROZEN_LONG = 30.0
_FROZEN_SHARE = 0.2
_LONG_RUN = 90.0


class Start(NamedTuple):
    """A worker that was not there from the beginning is started at this share of the run."""

    at: float


class Kill(NamedTuple):
    """A worker is killed and started again: not before a share of the run, and not after another."""

    earliest: float
    latest: float


class Freeze(NamedTuple):
    """A worker is frozen at this share of the run, and goes on after a while."""

    at: float


Part: TypeAlias = Sequence[Start | Kill | Freeze]
"""What becomes of one worker, in order."""

_KILLED: Part = (Kill(0.3, 0.5), Kill(0.6, 0.8))
_FROZEN: Part = (Freeze(0.4),)
_COLD: Part = (Start(0.4),)
_COLD_AND_FROZEN: Part = (Start(0.25), Freeze(0.5))
_ALL_BY_ONE: Part = (Kill(0.2, 0.3), Freeze(0.45), Kill(0.8, 0.9))
"""A worker that is started again after it was killed is a cold one as well."""


def parts(workers: int, *, is_fleet: bool) -> list[Part]:
    """What becomes of so many workers."""
    if not is_fleet:
        return [_KILLED]
    if workers == 1:
        return [_ALL_BY_ONE]
    if workers == 2:
        return [_KILLED, _COLD_AND_FROZEN]
    return [_KILLED, _FROZEN, *[()] * (workers - 3), _COLD]


def frozen_for(seconds: float) -> float:
    """For how long a process is frozen in a run of so many seconds."""
    return _FROZEN_LONG if seconds >= _LONG_RUN else seconds * _FROZEN_SHARE


class Fleet:
    """Runs the workers of one demo.

    Args:
        application: what they run.
        order: what they are to do, all together: the rate is shared out.
        parts: what becomes of each.
        directory: takes their journals and logs.
        journal: takes their writes.
        tally: is told what happens to them.
        observer: hears their facts.
        harm: hears of answers that a defect has spoilt.
        rng: when they are killed.
    """

    def __init__(
        self,
        application: Application,
        order: Order,
        parts: Sequence[Part],
        directory: Path,
        journal: Journal,
        tally: Tally,
        observer: Observer,
        harm: Harm,
        rng: random.Random,
    ) -> None:
        shares = itertools.count(1)
        each = replace(order, rate=order.rate / len(parts))
        self.workers = [
            Worker(
                "worker" if len(parts) == 1 else f"worker-{number}",
                application,
                each,
                directory,
                journal,
                observer,
                share=lambda: next(shares),
                spoilt=harm.note,
                note=tally.note,
            )
            for number in range(1, len(parts) + 1)
        ]
        self._parts = parts
        self._conducts = order.conducts
        self._tally = tally
        self._rng = rng
        self._reading: asyncio.Task[None] | None = None
        self._began = 0.0
        self._seconds = 0.0
        self._moves = 0

    @property
    def account(self) -> Account:
        """What came of their calls."""
        return sum((worker.account for worker in self.workers), Account())

    @property
    def fates(self) -> list[Fate]:
        """What has happened to each."""
        return [worker.fate for worker in self.workers]

    def problems(self) -> Counter[tuple[str, str, str]]:
        """Which processes ended by themselves."""
        return sum((worker.problems() for worker in self.workers), Counter())

    async def start(self) -> None:
        """Start those that are there from the beginning; they are ready some time later."""
        self._reading = asyncio.create_task(self._read(), name="workers-journals")
        for worker, part in zip(self.workers, self._parts, strict=True):
            if not any(isinstance(episode, Start) for episode in part):
                await worker.start()

    async def ready(self) -> None:
        """Wait until those that were started take part.

        Raises:
            EmbeddedError: one has ended.
        """
        for worker in self.workers:
            if worker.pids:
                await worker.ready()

    async def run(self, stop: asyncio.Event, seconds: float, view: RecordView) -> None:
        """Let become of them what is to become of them in the course of a run of `seconds`."""
        self._began, self._seconds = monotonic(), seconds

        def moved(_: object) -> None:
            self._moves += 1

        view.on_change(moved)
        async with asyncio.TaskGroup() as group:
            for worker, part in zip(self.workers, self._parts, strict=True):
                group.create_task(self._play(worker, part, stop, view))

    async def _play(self, worker: Worker, part: Part, stop: asyncio.Event, view: RecordView) -> None:
        for episode in part:
            match episode:
                case Start(at):
                    await self._start(worker, at, stop)
                case Kill():
                    await self._kill(worker, episode, stop, view)
                case Freeze(at):
                    await self._freeze(worker, at, stop)
                case _:
                    assert_never(episode)

    async def _start(self, worker: Worker, at: float, stop: asyncio.Event) -> None:
        await self._until(lambda: self._after(at), stop)
        if stop.is_set():
            return
        worker.fate.cold_at = monotonic() - self._began
        await worker.start()
        await worker.ready()
        took = monotonic() - self._began - worker.fate.cold_at
        self._tally.note(f"{worker.name} started cold, and takes part after {took:.1f} s")

    async def _kill(self, worker: Worker, kill: Kill, stop: asyncio.Event, view: RecordView) -> None:
        def in_a_move() -> bool:
            moving = any(record.moving_to is not None for record in view.records.values())
            hit = moving and (worker.leads or not self._conducts)
            return self._after(kill.earliest) and (hit or self._after(kill.latest))

        is_first = worker.fate.killed == 0
        moment = self._rng.uniform(kill.earliest, kill.latest)
        await self._until(in_a_move if is_first else lambda: self._after(moment), stop)
        await pause(stop, self._rng.uniform(0.0, 0.05))
        await self._until(lambda: worker.is_at_work, stop)
        if stop.is_set():
            return
        await worker.kill(while_moving=is_first and worker.leads)
        await worker.start()
        await worker.ready()

    async def _freeze(self, worker: Worker, at: float, stop: asyncio.Event) -> None:
        await self._until(lambda: self._after(at) and worker.is_at_work, stop)
        if not stop.is_set():
            await worker.freeze(frozen_for(self._seconds), stop, lambda: self._moves)

    def _after(self, share: float) -> bool:
        return monotonic() - self._began >= share * self._seconds

    async def _until(self, holds: Callable[[], bool], stop: asyncio.Event) -> None:
        while not (holds() or stop.is_set()):
            await pause(stop, LOOK_EVERY)

    async def stop(self) -> None:
        """Let them finish what they are doing, and hear their last words."""
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None

    async def _read(self) -> None:
        while True:
            for worker in self.workers:
                worker.read()
            await asyncio.sleep(_READ_EVERY)
