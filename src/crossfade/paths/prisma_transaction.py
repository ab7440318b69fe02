"""A transaction on the Prisma side: the engine holds the connection, and rolls back by itself when the time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from crossfade.operation import Operation
from crossfade.paths.prisma_engine import Engine
from crossfade.paths.prisma_faults import Package
from crossfade.paths.prisma_session import Session
from crossfade.paths.transaction import Ending, Verb, hold_statement, quoted, refusal, tables_held
from crossfade.schema import Schema
from crossfade.stages import Side


class PrismaTransaction:
    """See `PathTransaction`. `session` is on the client that `manager`, Prisma's own, has started.

    It counts as something under way at the engine until it is ended, or its time is over.
    """

    def __init__(
        self,
        schema: Schema,
        db_schema: str | None,
        session: Session,
        package: Package,
        engine: Engine,
        manager: Any,
        timeout: float,
    ) -> None:
        self._schema = schema
        self._db_schema = db_schema
        self._session = session
        self._package = package
        self._engine = engine
        self._manager = manager
        self._timeout = timeout
        self._generation = engine.generation
        self._is_counted = True
        self._timer = asyncio.get_running_loop().call_later(timeout, self._forget)

    @property
    def side(self) -> Side:
        """Which side this is."""
        return Side.PRISMA

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation; see `PathTransaction.execute`."""
        self._check(Verb.QUERY)
        return await self._session.execute(operation, again=False)

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Execute several writes; see `PathTransaction.batch`."""
        self._check(Verb.QUERY)
        await self._session.batch(operations)

    async def hold(self, models: Sequence[str]) -> None:
        """Keep the authority of `models` where it is; see `PathTransaction.hold`."""
        names = [quoted(self._db_schema, table) for table in tables_held(self._schema, models)]
        self._check(Verb.QUERY)
        await self._session.raw("execute_raw", hold_statement(names) if names else "SELECT 1")

    async def commit(self) -> None:
        """Commit, and give the connection back; see `PathTransaction.commit`."""
        await self._end(Verb.COMMIT, self._manager.commit)

    async def rollback(self) -> None:
        """Undo everything, and give the connection back; see `PathTransaction.rollback`."""
        await self._end(Verb.ROLLBACK, self._manager.rollback)

    async def _end(self, verb: Verb, end: Callable[[], Awaitable[None]]) -> None:
        try:
            self._check(verb)
            # Done whatever becomes of the caller: nobody else would free the connection before the time is over.
            await asyncio.shield(self._engine.spawn(self._engine.call(end)))
        except self._package.errors.PrismaError as error:
            raise await self._package.of_transaction(error) from error
        finally:
            self._forget()

    def _check(self, verb: Verb) -> None:
        # An engine that was started anew knows nothing of it, and this client still calls the old one.
        if self._generation != self._engine.generation:
            raise refusal(verb, Ending.LOST, self._timeout, self._timeout)

    def _forget(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._timer.cancel()
            self._engine.leave()
