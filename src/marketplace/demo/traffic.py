"""Everybody who writes to the stores in the course of the show, from its first moment to its last.

This process, first without crossfade and then with it; other processes, which are killed or frozen; a script with SQL
of its own; and new code that uses sessions. All that was acknowledged to any of them is in one journal.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from crossfade.events import Observer
from crossfade.migration import Migration
from crossfade.repository import Repository
from crossfade.stages import Side, has_moved
from marketplace.bystanders import SessionWriter, SqlScript
from marketplace.calls import Account
from marketplace.client import Front, MarketplaceClient
from marketplace.db import Database
from marketplace.demo.application import Application
from marketplace.demo.board import Board
from marketplace.demo.fleet import Fleet, parts
from marketplace.demo.harm import Harm
from marketplace.demo.leading import LeadingProcess
from marketplace.demo.options import Options
from marketplace.demo.rows import read_noted
from marketplace.demo.tally import Tally
from marketplace.demo.worker import Order
from marketplace.demo.workers import Fate
from marketplace.journal import Journal
from marketplace.journal_file import rows_to_json
from marketplace.population import Population
from marketplace.workload import Workload

# Shares of the rate. What is left of it is shared out among the workers.
_HERE = 0.55
_SCRIPT = 0.1
_SESSIONS = 0.05

_SCRIPT_SHARE: Final = 14
_SESSION_SHARE: Final = 15


class Process(NamedTuple):
    """One process of the application, with the process ids of its lives."""

    name: str
    pids: Sequence[int]
    account: Account
    fate: Fate


class Figures(NamedTuple):
    """What the end table says of the traffic beside its calls."""

    acknowledged: int
    unknown: int
    script: int
    sent_on: int
    sessions: int
    processes: Sequence[Process]

    @property
    def kills(self) -> int:
        """How often a process was killed."""
        return sum(process.fate.killed for process in self.processes)

    @property
    def kills_while_moving(self) -> int:
        """How often a process was killed while it conducted a move."""
        return sum(process.fate.killed_while_moving for process in self.processes)

    @property
    def in_flight(self) -> int:
        """How many writes were under way when their process was killed."""
        return sum(process.fate.in_flight for process in self.processes)


class Traffic:
    """The traffic of one run. It begins with the block, and ends with `flow`.

    `observer` hears the facts of this process, `other` those of the others; `harm` hears of spoilt answers.
    """

    journal: Journal
    fleet: Fleet

    def __init__(
        self,
        application: Application,
        options: Options,
        directory: Path,
        tally: Tally,
        observer: Observer,
        other: Observer,
        harm: Harm,
    ) -> None:
        self._application = application
        self._options = options
        self._directory = directory
        self._tally = tally
        self._observer = observer
        self._other = other
        self._harm = harm
        self._is_fleet = options.fleet is not None
        self._here = 1 / options.fleet if options.fleet else _HERE
        self.conductor: LeadingProcess | None = None
        """The process that only conducts, where there is one."""
        self._own = Account()
        self._prisma = application.prisma()
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()
        self._migration: Migration | None = None
        self._repository: Repository | None = None
        self._script: SqlScript | None = None
        self._sessions: SessionWriter | None = None

    async def __aenter__(self) -> Self:
        application, options = self._application, self._options
        await self._prisma.connect()
        self._stack.push_async_callback(self._prisma.close)
        start = await read_noted(application.legacy, application.schema)
        self.journal = Journal(start)
        file = self._directory / "start.json"
        await asyncio.to_thread(file.write_text, json.dumps(rows_to_json(start)))
        order = Order(
            self._directory / "worker.jsonl",
            file,
            application.flags,
            share=0,
            seed=options.seed,
            rate=options.rate * (1 - self._here),
            conducts=not self._is_fleet,
            fault=application.fault,
            unleash=application.unleash,
        )
        rng = random.Random(options.seed)  # noqa: S311 - traffic, not secrets
        self.fleet = Fleet(
            application,
            order,
            parts((options.fleet or 2) - 1, is_fleet=self._is_fleet),
            self._directory,
            self.journal,
            self._tally,
            self._other,
            self._harm,
            rng,
        )
        self._stack.push_async_callback(self.fleet.stop)
        before = application.before(self._prisma, self._observer)
        await self._stack.enter_async_context(before)
        self._front = Front(MarketplaceClient(before))
        workload = Workload(
            application.schema,
            self._front,
            self._population(0),
            self.journal,
            rate=options.rate * self._here,
            account=self._own,
        )
        self._spawn(workload.run(self._stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End everything that still runs: first whoever writes, then what they write through."""
        self._stop.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def _population(self, share: int) -> Population:
        rng = random.Random(self._options.seed + share)  # noqa: S311
        return Population(rng, self.journal.start, self.journal, share)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def release(self) -> Migration:
        """Exchange this process's client for one with crossfade in it, and let the others write as well."""
        application, schema = self._application, self._application.schema
        if self._is_fleet:
            conductor = LeadingProcess(application, self._directory, self._other)
            self.conductor = await self._stack.enter_async_context(conductor)
        migration = application.migration(
            self._prisma,
            self._observer,
            conduct=not self._is_fleet,
            spoilt=self._harm.note,
        )
        await self._stack.enter_async_context(migration)
        # What was begun with the old client ends with it; the engine is the same.
        self._front.client = MarketplaceClient(migration.repository)
        self._migration, self._repository = migration, migration.repository
        stores = {Side.PRISMA: application.legacy, Side.SQLALCHEMY: application.target}
        database = await self._stack.enter_async_context(Database(application.target))
        self._script = SqlScript(schema, stores, self._population(_SCRIPT_SHARE), self.journal, self._own)
        self._sessions = SessionWriter(
            database,
            self._population(_SESSION_SHARE),
            self.journal,
            self._own,
            lambda model: has_moved(migration.repository.plan(model).stage),
        )
        self._spawn(self._script.run(self._stop, self._options.rate * _SCRIPT))
        self._spawn(self._sessions.run(self._stop, self._options.rate * _SESSIONS))
        return migration

    async def flow(self, board: Board, walk: Coroutine[Any, Any, None]) -> None:
        """Let it flow until the walk is over, and for as many seconds as were asked for; then stop everybody."""
        seconds = self._options.seconds
        assert self._migration is not None
        async with _background(board.run(self)):
            await asyncio.gather(
                walk,
                asyncio.sleep(seconds),
                self.fleet.run(self._stop, seconds, self._migration.view),
            )
            self._stop.set()
            await asyncio.gather(*self._tasks)
            await self.fleet.stop()

    # --- what came of it -------------------------------------------------------------------------------------------

    @property
    def account(self) -> Account:
        """What came of everybody's calls."""
        account = self._own + self.fleet.account
        account.failures += self.fleet.problems()
        if self.conductor is not None:
            account.failures += self.conductor.problems()
        return account

    def figures(self) -> Figures:
        """What came of everybody else."""
        assert self._script is not None
        assert self._sessions is not None
        here = Process("main", [os.getpid()], self._own, Fate())
        others = [
            Process(worker.name, worker.pids, worker.account, worker.fate) for worker in self.fleet.workers
        ]
        return Figures(
            self.journal.acknowledged,
            self.journal.unknown,
            self._script.writes,
            self._script.sent_on,
            self._sessions.writes,
            [here, *others],
        )

    def queues(self) -> tuple[int, int, int]:
        """Return how many follower writes, shadow reads and captured keys are waiting."""
        repository = self._repository
        keys = sum(model.lagging for model in self._tally.models.values())
        return (0, 0, keys) if repository is None else (len(repository.queue), len(repository.shadow), keys)

    def failures(self) -> int:
        """Return how many calls have failed that should not have."""
        return self.account.failures.total()

    def others(self) -> dict[str, str]:
        """Return what everybody else is doing who writes to the stores, by who it is."""
        said = {worker.name: worker.state for worker in self.fleet.workers}
        if self.conductor is not None:
            said["conductor"] = self.conductor.state
        if self._script is not None and self._sessions is not None:
            said["plain SQL"] = f"{self._script.writes} writes, {self._script.sent_on} sent on by a fence"
            said["sessions"] = f"{self._sessions.writes} writes"
        return said


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
