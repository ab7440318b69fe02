"""One place of a fleet beside the demo's own process: a worker that is started, killed, frozen, and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

from crossfade.embedded.process import Child
from crossfade.errors import EmbeddedError
from crossfade.events import Observer
from marketplace.calls import Account
from marketplace.demo.application import Application
from marketplace.demo.facts import FACT, fact_from_json
from marketplace.demo.worker import ACCOUNT, DONE, LEADS, READY, SPOILT, Order
from marketplace.journal import Journal
from marketplace.journal_file import JournalReader, Line
from marketplace.workload import pause

LOOK_EVERY: Final = 0.01

_STOP_SECONDS = 20.0
_BACK_SECONDS = 30.0


class SpoiltNote(Protocol):
    """Takes note of spoilt answers; see `Harm.note`."""

    def __call__(self, model: str, *, served: bool, at: float | None = None) -> None:
        """Take note of one."""


@dataclass(slots=True)
class Fate:
    """What has happened to one process, beside its calls."""

    killed: int = 0
    killed_while_moving: int = 0
    in_flight: int = 0
    """How many of its writes were under way when it was killed."""
    frozen: float = 0.0
    """For how many seconds it was frozen."""
    frozen_in_flight: int = 0
    """How many of its writes were under way when it was frozen."""
    moved_meanwhile: int = 0
    """How many moves it has missed while it was frozen."""
    cold_at: float | None = None
    """When it was started for the first time, if that was in the middle of the run."""


class _Life:
    """One life of a worker."""

    def __init__(self, child: Child, reader: JournalReader) -> None:
        self.child = child
        self.reader = reader
        self.account = Account()
        self.is_ready = False
        self.leads = False
        self.is_done = False
        self.heard = 0


class Worker:
    """Runs one worker, one life after the other, and carries what it tells over to the journal and the observer.

    Args:
        name: what it is called.
        application: what it runs.
        order: what its lives are to do; every life has a share of its own, which `share` gives out.
        directory: takes its journals and its log.
        journal: takes its writes.
        observer: hears its facts.
        spoilt: hears of answers that a defect has spoilt.
        note: tells a spectator what happens to it.
    """

    def __init__(
        self,
        name: str,
        application: Application,
        order: Order,
        directory: Path,
        journal: Journal,
        observer: Observer,
        *,
        share: Callable[[], int],
        spoilt: SpoiltNote,
        note: Callable[[str], None],
    ) -> None:
        self.name = name
        self.fate = Fate()
        self._application = application
        self._order = order
        self._directory = directory
        self._journal = journal
        self._observer = observer
        self._share = share
        self._spoilt = spoilt
        self._note = note
        self._is_frozen = False
        self._lives: list[_Life] = []

    @property
    def account(self) -> Account:
        """What came of its calls, in all its lives."""
        return sum((life.account for life in self._lives), Account())

    @property
    def pids(self) -> list[int]:
        """The process ids of its lives."""
        return [life.child.pid for life in self._lives]

    @property
    def state(self) -> str:
        """What it is doing, for the board."""
        if not self._lives:
            return "not started"
        life = self._lives[-1]
        doing = "starts" if not life.is_ready else "leads" if life.leads else "works"
        text = f"pid {life.child.pid} {'frozen' if self._is_frozen else doing}"
        return f"{text}, killed {self.fate.killed} ×" if self.fate.killed else text

    @property
    def leads(self) -> bool:
        """Whether it conducts the moves."""
        return bool(self._lives) and self._lives[-1].leads

    @property
    def is_at_work(self) -> bool:
        """Whether it takes part, and has a write under way."""
        if not self._lives:
            return False
        life = self._lives[-1]
        self._take(life)
        return life.is_ready and life.reader.in_flight > 0

    async def start(self) -> None:
        """Start a life. It is ready some time later."""
        number, share = len(self._lives) + 1, self._share()
        journal = self._directory / f"{self.name}-{number}.jsonl"
        order = replace(
            self._order, name=self.name, journal=journal, share=share, seed=self._order.seed + share
        )
        child = await asyncio.to_thread(
            Child.start,
            [sys.executable, "-m", "marketplace.demo.worker"],
            env=order.environment(self._application),
            log_file=self._log,
        )
        self._lives.append(_Life(child, JournalReader(journal, self._journal)))

    async def ready(self) -> None:
        """Wait until the life that was started last takes part.

        Raises:
            EmbeddedError: it has ended.
        """
        life = self._lives[-1]
        while not life.is_ready:
            if life.child.poll() is not None:
                raise EmbeddedError(f"{self.name} does not start: {self._last_words()}")
            await asyncio.sleep(LOOK_EVERY)
            self._take(life)

    async def kill(self, *, while_moving: bool) -> None:
        """End it without warning."""
        life, fate = self._lives[-1], self.fate
        os.kill(life.child.pid, signal.SIGKILL)
        await asyncio.to_thread(life.child.wait, _STOP_SECONDS)
        self._take(life)
        life.is_done = True
        life.leads = False
        fate.killed += 1
        fate.killed_while_moving += while_moving
        fate.in_flight += life.reader.in_flight
        doing = " while it conducted a move" if while_moving else ""
        self._note(f"{self.name} killed{doing}, with {life.reader.in_flight} of its writes in flight")

    async def freeze(self, seconds: float, stop: asyncio.Event, moves: Callable[[], int]) -> None:
        """Freeze it for so long, and wait until it is at work again. `moves` counts what it misses."""
        life, fate = self._lives[-1], self.fate
        began, moved = monotonic(), moves()
        self._is_frozen = True
        os.kill(life.child.pid, signal.SIGSTOP)
        self._take(life)
        fate.frozen_in_flight += life.reader.in_flight
        self._note(f"{self.name} frozen, with {life.reader.in_flight} of its writes in flight")
        try:
            await pause(stop, seconds)
        finally:
            os.kill(life.child.pid, signal.SIGCONT)
            self._is_frozen = False
        frozen = monotonic() - began
        fate.frozen += frozen
        fate.moved_meanwhile += moves() - moved
        heard = life.heard
        with suppress(TimeoutError):
            async with asyncio.timeout(_BACK_SECONDS):
                while life.heard == heard and life.child.poll() is None:
                    await asyncio.sleep(LOOK_EVERY)
                    self._take(life)
        back = (monotonic() - began - frozen) * 1000
        self._note(f"{self.name} goes on after {frozen:.0f} s; it was at work again within {back:.0f} ms")

    async def stop(self) -> None:
        """Let the last life finish what it is doing, and hear its last words."""
        if self._lives:
            await asyncio.to_thread(self._lives[-1].child.stop, _STOP_SECONDS)
        self.read()

    def problems(self) -> Counter[tuple[str, str, str]]:
        """What went wrong with the process itself, as failures: it ended although nobody asked for it."""
        found: Counter[tuple[str, str, str]] = Counter()
        for life in self._lives:
            if life.is_ready and not life.is_done and life.child.poll() is not None:
                found[self.name, "process", self._last_words() or "ended by itself"] += 1
        return found

    def read(self) -> None:
        """Take over what its lives have told since."""
        for life in self._lives:
            self._take(life)

    def _take(self, life: _Life) -> None:
        for line in life.reader.read():
            life.heard += 1
            self._hear(life, line)

    def _hear(self, life: _Life, line: Line) -> None:
        match line:
            case [str(word), str(name), list(values)] if word == FACT:
                self._observer.observe(fact_from_json(name, values))
            case [str(word), int(reads), int(writes), dict(refusals), list(failures)] if word == ACCOUNT:
                failed = Counter({(model, call, error): n for model, call, error, n in failures})
                life.account = Account(reads, writes, Counter(refusals), failed)
            case [str(word), str(model), bool(served), float(at)] if word == SPOILT:
                self._spoilt(model, served=served, at=at)
            case [str(word), bool(leads)] if word == LEADS:
                life.leads = leads
            case [str(word)] if word == READY:
                life.is_ready = True
            case [str(word)] if word == DONE:
                life.is_done = True

    @property
    def _log(self) -> Path:
        return self._directory / f"{self.name}.log"

    def _last_words(self) -> str:
        with suppress(OSError):
            lines = self._log.read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""
