"""What `crossfade backfill` does, once its options have been read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from time import monotonic

import asyncpg
import typer
from rich.console import Console

from crossfade.backfill.backfill import Backfill
from crossfade.backfill.deferred import defer, deferrable, listed, outstanding, restore
from crossfade.backfill.plan import PlannedTable, refuse_blocked
from crossfade.backfill.probe import Probe, oldest_captured
from crossfade.backfill.progress import TableProgress, read_progress
from crossfade.backfill.settings import BackfillSettings
from crossfade.backfill.throttle import Throttle
from crossfade.cli.backfill_report import (
    planned_as_json,
    progress_as_json,
    read_refused,
    show_plan,
    show_refused,
    show_tables,
    write_json,
)
from crossfade.cli.following import Standpoint, needed_stores, settling_on
from crossfade.cli.progress import Progress, showing, span
from crossfade.errors import BackfillError, StoreUnavailableError
from crossfade.events import ChunkCopied, Event, Observer, Observers
from crossfade.logs import StructlogObserver, configure_logging
from crossfade.metrics import PrometheusObserver, serve
from crossfade.schema import Schema
from crossfade.settings import Settings
from crossfade.stages import Side, has_begun
from crossfade.store import Store
from crossfade.store.store import LOST

_LOOK_SECONDS = 0.5
_DRAIN_SECONDS = 60.0


class Backfilling:
    """One run of the command: over which models, by whose order, and where the outcome is written."""

    def __init__(
        self,
        schema: Schema,
        models: Sequence[str],
        settings: BackfillSettings,
        by: str,
        json: Path | None,
    ) -> None:
        self._schema = schema
        self._models = list(models)
        self._settings = settings
        self._by = by
        self._json = json

    async def show_plan(self, *, defer_indexes: bool) -> None:
        """Show what would be done.

        Raises:
            typer.Exit: with 1, something is in the way.
        """
        async with self._standing() as at:
            planned = await Backfill(at.stores, at.reconciler).plan(self._models)
            would = await deferrable(_target(at), _to_copy(planned)) if defer_indexes else []
            off = await outstanding(_target(at), self._models)
        if self._is_for_people:
            show_plan(planned)
            if defer_indexes:
                typer.echo(f"{listed(would)} would come off the target's tables and be put back at the end")
            if off:
                typer.echo(f"{listed(off)} are off the target's tables and would be put back at the end")
        if self._json is not None:
            write_json({"tables": planned_as_json(planned)}, self._json)
        if any(table.blockers for table in planned):
            raise typer.Exit(1)

    async def show_status(self) -> None:
        """Show how far everything is, whoever works on it."""
        async with self._standing() as at:
            await self._show(at, {})
            off = await outstanding(_target(at), self._models)
        if off and self._is_for_people:
            typer.echo(f"{listed(off)} are off the target's tables: --restore-indexes puts them back")

    async def set_paused(self, *, paused: bool) -> None:
        """Have all processes wait, or go on."""
        async with self._standing() as at:
            backfill = Backfill(at.stores, at.reconciler)
            tables = await (backfill.pause(self._models) if paused else backfill.resume(self._models))
        if not tables:
            typer.echo("no table is being copied; nothing to do")
        elif paused:
            typer.echo(f"paused: {', '.join(tables)}; `crossfade backfill --resume` has them go on")
        else:
            typer.echo(f"going on: {', '.join(tables)}")

    async def restore(self) -> None:
        """Put back what was taken off the target's tables.

        Raises:
            BackfillError: something could not be put back; more than one thing: an ExceptionGroup.
        """
        _configure_logging()
        async with self._standing() as at:
            # A row whose parent was deleted meanwhile would be in the way of a foreign key.
            await at.reconciler.drain(self._models, _DRAIN_SECONDS)
            with showing("backfill") as progress:
                back = await self._put_back(at, progress)
        typer.echo(back or "nothing is off the target's tables; nothing to do")

    async def copy(self, metrics_port: int | None, *, defer_indexes: bool) -> None:
        """Copy the rows.

        Raises:
            BackfillError: something is in the way.
            typer.Exit: with 1, the target refuses some rows.
        """
        _configure_logging()
        began, back = monotonic(), ""
        with self._observing(metrics_port) as observer:
            async with self._standing(observer) as at:
                planned = await Backfill(at.stores, at.reconciler).plan(self._models)
                refuse_blocked(planned)
                async with self._throttled(at, planned, observer) as throttle:
                    with showing("backfill") as progress:
                        if defer_indexes and (models := _to_copy(planned)):
                            taken = await defer(_target(at), models)
                            progress.say(f"{listed(taken)} came off the target's tables until the end")
                        await self._run(at, planned, observer, throttle, progress)
                        refused = await read_refused(_target(at), [table.model for table in planned])
                        if not refused:
                            back = await self._put_back(at, progress)
                seconds = monotonic() - began
                await self._show(at, {"seconds": round(seconds, 3), "ok": not refused})
        if back and self._is_for_people:
            typer.echo(back)
        if refused:
            typer.echo(
                "crossfade: the target refuses rows; everything else is copied. `crossfade preflight` shows what is"
                " wrong with them: correct them in the legacy store and run this again",
                err=True,
            )
            raise typer.Exit(1)
        if self._is_for_people:
            typer.echo(f"everything is copied and level ({span(seconds)}); `crossfade verify` proves it")

    @property
    def _is_for_people(self) -> bool:
        return str(self._json) != "-"

    @asynccontextmanager
    async def _standing(self, observer: Observer | None = None) -> AsyncIterator[Standpoint]:
        async with settling_on(self._schema, needed_stores(self._schema), observer) as at:
            yield at

    @contextmanager
    def _observing(self, metrics_port: int | None) -> Iterator[Observer]:
        metrics = PrometheusObserver.for_schema(self._schema)
        # Bars and log lines on the same terminal would tear each other apart.
        logs = None if Console(stderr=True).is_terminal else StructlogObserver()
        observer: Observer = metrics if logs is None else Observers(metrics, logs)
        try:
            if metrics_port is None:
                yield observer
                return
            with serve(metrics_port, metrics.registry) as address:
                typer.echo(f"serving {address}", err=True)
                yield observer
        finally:
            if logs is not None:
                logs.close()

    @asynccontextmanager
    async def _throttled(
        self, at: Standpoint, planned: Sequence[PlannedTable], observer: Observer
    ) -> AsyncIterator[Throttle]:
        async def lag() -> float:
            records = at.view.records.values()
            begun = [record.model for record in records if has_begun(record.stage) and not record.final]
            return await oldest_captured(at.stores, begun)

        settings = self._settings
        async with AsyncExitStack() as stack:
            probe = None
            if settings.max_latency and _to_copy(planned):
                largest = max(planned, key=lambda table: table.size_bytes)
                probe = await stack.enter_async_context(
                    Probe(at.stores, at.stores[Side.PRISMA].tables[largest.model])
                )
            yield Throttle(
                observer,
                max_rate=settings.max_rate,
                max_lag=settings.max_lag,
                lag=lag,
                max_latency=settings.max_latency,
                gauge=probe,
            )

    async def _run(
        self,
        at: Standpoint,
        planned: Sequence[PlannedTable],
        observer: Observer,
        throttle: Throttle,
        progress: Progress,
    ) -> None:
        """Copy, and say how far everybody is; rows that the target refuses are told later."""
        last = _LastChunk()
        backfill = Backfill(
            at.stores,
            at.reconciler,
            Observers(observer, throttle, last),
            self._settings,
            by=self._by,
            throttle=throttle,
        )
        watch = asyncio.create_task(_watch(_target(at), planned, progress, throttle, last))
        try:
            await backfill.run(self._models)
        except BackfillError:
            if not await read_refused(_target(at), [table.model for table in planned]):
                raise
        finally:
            watch.cancel()
            await asyncio.wait([watch])

    async def _put_back(self, at: Standpoint, progress: Progress) -> str:
        """Put back what is off the tables; return what it was, in words."""

        def told(text: str) -> None:
            progress.note(f"putting back {text}")

        back = await restore(_target(at), self._models, told=told)
        return f"{listed(back)} are back on the target's tables" if back else ""

    async def _show(self, at: Standpoint, beside: dict[str, object]) -> None:
        """Show every table, and what was refused; write it, with what stands `beside`, to the file."""
        backfill = Backfill(at.stores, at.reconciler)
        planned = await backfill.plan(self._models)
        progress = await backfill.progress(self._models)
        refused = await read_refused(_target(at), [table.model for table in planned])
        if self._is_for_people:
            show_tables(planned, progress)
            if refused:
                show_refused(refused)
        if self._json is not None:
            write_json(beside | {"tables": progress_as_json(planned, progress)}, self._json)


class _LastChunk:
    """Remembers how large the last chunk was, for those who watch."""

    def __init__(self) -> None:
        self.rows = 0

    def observe(self, event: Event) -> None:
        """Take note of a chunk."""
        if isinstance(event, ChunkCopied) and event.rows_read:
            self.rows = event.rows_read


async def _watch(
    target: Store,
    planned: Sequence[PlannedTable],
    progress: Progress,
    throttle: Throttle,
    last: _LastChunk,
) -> None:
    """Tell how far the tables are, whoever works on them, until it is cancelled."""
    names = [table.model for table in planned if table.state != "done"]
    totals = {table.model: table.estimated for table in planned if table.model in names}
    is_started = False
    while True:
        # Whoever copies meets the same, and says it.
        with suppress(StoreUnavailableError, asyncpg.PostgresError, *LOST):
            tables = await read_progress(target, names)
            if not is_started:
                progress.start(totals, {table.model: table.rows_read for table in tables})
                is_started = True
            for table in tables:
                progress.reach(table.model, table.rows_read)
                if table.state == "done":
                    progress.finish(table.model)
            progress.note(_note(tables, throttle, last, is_all=len(tables) == len(names)))
        await asyncio.sleep(_LOOK_SECONDS)


def _note(tables: Sequence[TableProgress], throttle: Throttle, last: _LastChunk, *, is_all: bool) -> str:
    """What there is to say beside the figures."""
    open_ = [table for table in tables if table.state != "done"]
    if is_all and not open_:
        return "bringing level what was written meanwhile"
    workers = sum(table.workers for table in tables)
    said = [f"{workers} {'chunk' if workers == 1 else 'chunks'} in hand"] if workers else []
    if last.rows:
        said.append(f"{last.rows:,} rows each" if workers else f"chunks of {last.rows:,} rows")
    if open_ and all(table.is_paused for table in open_):
        said.append("paused: `crossfade backfill --resume` goes on")
    if throttle.why:
        said.append(throttle.why)
    waiting = sum(table.waiting for table in tables)
    if waiting:
        said.append(f"{waiting:,} rows wait for those that they refer to")
    refused = sum(table.failed for table in tables)
    if refused:
        said.append(f"{refused:,} refused")
    return ", ".join(said)


def _target(at: Standpoint) -> Store:
    return at.stores[Side.SQLALCHEMY]


def _to_copy(planned: Sequence[PlannedTable]) -> list[str]:
    """The models of which some table is not copied yet."""
    return list(dict.fromkeys(table.owner for table in planned if table.state != "done"))


def _configure_logging() -> None:
    if not Console(stderr=True).is_terminal:
        configure_logging(level=Settings.from_environment().log_level)
