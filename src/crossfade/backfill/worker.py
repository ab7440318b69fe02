"""One worker: takes the next chunk that nobody has in hand, again and again.

Tables are begun parents first; one whose parents are still being copied is left alone, for its rows would have to wait.
What had to wait nevertheless is taken up again when everything else is copied, by one worker at a time, until that
brings nothing any more; then the reconciler gets the rest.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic

import asyncpg

from crossfade.backfill.carrier import Carrier
from crossfade.backfill.chunks import ChunkState
from crossfade.backfill.frontiers import TableState
from crossfade.backfill.job import Job
from crossfade.backfill.session import Fault, Session, fault_of
from crossfade.errors import BackfillError, StoreUnavailableError
from crossfade.events import BackfillThrottled
from crossfade.stages import Side
from crossfade.store.ranges import Key, cut
from crossfade.store.turns import Turn


class Worker:
    """Works until nothing is left to do in the tables of a job, whoever has done it."""

    def __init__(self, job: Job, name: str) -> None:
        self._job = job
        self._name = name
        self._session = Session(job.stores)
        self._carrier = Carrier(job, self._session, name)

    async def run(self) -> None:
        """Work.

        Raises:
            BackfillError: a table cannot be copied.
            StoreUnavailableError: a store does not answer for long.
        """
        settings, failures = self._job.settings, 0
        try:
            while True:
                try:
                    if await self._turn():
                        return
                    failures = 0
                except Exception as error:
                    is_unreachable = isinstance(error, StoreUnavailableError)
                    if not is_unreachable and fault_of(error) is not Fault.PASSING:
                        raise
                    failures += 1
                    if failures >= settings.attempts:
                        if is_unreachable:
                            raise
                        raise StoreUnavailableError(
                            self._where(), str(error) or type(error).__name__
                        ) from error
                    await asyncio.sleep(settings.backoff * 2 ** (failures - 1))
        finally:
            self._session.close()

    def _where(self) -> str:
        return " or ".join(store.where for store in self._job.stores.values())

    async def _turn(self) -> bool:
        """Do one thing, or wait for others to do theirs; return whether everything is done."""
        job = self._job
        states = await self._states()
        whole = [model for model, state in states.items() if state.is_whole and not state.is_done]
        if whole:
            await self._conclude(whole)
        open_ = [model for model in job.models if not states[model].is_over]
        if not open_:
            return True
        self._refuse_hopeless(states)
        free = [model for model in open_ if not states[model].is_paused]
        if not free:
            await self._wait_paused()
            return False
        due = [
            model
            for model in free
            if not states[model].is_copied and all(states[parent].is_copied for parent in job.earlier[model])
        ]
        orphans = [model for model in free if ChunkState.LANDED in states[model].counts]
        if orphans and await self._carrier.carry_next(orphans, [ChunkState.LANDED]):
            return False
        if due:
            job.sizes.setdefault(due[0], states[due[0]].chunk_rows)
            await job.pace.before(job.sizes[due[0]])
            if await self._carrier.carry_next(due, [ChunkState.PENDING]):
                return False
            for model in due:
                if not states[model].is_cut and await self._cut(model, states[model]):
                    return False
        elif all(states[model].is_copied for model in open_) and await self._revisit(open_):
            return False
        await asyncio.sleep(job.settings.poll)
        return False

    async def _states(self) -> dict[str, TableState]:
        async with self._session.transaction(Side.SQLALCHEMY) as target:
            states = await self._job.frontiers.states(target, self._job.models)
        for model in self._job.models:
            if model not in states:
                raise BackfillError(
                    self._job.crossings[model].owner, "what it has come to was removed meanwhile"
                )
        return states

    def _refuse_hopeless(self, states: dict[str, TableState]) -> None:
        for model, state in states.items():
            if state.counts.get(ChunkState.FAILED, 0) > self._job.settings.most_failed:
                raise BackfillError(
                    self._job.crossings[model].owner,
                    f"more than {self._job.settings.most_failed} rows are refused by the target;"
                    " `crossfade preflight` shows what is wrong with them",
                )

    async def _wait_paused(self) -> None:
        begun = monotonic()
        await asyncio.sleep(self._job.settings.poll)
        self._job.observer.observe(BackfillThrottled("paused", monotonic() - begun))

    async def _cut(self, model: str, state: TableState) -> bool:
        """Cut the next chunk of a table, for whoever takes it."""
        job = self._job
        rows = job.sizes.setdefault(model, state.chunk_rows)
        crossing = job.crossings[model]

        async def find(after: Key | None) -> Key | None:
            async with self._session.transaction(Side.PRISMA) as legacy:
                return await cut(legacy, crossing, Side.PRISMA, after, rows)

        async with self._session.transaction(Side.SQLALCHEMY) as target:
            return await job.frontiers.cut(target, model, rows, find)

    async def _revisit(self, models: list[str]) -> bool:
        """Copy chunks again whose rows had to wait; False if there are none, or somebody else is at it."""
        job, target = self._job, self._job.stores[Side.SQLALCHEMY]
        async with target.transaction() as guard:
            if not await guard.fetchval("SELECT pg_try_advisory_xact_lock($1)", Turn.REVISIT.of(target.home)):
                return False
            before: int | None = None
            forward = True  # so the first one was: rows that refer to what comes behind them go the other way
            while True:
                async with self._session.transaction(Side.SQLALCHEMY) as connection:
                    waiting, rows = await job.chunks.waiting(connection, models)
                if not waiting:
                    return before is not None
                is_in_vain = before is not None and rows >= before
                before = rows
                forward = not forward
                for chunk in waiting if forward else reversed(waiting):
                    await self._carrier.carry_next(
                        models, [ChunkState.WAITING], only=chunk, finally_=is_in_vain
                    )

    async def _conclude(self, models: list[str]) -> None:
        """Say of tables that they are done, if they are; the planner of the target learns what they hold."""
        job = self._job
        async with self._session.transaction(Side.SQLALCHEMY) as target:
            done = await job.frontiers.conclude(target, models)
        for model in done:
            table = job.crossings[model].tables[Side.SQLALCHEMY].quoted
            with suppress(asyncpg.InsufficientPrivilegeError):
                async with self._session.transaction(Side.SQLALCHEMY, follower=True) as target:
                    await target.execute(f"ANALYZE {table}")
