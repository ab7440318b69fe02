"""Copy the history of models from the legacy store to the target, while the application writes.

Theory of operation: see `crossfade.backfill`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable, Mapping
from secrets import token_hex

from crossfade.backfill.chunks import Chunks
from crossfade.backfill.frontiers import Frontiers
from crossfade.backfill.job import At, Job, nowhere
from crossfade.backfill.pace import Pace, Unhurried
from crossfade.backfill.plan import (
    PlannedTable,
    chosen_tables,
    installed_since,
    plan_tables,
    refuse_blocked,
)
from crossfade.backfill.progress import TableProgress, read_progress
from crossfade.backfill.settings import BackfillSettings
from crossfade.backfill.worker import Worker
from crossfade.errors import BackfillError
from crossfade.events import NullObserver, Observer
from crossfade.reconcile import Reconciler
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.crossing import Crossing, read_crossings

_LAST_DRAIN = 2.0
"""How many seconds the keys that came in last are drained, while writers may go on."""


class Backfill:
    """Copies models. Any number of them may work on the same stores, in any number of processes.

    Args:
        stores: both.
        reconciler: verifies the captured keys at the end; it must take the legacy store for the authority over the
            models, at `off` as well.
        observer: hears of every chunk.
        settings: bounds.
        by: who asks, for the record.
        throttle: holds the chunks back.
        at: awaited at every `CopyPoint`, for tests.
    """

    def __init__(
        self,
        stores: Mapping[Side, Store],
        reconciler: Reconciler,
        observer: Observer | None = None,
        settings: BackfillSettings | None = None,
        *,
        by: str = "",
        throttle: Pace | None = None,
        at: At = nowhere,
    ) -> None:
        self._stores = stores
        self._reconciler = reconciler
        self._observer = observer or NullObserver()
        self._settings = settings or BackfillSettings()
        self._by = by
        self._pace = throttle or Unhurried()
        self._at = at
        self._checked = True

    async def plan(self, models: Iterable[str] | None = None) -> list[PlannedTable]:
        """Say what `run` would do: the tables in order, with what stands in the way.

        Raises:
            InstallError: crossfade is not installed in a store, or the tables do not match.
            StoreUnavailableError: a store does not answer.
            UnknownModelError: the schema has no such model.
        """
        crossings = await self._open()
        return await plan_tables(self._stores, crossings, None if models is None else list(models))

    async def run(self, models: Iterable[str] | None = None) -> list[TableProgress]:
        """Copy every row of `models` (of all, by default), and have the captured keys verified.

        It goes on where anybody has stopped, and returns when everything is done, by whomever.

        Raises:
            BackfillError: something stands in the way, or rows are left that cannot be copied. What has been copied
                stays.
            InstallError: crossfade is not installed in a store, or the tables do not match.
            StoreUnavailableError: a store does not answer.
            UnknownModelError: the schema has no such model.
        """
        crossings = await self._open()
        planned = await plan_tables(self._stores, crossings, None if models is None else list(models))
        refuse_blocked(planned)
        job = Job(
            stores=self._stores,
            crossings=crossings,
            models=[table.model for table in planned],
            settings=self._settings,
            observer=self._observer,
            pace=self._pace,
            at=self._at,
            checked=self._checked,
        )
        await self._prepare(job, planned)
        await self._work(job)
        unsettled = await self._settle(sorted({table.owner for table in planned}))
        found = await read_progress(self._stores[Side.SQLALCHEMY], job.models)
        for table in found:
            if table.failed:
                raise BackfillError(
                    table.owner,
                    f"{table.failed} rows of {table.model} are refused by the target ({'; '.join(table.problems)});"
                    " correct them in the legacy store and run it again",
                )
        if unsettled is not None:
            raise unsettled
        return found

    async def progress(self, models: Iterable[str] | None = None) -> list[TableProgress]:
        """How far the tables of `models` are, those that have not begun aside; by whomever they are copied."""
        crossings = await self._open()
        return await read_progress(self._stores[Side.SQLALCHEMY], chosen_tables(crossings, models))

    async def pause(self, models: Iterable[str] | None = None) -> list[str]:
        """Have all workers everywhere leave these models alone once their chunks are copied; return which tables."""
        return await self._set_paused(models, paused=True)

    async def resume(self, models: Iterable[str] | None = None) -> list[str]:
        """Have the workers that wait go on; return with which tables."""
        return await self._set_paused(models, paused=False)

    async def _set_paused(self, models: Iterable[str] | None, *, paused: bool) -> list[str]:
        tables = chosen_tables(await self._open(), models)
        target = self._stores[Side.SQLALCHEMY]
        async with target.transaction() as connection:
            return await Frontiers(target, Chunks(target)).pause(connection, tables, paused=paused)

    async def _open(self) -> dict[str, Crossing]:
        for store in self._stores.values():
            await store.open()
            await store.check_installed()
        return read_crossings(self._stores)

    async def _prepare(self, job: Job, planned: list[PlannedTable]) -> None:
        legacy, target = self._stores[Side.PRISMA], self._stores[Side.SQLALCHEMY]
        async with legacy.transaction() as connection:
            since = await installed_since(connection, legacy)
        async with target.transaction() as connection:
            await job.frontiers.prepare(connection, planned, since, self._settings.first_chunk, self._by)

    async def _work(self, job: Job) -> None:
        here = f"{socket.gethostname()}:{os.getpid()}:{token_hex(2)}"
        workers = [Worker(job, f"{here}:{n + 1}") for n in range(max(1, self._settings.workers))]
        working = [asyncio.create_task(worker.run(), name="backfill") for worker in workers]
        try:
            await asyncio.wait(working, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in working:
                task.cancel()
            await asyncio.wait(working)
        for task in working:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _settle(self, owners: list[str]) -> BackfillError | None:
        """Bring level what was captured meanwhile, and what was noted; return what stands in the way."""
        if await self._reconciler.catch_up(owners, self._settings.settle_deadline):
            await self._reconciler.drain(owners, _LAST_DRAIN)
            return None
        problems = await self._reconciler.problems(owners)
        if problems:
            listed = "; ".join(f"{found.count} × {found.problem}" for found in problems)
            return BackfillError(
                problems[0].model,
                f"everything is copied, but captured keys cannot be brought level: {listed};"
                " look at crossfade.change for them, correct them in the legacy store and run it again",
            )
        return BackfillError(
            ", ".join(owners),
            f"everything is copied, but the captured keys were not all verified within"
            f" {self._settings.settle_deadline:g} s; run it again to go on",
        )
