"""Carry one chunk from its claim to its check, and decide what a failure means for it."""

# ruff: noqa: S608 - every name is the catalog's own and quoted; bounds are quoted constants
from __future__ import annotations

from collections.abc import Collection, Sequence
from time import monotonic

import asyncpg

from crossfade.backfill.chunks import Chunk, ChunkState, Outcome
from crossfade.backfill.job import CopyPoint, Job
from crossfade.backfill.landing import check, note
from crossfade.backfill.session import Fault, Session, fault_of
from crossfade.errors import BackfillError
from crossfade.events import ChunkCopied, ChunkFailed
from crossfade.reconcile.findings import problem_of
from crossfade.stages import Side
from crossfade.store.objects import BULK, BULK_SETTING
from crossfade.store.ranges import Key, cut, within
from crossfade.store.store import LOST
from crossfade.store.tables import Connection

_TAKEN = ("23505", "23P01")
"""A value that another row has, where the target finds out too late to leave the row out."""


class Carrier:
    """Works for one worker, over its connections."""

    def __init__(self, job: Job, session: Session, worker: str) -> None:
        self._job = job
        self._session = session
        self._worker = worker

    async def carry_next(
        self,
        models: Sequence[str],
        states: Collection[ChunkState],
        *,
        only: int | None = None,
        finally_: bool = False,
    ) -> bool:
        """Take the next chunk in hand that is in one of `states`; False if there is none that nobody has.

        Args:
            models: the tables to look in, the first one first.
            states: which chunks.
            only: the number of the only chunk that is wanted.
            finally_: whether rows that still wait for others are given to the reconciler.

        Raises:
            BackfillError: the table cannot be copied at all.
            StoreUnavailableError: a store does not answer.
            OSError: a connection broke (so do the driver's errors for that); nothing is lost by it.
        """
        taken: list[Chunk] = []
        try:
            return await self._carry(models, states, only, taken, finally_=finally_)
        except Exception as error:
            if not taken:
                raise
            chunk, fault = taken[0], fault_of(error)
            owner = self._job.crossings[chunk.model].owner
            match fault:
                case Fault.MOVED:
                    raise BackfillError(
                        owner,
                        "the target store takes no copies of it any more, for its authority moves or has moved there;"
                        f" nothing was written late. `crossfade status {owner}` shows where it stands",
                    ) from error
                case Fault.DATA if isinstance(error, asyncpg.PostgresError):
                    await self._divide(chunk, error)
                    return True
                case Fault.PASSING if isinstance(error, asyncpg.PostgresError) and not isinstance(
                    error, LOST
                ):
                    await self._count_attempt(chunk, error)
                    raise
                case Fault.OTHER if isinstance(error, asyncpg.PostgresError):
                    raise BackfillError(owner, f"{error.sqlstate} {error}") from error
                case _:
                    raise

    async def _carry(
        self,
        models: Sequence[str],
        states: Collection[ChunkState],
        only: int | None,
        taken: list[Chunk],
        *,
        finally_: bool,
    ) -> bool:
        job, begun = self._job, monotonic()
        async with self._session.transaction(Side.SQLALCHEMY, follower=True) as target:
            chunk = await job.chunks.claim(target, models, states, only)
            if chunk is None:
                return False
            taken.append(chunk)
            if chunk.state is ChunkState.LANDED:
                await self._check(target, chunk)
                return True
            await job.at(CopyPoint.CUT, chunk.model)
            outcome, state = await self._copy(target, chunk, finally_=finally_)
            seconds = monotonic() - begun
            await job.chunks.conclude(target, chunk, state, outcome, seconds, self._worker)
            await job.at(CopyPoint.INSERTED, chunk.model)
        job.adapt(chunk.model, outcome.read, monotonic() - begun)
        job.observer.observe(
            ChunkCopied(
                job.crossings[chunk.model].owner, outcome.read, outcome.written, outcome.left_over, seconds
            )
        )
        await job.at(CopyPoint.LANDED, chunk.model)
        if state is ChunkState.LANDED:
            async with self._session.transaction(Side.SQLALCHEMY, follower=True) as target:
                if await job.chunks.relock(target, chunk, ChunkState.LANDED):
                    await self._check(target, chunk)
        await job.at(CopyPoint.CHECKED, chunk.model)
        return True

    async def _copy(self, target: Connection, chunk: Chunk, *, finally_: bool) -> tuple[Outcome, ChunkState]:
        copier = self._job.copiers[chunk.model]
        await target.execute("SET CONSTRAINTS ALL IMMEDIATE")  # or a commit would tell what is missing
        async with self._session.transaction(Side.PRISMA) as legacy:
            is_bulk = await self._job.is_ordered_alike(chunk.model, legacy, target)
            read = await copier.read(legacy, target, chunk.range)
        await self._job.at(CopyPoint.READ, chunk.model)
        if is_bulk:
            await target.execute("SELECT set_config($1, $2, true)", BULK_SETTING, BULK)
        outcome = await copier.land(target, read, within_=chunk.range if is_bulk else None, finally_=finally_)
        if outcome.waiting:
            return outcome, ChunkState.WAITING
        return outcome, ChunkState.LANDED if is_bulk else ChunkState.DONE

    async def _check(self, target: Connection, chunk: Chunk) -> None:
        job = self._job
        if job.checked:
            async with self._session.transaction(Side.PRISMA) as legacy:
                await check(
                    job.crossings[chunk.model], legacy, target, job.stores[Side.SQLALCHEMY], chunk.range
                )
        await job.chunks.mark(target, chunk, ChunkState.DONE)

    async def _divide(self, chunk: Chunk, error: asyncpg.PostgresError) -> None:
        """Go on with the halves of a chunk that holds a row which the target refuses, until that stands alone."""
        job = self._job
        async with self._session.transaction(Side.SQLALCHEMY, follower=True) as target:
            if not await job.chunks.relock(target, chunk, chunk.state):
                return
            rows, middle = await self._middle(chunk)
            if middle is not None:
                await job.chunks.halve(target, chunk, middle)
                return
            # An earlier turn may have landed rows of this range, and the check for them is owed still.
            async with self._session.transaction(Side.PRISMA) as legacy:
                is_bulk = await job.is_ordered_alike(chunk.model, legacy, target)
            state = ChunkState.LANDED if is_bulk else ChunkState.DONE
            if rows == 0:
                await job.chunks.mark(target, chunk, state)
                return
            if error.sqlstate in _TAKEN:
                async with self._session.transaction(Side.PRISMA) as legacy:
                    left_over = await note(
                        job.crossings[chunk.model], legacy, target, job.stores[Side.SQLALCHEMY], chunk.range
                    )
                await job.chunks.conclude(
                    target, chunk, state, Outcome(rows, 0, left_over), 0.0, self._worker
                )
                return
            problem = problem_of(error)
            await job.chunks.fail(target, chunk, ChunkState.FAILED, problem, self._worker)
        job.observer.observe(ChunkFailed(job.crossings[chunk.model].owner, problem))

    async def _middle(self, chunk: Chunk) -> tuple[int, Key | None]:
        """How many rows a chunk has now, and the key in the middle of them if they are two at least."""
        crossing = self._job.crossings[chunk.model]
        table = crossing.tables[Side.PRISMA].quoted
        async with self._session.transaction(Side.PRISMA, still=True) as legacy:
            rows = int(
                await legacy.fetchval(
                    f"SELECT count(*) FROM {table} t WHERE {within(crossing, Side.PRISMA, chunk.range)}"
                )
            )
            if rows < 2:
                return rows, None
            return rows, await cut(legacy, crossing, Side.PRISMA, chunk.range.after, rows // 2)

    async def _count_attempt(self, chunk: Chunk, error: asyncpg.PostgresError) -> None:
        attempts = 0
        async with self._session.transaction(Side.SQLALCHEMY) as target:
            if await self._job.chunks.relock(target, chunk, chunk.state):
                attempts = await self._job.chunks.fail(
                    target, chunk, chunk.state, problem_of(error), self._worker
                )
        if attempts and attempts % self._job.settings.attempts == 0:
            raise BackfillError(
                self._job.crossings[chunk.model].owner,
                f"locks of others have broken a piece of {chunk.model} off {attempts} times ({problem_of(error)});"
                " run it again when they are gone",
            ) from error
