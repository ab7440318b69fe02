"""The second application process as the demo sees it: started, read from, killed without warning, started again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Final

from crossfade.embedded.process import Child
from crossfade.errors import EmbeddedError
from crossfade.events import Observer
from crossfade.store.view import RecordView
from marketplace.calls import Account
from marketplace.demo.application import Application
from marketplace.demo.facts import FACT, fact_from_json
from marketplace.demo.tally import Tally
from marketplace.demo.worker import ACCOUNT, DONE, LEADS, READY, Order
from marketplace.journal import Journal
from marketplace.journal_file import JournalReader, Line
from marketplace.workload import pause

KILLS: Final = 2

_READ_EVERY = 0.1
_LOOK_EVERY = 0.01
_STOP_SECONDS = 20.0
# Shares of the whole run.
_FIRST = (0.3, 0.5)
"""The first kill waits for a moment in the middle of a move that the worker conducts, between these."""
_SECOND = (0.6, 0.8)


class _Life:
    """One life of the worker."""

    def __init__(self, child: Child, reader: JournalReader) -> None:
        self.child = child
        self.reader = reader
        self.account = Account()
        self.is_ready = False
        self.leads = False
        self.is_done = False


class Workers:
    """Runs the worker, one life after the other, and carries what it tells over to the journal and the tally.

    Args:
        application: what it runs.
        order: what its first life is to do; every life has a share of its own.
        directory: takes its journals and its log.
        journal: takes its writes.
        tally: is told what happens to it.
        observer: hears its facts.
        rng: when it is killed.
    """

    def __init__(
        self,
        application: Application,
        order: Order,
        directory: Path,
        journal: Journal,
        tally: Tally,
        observer: Observer,
        rng: random.Random,
    ) -> None:
        self.kills = 0
        self.kills_while_moving = 0
        self.in_flight = 0
        """How many writes were under way when it was killed."""
        self._application = application
        self._order = order
        self._directory = directory
        self._journal = journal
        self._tally = tally
        self._observer = observer
        self._rng = rng
        self._lives: list[_Life] = []
        self._reading: asyncio.Task[None] | None = None

    @property
    def account(self) -> Account:
        """What came of its calls, in all its lives."""
        return sum((life.account for life in self._lives), Account())

    @property
    def state(self) -> str:
        """What it is doing, for the board."""
        life = self._lives[-1] if self._lives else None
        if life is None:
            return "not started"
        doing = "starts" if not life.is_ready else "leads" if life.leads else "works"
        return f"pid {life.child.pid} {doing}"

    @property
    def leads(self) -> bool:
        """Whether it conducts the moves."""
        return bool(self._lives) and self._lives[-1].leads

    async def start(self) -> None:
        """Start a life. It is ready some time later."""
        number = len(self._lives) + 1
        journal = self._directory / f"worker-{number}.jsonl"
        order = replace(
            self._order, journal=journal, share=self._order.share + number, seed=self._order.seed + number
        )
        child = await asyncio.to_thread(
            Child.start,
            [sys.executable, "-m", "marketplace.demo.worker"],
            env=order.environment(self._application.legacy, self._application.target),
            log_file=self._directory / "worker.log",
        )
        self._lives.append(_Life(child, JournalReader(journal, self._journal)))
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="worker-journal")

    async def ready(self) -> None:
        """Wait until the life that was started last takes part.

        Raises:
            EmbeddedError: it has ended.
        """
        life = self._lives[-1]
        while not life.is_ready:
            if life.child.poll() is not None:
                raise EmbeddedError(f"the second process does not start: {self._last_words()}")
            await asyncio.sleep(_LOOK_EVERY)

    async def run(self, stop: asyncio.Event, seconds: float, view: RecordView) -> None:
        """Kill it in the course of a run of `seconds`, and start it again."""
        began = monotonic()

        def after(share: float) -> bool:
            return monotonic() - began >= share * seconds

        def in_a_move() -> bool:
            moving = any(record.moving_to is not None for record in view.records.values())
            return after(_FIRST[0]) and ((self.leads and moving) or after(_FIRST[1]))

        moment = self._rng.uniform(*_SECOND)
        for holds in (in_a_move, lambda: after(moment)):
            while not (holds() or stop.is_set()):
                await pause(stop, _LOOK_EVERY)
            await pause(stop, self._rng.uniform(0.0, 0.05))
            while not (self._is_at_work() or stop.is_set()):
                await pause(stop, _LOOK_EVERY)
            if stop.is_set():
                return
            await self._kill(while_moving=holds is in_a_move and self.leads)
            await self.start()
            await self.ready()

    def _is_at_work(self) -> bool:
        life = self._lives[-1]
        self._take(life)
        return life.is_ready and life.reader.in_flight > 0

    async def _kill(self, *, while_moving: bool) -> None:
        life = self._lives[-1]
        os.kill(life.child.pid, signal.SIGKILL)
        await asyncio.to_thread(life.child.wait, _STOP_SECONDS)
        self._take(life)
        life.is_done = True
        life.leads = False
        self.kills += 1
        self.kills_while_moving += while_moving
        self.in_flight += life.reader.in_flight
        doing = " while it conducted a move" if while_moving else ""
        self._tally.note(f"worker killed{doing}, with {life.reader.in_flight} of its writes in flight")

    async def stop(self) -> None:
        """Let the last life finish what it is doing, and hear its last words."""
        if self._lives:
            life = self._lives[-1]
            await asyncio.to_thread(life.child.stop, _STOP_SECONDS)
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        for life in self._lives:
            self._take(life)

    def problems(self) -> Counter[tuple[str, str, str]]:
        """What went wrong with the process itself, as failures: it ended although nobody asked for it."""
        found: Counter[tuple[str, str, str]] = Counter()
        for life in self._lives:
            if life.is_ready and not life.is_done:
                found["worker", "process", self._last_words() or "ended by itself"] += 1
        return found

    async def _read(self) -> None:
        while True:
            for life in self._lives:
                self._take(life)
            await asyncio.sleep(_READ_EVERY)

    def _take(self, life: _Life) -> None:
        for line in life.reader.read():
            self._hear(life, line)

    def _hear(self, life: _Life, line: Line) -> None:
        match line:
            case [str(word), str(name), list(values)] if word == FACT:
                self._observer.observe(fact_from_json(name, values))
            case [str(word), int(reads), int(writes), dict(refusals), list(failures)] if word == ACCOUNT:
                failed = Counter({(model, call, error): n for model, call, error, n in failures})
                life.account = Account(reads, writes, Counter(refusals), failed)
            case [str(word), bool(leads)] if word == LEADS:
                life.leads = leads
            case [str(word)] if word == READY:
                life.is_ready = True
            case [str(word)] if word == DONE:
                life.is_done = True

    def _last_words(self) -> str:
        with suppress(OSError):
            lines = (self._directory / "worker.log").read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""
