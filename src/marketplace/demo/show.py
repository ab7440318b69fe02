"""The run: set the scene, let the traffic flow while the models walk, stop, and look at what is left."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from rich.console import Console
from sqlalchemy import Table

from crossfade.engine.launcher import EngineKind
from crossfade.errors import ConfigurationError
from crossfade.events import Observers, Role
from crossfade.flags.files import FileFlags
from crossfade.logs import StructlogObserver, configure_logging
from crossfade.metrics import PrometheusObserver, serve
from crossfade.migration import Migration
from crossfade.paths import Path as SidePath
from crossfade.paths.prisma import PrismaPath
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from crossfade.repository import Repository, RepositorySettings
from crossfade.settings import Settings
from crossfade.stages import Side
from marketplace.client import MarketplaceClient
from marketplace.demo.board import Board
from marketplace.demo.breaks import BREAKS, BrokenPath
from marketplace.demo.options import Options
from marketplace.demo.rows import compare_stores, read_noted
from marketplace.demo.stores import CLIENT_PACKAGE, Databases, Stores, open_stores
from marketplace.demo.tally import Tally
from marketplace.demo.verdict import Verdicts, show, write_json
from marketplace.demo.walk import Walk
from marketplace.journal import Journal
from marketplace.models import MODELS, Base
from marketplace.population import Population
from marketplace.records import RECORDS
from marketplace.subjects import SUBJECTS
from marketplace.workload import Workload

_DRAIN_SECONDS = 60.0
_DRAIN_SECONDS_WHEN_BROKEN = 5.0
"""A follower that writes wrong rows never gets level; there is no use in waiting for it."""
_PIPE_WIDTH = 120

LOG_NAME: Final = "demo.log"


async def run_demo(options: Options) -> bool:
    """Run the demo and return whether everything was as it should be.

    Raises:
        OperatorError: the scene cannot be set.
    """
    databases = _databases(options)
    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise ConfigurationError(f"cannot write {options.json}: there is no such directory")
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
    directory = Path(tempfile.mkdtemp(prefix="crossfade-demo-"))
    is_worth_keeping = False
    try:
        with _logging(console, directory):
            _end_on_sigterm()
            ok = await _Demo(options, console, directory).run(databases)
        is_worth_keeping = console.is_terminal and not ok
    finally:
        if is_worth_keeping:
            console.print(f"log: {directory / LOG_NAME}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return ok


class _Demo:
    """One run. `directory` holds its flags and its log."""

    def __init__(self, options: Options, console: Console, directory: Path) -> None:
        self._options = options
        self._console = console
        self._directory = directory
        self._tally = Tally(SUBJECTS)
        self._board = Board(console, self._tally, options.seconds)
        self._timings: dict[str, float] = {}

    async def run(self, databases: Databases | None) -> bool:
        """Set the scene, play, and clear everything away, whatever happens."""
        async with AsyncExitStack() as stack:
            with self._timed("setup"):
                scene = open_stores(self._options, databases, self._directory, self._board.step)
                stores = await stack.enter_async_context(scene)
                metrics = PrometheusObserver.for_schema(stores.schema)
                logs = StructlogObserver()
                stack.callback(logs.close)
                observers = Observers(self._tally, metrics, logs)
                address = stack.enter_context(serve(self._options.metrics_port, metrics.registry))
                with self._board.step("starting Prisma's engine and the repository"):
                    flags = FileFlags(stores.flags, stores.schema.models, observers)
                    paths = self._paths(stores)
                    # The rows were copied before the traffic starts, so what is written at `off` has to follow as well.
                    settings = RepositorySettings(capture_at_off=True)
                    migration = Migration(stores.schema, paths, flags, observer=observers, settings=settings)
                    await stack.enter_async_context(migration)
            _watch(metrics, migration.repository)
            self._board.say(f"metrics: {address}   flags: {stores.flags}")
            if stores.engine.kind is EngineKind.WASM:
                self._board.say(
                    "Prisma's engine runs from its WASM build here; its times are not the native engine's."
                )
            verdicts = await self._perform(stores, migration)
            show(verdicts, self._console)
            if self._options.json is not None:
                write_json(verdicts, self._options.json)
            if self._options.keep:
                await self._keep(stores, address)
        return verdicts.ok

    def _paths(self, stores: Stores) -> dict[Side, SidePath]:
        tables = {name: _table(model) for name, model in MODELS.items()}
        new: SidePath = SqlAlchemyPath(stores.schema, tables, RECORDS, stores.target)
        if self._options.defect is not None:
            new = BrokenPath(new, BREAKS[self._options.defect])
        old = PrismaPath.open(stores.schema, RECORDS, CLIENT_PACKAGE, stores.legacy.prisma_url())
        return {Side.PRISMA: old, Side.SQLALCHEMY: new}

    async def _perform(self, stores: Stores, migration: Migration) -> Verdicts:
        schema, repository = stores.schema, migration.repository
        start = await read_noted(stores.legacy, schema)
        journal = Journal(start)
        known = Population(random.Random(self._options.seed), start, journal)  # noqa: S311 - traffic, not secrets
        client = MarketplaceClient(repository)
        workload = Workload(schema, client, known, journal, rate=self._options.rate)
        walk = Walk(schema, migration, stores.flags, self._tally, self._options.seconds)
        self._tally.restart_clock()
        with self._timed("traffic"):
            await self._traffic(workload, walk, _Gauges(repository, workload))
        with self._timed("drain"), self._board.step("letting the followers catch up"):
            broken = any(model.mismatched for model in self._tally.models.values())
            drained = await repository.drain(_DRAIN_SECONDS_WHEN_BROKEN if broken else _DRAIN_SECONDS)
            await repository.shadow.drain()
        with self._timed("compare"), self._board.step("comparing every row of both stores") as detail:
            tables = await compare_stores(schema, stores.legacy, stores.target)
            detail(f"{sum(table.rows for table in tables.values()):,} rows")
        with (
            self._timed("journal"),
            self._board.step("asking both stores for every acknowledged write") as detail,
        ):
            findings = {
                Side.PRISMA: journal.verify(await read_noted(stores.legacy, schema)),
                Side.SQLALCHEMY: journal.verify(await read_noted(stores.target, schema)),
            }
            detail(f"{journal.acknowledged:,} writes")
        return Verdicts(
            self._options,
            self._tally.models,
            tables,
            findings,
            workload.account,
            journal.acknowledged,
            walk.held,
            drained,
            self._timings,
        )

    async def _traffic(self, workload: Workload, walk: Walk, gauges: _Gauges) -> None:
        """Let the traffic flow until the walk is over, and for as many seconds as were asked for."""
        stop = asyncio.Event()
        async with _background(self._board.run(gauges)), asyncio.TaskGroup() as group:
            group.create_task(workload.run(stop))
            await asyncio.gather(walk.run(), asyncio.sleep(self._options.seconds))
            stop.set()

    async def _keep(self, stores: Stores, address: str) -> None:
        say = self._board.say
        say(f"Everything goes on running until Ctrl-C. Metrics: {address}   flags: {stores.flags}")
        if stores.server is not None:
            passwords = self._directory / "pgpass"
            passwords.touch(mode=0o600)
            passwords.write_text(f"*:*:*:{stores.legacy.user}:{stores.legacy.password}\n", encoding="utf-8")
            for what, dsn in (("legacy", stores.legacy), ("target", stores.target)):
                url = dsn.libpq_url(with_password=False)
                say(f"{what}: PGPASSFILE={passwords} {stores.server.psql} '{url}'")
        await _end_asked_for()

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = perf_counter()
        yield
        self._timings[name] = perf_counter() - began


class _Gauges:
    """What the board shows of the repository and the workload."""

    def __init__(self, repository: Repository, workload: Workload) -> None:
        self._repository = repository
        self._workload = workload

    def queues(self) -> tuple[int, int, int]:
        repository = self._repository
        return len(repository.queue), len(repository.shadow), len(repository.capture.suspects)

    def failures(self) -> int:
        return self._workload.account.failures.total()


def _watch(metrics: PrometheusObserver, repository: Repository) -> None:
    metrics.watch_queue(Role.FOLLOWER, lambda: len(repository.queue))
    metrics.watch_queue(Role.SHADOW, lambda: len(repository.shadow))
    metrics.watch_dirty_keys(lambda: len(repository.capture.suspects))
    for name, stage in repository.stages().items():
        metrics.place(name, stage)
        metrics.request(name, stage)


def _databases(options: Options) -> Databases | None:
    """The databases that the options or the environment name; None for embedded ones.

    Raises:
        ConfigurationError: one of them is missing, cannot be read, or is the same as the other.
    """
    named = {"CROSSFADE_LEGACY_DSN": options.legacy_dsn, "CROSSFADE_TARGET_DSN": options.target_dsn}
    given = {name: url for name, url in named.items() if url is not None}
    # The demo is about two stores, whatever the application here is set up for.
    settings = Settings.from_environment({**os.environ, "CROSSFADE_TOPOLOGY": "separate", **given})
    if settings.legacy_dsn is None or settings.target_dsn is None:
        return None
    return settings.legacy_dsn, settings.target_dsn


@contextmanager
def _logging(console: Console, directory: Path) -> Iterator[None]:
    """Log lines would tear the live board apart: with a terminal they go to a file."""
    if not console.is_terminal:
        configure_logging()
        yield
        return
    with (directory / LOG_NAME).open("a", encoding="utf-8") as file:
        configure_logging(stream=file)
        yield


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _table(model: type[Base]) -> Table:
    table = model.__table__
    assert isinstance(table, Table)
    return table


def _end_on_sigterm() -> None:
    """Let SIGTERM end the demo as Ctrl-C does: everything that was started is stopped."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def _end_asked_for() -> None:
    """Wait for Ctrl-C or SIGTERM. A second Ctrl-C interrupts as ever."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    try:
        await asked.wait()
    finally:
        loop.remove_signal_handler(signal.SIGINT)
