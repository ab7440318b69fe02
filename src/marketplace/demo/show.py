"""The run: set the scene, let the traffic flow, bring crossfade in, let the models walk, and look at what is left."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Final

from rich.console import Console

from crossfade.backfill.backfill import Backfill
from crossfade.covering import settling
from crossfade.engine.launcher import EngineKind
from crossfade.errors import ConfigurationError
from crossfade.events import Observers, Role
from crossfade.logs import StructlogObserver, configure_logging
from crossfade.metrics import PrometheusObserver, serve
from crossfade.migration import Migration
from crossfade.schema import Schema
from crossfade.settings import Settings
from crossfade.stages import Side, Stage, has_begun
from crossfade.store.install import install, uninstall
from crossfade.store.record import Record
from crossfade.verify.verify import Verify
from marketplace.demo.application import Application
from marketplace.demo.board import Board
from marketplace.demo.broken import Fault
from marketplace.demo.chronicle import read_chronicle
from marketplace.demo.desk import Desk
from marketplace.demo.harm import Harm
from marketplace.demo.options import Options
from marketplace.demo.report import show
from marketplace.demo.rows import compare_stores, read_noted
from marketplace.demo.stores import Databases, Stores, open_stores
from marketplace.demo.tally import Tally
from marketplace.demo.thresholds import notice
from marketplace.demo.traffic import Traffic
from marketplace.demo.verdict import Verdicts, write_json
from marketplace.demo.walk import Course, Walk
from marketplace.subjects import SUBJECTS

_DRAIN_SECONDS = 60.0
_PIPE_WIDTH = 120
_BY: Final = "demo"

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
    """One run. `directory` holds its flags, its journals and its log."""

    def __init__(self, options: Options, console: Console, directory: Path) -> None:
        self._options = options
        self._console = console
        self._directory = directory
        self._tally = Tally(SUBJECTS)
        self._harm = Harm(options.defect, late=options.late)
        self._fault: Fault | None = None
        if options.defect is not None:
            self._fault = Fault(options.defect, directory / "fault" if self._harm.is_late else None)
        self._board = Board(console, self._tally, options.seconds)
        self._timings: dict[str, float] = {}

    async def run(self, databases: Databases | None) -> bool:
        """Set the scene, play, and clear everything away, whatever happens."""
        async with AsyncExitStack() as stack:
            with self._timed("setup"):
                scene = open_stores(self._options, databases, self._directory, self._board.step)
                stores = await stack.enter_async_context(scene)
                application = Application(
                    stores.schema, stores.legacy, stores.target, stores.flags, self._fault, stores.unleash
                )
                metrics = PrometheusObserver.for_schema(stores.schema)
                logs = StructlogObserver()
                stack.callback(logs.close)
                observers = Observers(self._tally, self._harm, metrics, logs)
                address = stack.enter_context(serve(self._options.metrics_port, metrics.registry))
                with self._board.step("starting Prisma's engine and the traffic"):
                    traffic = Traffic(
                        application,
                        self._options,
                        self._directory,
                        self._tally,
                        observers,
                        Observers(self._tally, self._harm, logs),  # metrics are those of one process
                        self._harm,
                    )
                    await stack.enter_async_context(traffic)
            self._board.say(f"metrics: {address}   flags: {_place_of(stores)}")
            self._board.say(notice(self._options.seconds))
            if stores.engine.kind is EngineKind.WASM:
                self._board.say(
                    "Prisma's engine runs from its WASM build here; its times are not the native engine's."
                )
            with self._timed("introduction"):
                migration = await self._introduce(application, traffic)
                self._watch(metrics, migration)
            verdicts = await self._perform(application, traffic, migration, stores.desk)
            show(verdicts, self._console)
            if self._options.json is not None:
                write_json(verdicts, self._options.json)
            if self._options.keep:
                await self._keep(stores, address)
            await traffic.close()
            with self._board.step("removing crossfade's objects from both stores"):
                for store in application.stores().values():
                    async with store:
                        await uninstall(store, force=True)  # it is over: nobody uses it any more
        return verdicts.ok

    async def _introduce(self, application: Application, traffic: Traffic) -> Migration:
        """Bring crossfade into a running application: install, copy, and release it to one process after the other."""
        step = self._board.step
        with step("installing capture and fence in both stores, under traffic"):
            for store in application.stores().values():
                async with store:
                    await install(store, by=_BY)
        await traffic.fleet.start()
        await self._bring_over(application)
        with step("releasing crossfade to every process, under traffic"):
            await traffic.fleet.ready()  # a worker is the first, and so it leads
            return await traffic.release()

    async def _bring_over(self, application: Application) -> None:
        """Copy and verify what was there before capture: the gates let no model be read from the target before that."""
        step, by, logs = self._board.step, _BY, StructlogObserver()
        async with AsyncExitStack() as stack:
            stack.callback(logs.close)
            stores = application.stores()
            for store in stores.values():
                await stack.enter_async_context(store)
            reconciler = await stack.enter_async_context(settling(stores, logs))
            with step("backfilling the target store from the legacy store, under traffic") as detail:
                tables = await Backfill(stores, reconciler, logs, by=by).run()
                rows, chunks = (
                    sum(table.rows_written for table in tables),
                    sum(table.chunks for table in tables),
                )
                detail(f"{rows:,} rows in {chunks:,} chunks")
            with step("verifying every row in both stores, under traffic") as detail:
                reports = await Verify(stores, reconciler, logs, by=by).run()
                unclean = [
                    f"{report.model} is {report.state}" for report in reports if report.state != "clean"
                ]
                detail(", ".join(unclean) or f"{sum(report.rows for report in reports):,} rows, none differs")

    def _watch(self, metrics: PrometheusObserver, migration: Migration) -> None:
        """Show where the record places the models, whichever process has moved them."""
        repository, models = migration.repository, self._tally.models

        def place(record: Record) -> None:
            if record.model in models:
                metrics.place(record.model, record.stage)
                self._harm.place(record)
                self._tally.place(record.model, record.stage)

        metrics.watch_queue(Role.FOLLOWER, lambda: len(repository.queue))
        metrics.watch_queue(Role.SHADOW, lambda: len(repository.shadow))
        for record in migration.view.records.values():
            self._harm.place(record)
        for name, stage in repository.stages().items():
            metrics.place(name, stage)
            metrics.request(name, stage)
            self._tally.place(name, stage)
        migration.view.on_change(place)

    async def _perform(
        self, application: Application, traffic: Traffic, migration: Migration, desk: Desk
    ) -> Verdicts:
        schema, repository = application.schema, migration.repository
        course = Course.THERE if self._options.fleet is None else Course.THERE_AND_BACK
        walk = Walk(
            schema,
            repository,
            desk,
            self._tally,
            self._harm,
            self._options.seconds,
            Course.TO_A_FAULT if self._harm.is_late else course,
            None if self._fault is None else self._fault.since,
        )
        self._tally.restart_clock()
        with self._timed("traffic"):
            await traffic.flow(self._board, walk.run())
        ended = dict(repository.stages())
        if course is Course.THERE_AND_BACK and not walk.held:
            with (
                self._timed("settle"),
                self._board.step("bringing all models to dualwrite again, to compare both stores"),
            ):
                await walk.settle()
        with self._timed("drain"), self._board.step("letting the followers catch up"):
            drained = await repository.drain(_DRAIN_SECONDS)
            await repository.shadow.drain()
            unsettled = [] if drained else await migration.reconciler.problems(schema.models)
        with self._timed("compare"), self._board.step("comparing every row of both stores") as detail:
            tables = await compare_stores(schema, application.legacy, application.target)
            apart = _apart(schema, repository.stages())
            tables = {name: table for name, table in tables.items() if name not in apart}
            detail(f"{sum(table.rows for table in tables.values()):,} rows")
        journal = traffic.journal
        with (
            self._timed("journal"),
            self._board.step("asking both stores for every acknowledged write") as detail,
        ):
            findings = {
                Side.PRISMA: journal.verify(await read_noted(application.legacy, schema)),
                Side.SQLALCHEMY: [
                    finding
                    for finding in journal.verify(await read_noted(application.target, schema))
                    if finding.model not in apart
                ],
            }
            chronicle = await read_chronicle(schema, application.stores(), self._tally.began_at)
            detail(f"{journal.acknowledged:,} writes")
        for name, moves in chronicle.moves.items():
            self._tally.models[name].moves = moves
        return Verdicts(
            self._options,
            self._harm,
            self._tally.models,
            ended,
            tables,
            findings,
            traffic.account,
            traffic.figures(),
            chronicle,
            walk.held,
            drained,
            unsettled,
            self._timings,
        )

    async def _keep(self, stores: Stores, address: str) -> None:
        say = self._board.say
        say(f"Everything goes on running until Ctrl-C. Metrics: {address}   flags: {_place_of(stores)}")
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


def _place_of(stores: Stores) -> str:
    """Where a person can change the flags."""
    if stores.unleash is None:
        return str(stores.flags)
    return f"{stores.unleash.url}/projects/default (Unleash; whoever opens it is its administrator)"


def _apart(schema: Schema, stages: Mapping[str, Stage]) -> set[str]:
    """The tables of models that are at `off`, where nothing is carried over, and of relations between such."""
    apart = {name for name, stage in stages.items() if not has_begun(stage)}
    return apart | {
        relation.relation for name in apart for relation in schema.models[name].relations.values()
    }


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
