"""A transaction on the SQLAlchemy side: one connection of the pool, from BEGIN to its end.

Rules:

* The connection is given back exactly once, by whoever ends the transaction: commit, rollback, the timer, or a call
  that lost it. `_held` is None from that moment.
* A call that is under way when the time is over gets its answer; the transaction is rolled back after it.
* A cancelled call rolls everything back. PostgreSQL would only abort the transaction, and a commit would then look like
  one that was done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from crossfade.errors import RecordNotFoundError
from crossfade.operation import Operation
from crossfade.paths.execution import EXECUTORS, Driver, answers_none, write_all
from crossfade.paths.faults import FAULTS, LOST, Constraints, translated
from crossfade.paths.pool import ConnectionPool, Held
from crossfade.paths.transaction import (
    Ending,
    Verb,
    check_batch,
    hold_statement,
    quoted,
    refusal,
    tables_held,
)
from crossfade.query import Compiler
from crossfade.query.compiled import ConstantPlan
from crossfade.schema import Schema
from crossfade.stages import Side


class SqlAlchemyTransaction:
    """See `PathTransaction`. `held` is a connection on which BEGIN has been executed."""

    def __init__(
        self,
        side: Side,
        schema: Schema,
        compiler: Compiler,
        constraints: Constraints,
        pool: ConnectionPool,
        held: Held,
        timeout: float,
    ) -> None:
        self._side = side
        self._schema = schema
        self._compiler = compiler
        self._constraints = constraints
        self._pool = pool
        self._held: Held | None = held
        self._ending: Ending | None = None
        self._turn = asyncio.Lock()
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._timer = self._loop.call_later(timeout, self._on_time)

    @property
    def side(self) -> Side:
        """Which side this is."""
        return self._side

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation; see `PathTransaction.execute`."""
        plan, values = self._compiler.plan(operation)
        async with self._at_work() as driver:
            if type(plan) is ConstantPlan:
                return plan.result
            work, _reads = EXECUTORS[type(plan)]
            try:
                return await work(driver, plan, values)
            except RecordNotFoundError:
                # As in Prisma, what the operation did before stays in the transaction.
                if answers_none(plan):
                    return None
                raise

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Execute several writes; see `PathTransaction.batch`."""
        check_batch(operations)
        plans = [self._compiler.plan(operation) for operation in operations]
        async with self._at_work() as driver:
            await write_all(driver, plans, [])

    async def hold(self, models: Sequence[str]) -> None:
        """Keep the authority of `models` where it is; see `PathTransaction.hold`."""
        held = tables_held(self._schema, models)
        tables = [self._compiler.table(model) for model in held.values()]
        names = [quoted(table.schema, table.name) for table in tables]
        async with self._at_work() as driver:
            if names:
                await driver.execute(hold_statement(names))

    async def commit(self) -> None:
        """Commit, and give the connection back; see `PathTransaction.commit`."""
        await self._end(Verb.COMMIT, Ending.COMMITTED)

    async def rollback(self) -> None:
        """Undo everything, and give the connection back; see `PathTransaction.rollback`."""
        await self._end(Verb.ROLLBACK, Ending.ROLLED_BACK)

    # --- inside ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[Driver]:
        """The connection, for one call at a time."""
        async with self._turn:
            held = self._open(Verb.QUERY)
            try:
                yield held.driver
            except asyncio.CancelledError as error:
                if self._leave(Ending.INTERRUPTED):
                    self._pool.retire(held, error)
                raise
            except FAULTS as error:
                if (isinstance(error, LOST) or held.driver.is_closed()) and self._leave(Ending.LOST):
                    self._pool.retire(held, error)
                raise translated(error, self._constraints) from error
            finally:
                if self._is_late():
                    self._expire()

    async def _end(self, verb: Verb, ending: Ending) -> None:
        async with self._turn:
            if verb is Verb.ROLLBACK and self._ending is Ending.INTERRUPTED:
                self._ending = ending  # done already, and whoever was cancelled need not know
                return
            held = self._open(verb)
            self._leave(ending)  # first of all: nothing that happens now may give it back a second time
            try:
                await held.driver.execute(verb.upper())
            except BaseException as error:
                self._ending = Ending.UNKNOWN
                self._pool.retire(held, error)
                if isinstance(error, FAULTS):
                    raise translated(error, self._constraints) from error
                raise
            self._pool.give_back(held)

    def _open(self, verb: Verb) -> Held:
        """Return the connection if the transaction is open still."""
        if self._is_late():
            self._expire()
        if self._held is None:
            assert self._ending is not None
            raise refusal(verb, self._ending, self._timeout, self._loop.time() - self._started)
        return self._held

    def _is_late(self) -> bool:
        return self._loop.time() >= self._started + self._timeout

    def _on_time(self) -> None:
        if not self._turn.locked():  # a call under way sees to it itself
            self._expire()

    def _expire(self) -> None:
        held = self._held
        if held is not None and self._leave(Ending.EXPIRED):
            self._pool.settle(held)

    def _leave(self, ending: Ending) -> bool:
        """End the transaction. Return whether it was open, and so the connection is the caller's to give back."""
        if self._held is None:
            return False
        self._held = None
        self._ending = ending
        self._timer.cancel()
        return True
