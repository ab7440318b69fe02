"""The Prisma side: an operation executed through a generated Prisma Client Python.

The parts: `prisma_session` makes the calls, `prisma_transaction` those that belong together, `prisma_faults` knows the
generated package and its errors, and `prisma_engine` keeps the process alive that answers.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Self

import httpx

from crossfade import errors
from crossfade.dsn import Dsn
from crossfade.operation import READS, Operation
from crossfade.paths.prisma_engine import Engine
from crossfade.paths.prisma_faults import Package, first_line
from crossfade.paths.prisma_session import Session, converters_for
from crossfade.paths.prisma_transaction import PrismaTransaction
from crossfade.paths.transaction import quoted
from crossfade.records import Record
from crossfade.schema import Schema
from crossfade.stages import Side
from crossfade.stores import check_reachable

_LAST_VALUE = "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence($1, $2)::regclass), 0) AS value"

_NEXT_VALUES = (
    "SELECT nextval(pg_get_serial_sequence($1, $2)::regclass) AS value FROM generate_series(1, {count})"
)

# The lock keeps two callers from each reading the old value and the lower one from being set last.
_ADVANCE = """
SELECT CASE WHEN coalesce(pg_sequence_last_value(pg_get_serial_sequence($1, $2)::regclass), 0) < {value}
            THEN setval(pg_get_serial_sequence($1, $2)::regclass, {value}) END AS value
FROM (SELECT pg_advisory_xact_lock(hashtext('crossfade.sequence'), hashtext($1)) OFFSET 0) AS lock
"""


class PrismaPath:
    """Executes operations with a generated client (an instance of its `Prisma` class)."""

    def __init__(self, schema: Schema, records: Mapping[str, type[Record]], client: Any) -> None:
        self._schema = schema
        self._client = client
        self._package = Package(client)
        self._engine = Engine(client, self._package)
        converters = converters_for(schema, records)
        self._session = Session(schema, converters, client, self._package, self._engine)
        self._dsn: Dsn | None = None
        self._opened_here = False

    @classmethod
    def open(
        cls, schema: Schema, records: Mapping[str, type[Record]], client_package: str, datasource: Dsn | str
    ) -> Self:
        """Make a path from the name of a generated package, such as `marketplace.prisma_client`.

        Raises:
            EngineError: there is no generated client in that package.
            DsnError: the datasource is not a PostgreSQL URL.
        """
        dsn = Dsn.parse(datasource) if isinstance(datasource, str) else datasource
        try:
            client_class = importlib.import_module(client_package).Prisma
        except (ModuleNotFoundError, RuntimeError, AttributeError) as error:
            msg = f"no Prisma client in {client_package}: generate it from schema.prisma first"
            raise errors.EngineError(msg) from error
        path = cls(schema, records, client_class(datasource={"url": dsn.prisma_url()}, use_dotenv=False))
        path._dsn = dsn
        return path

    @property
    def side(self) -> Side:
        """Which side this is."""
        return Side.PRISMA

    @property
    def client(self) -> Any:
        """The client this path drives."""
        return self._client

    async def connect(self) -> None:
        """Start the engine, if the application has not done so, and make sure that its database answers.

        Raises:
            EngineError: the engine cannot be started.
            StoreUnavailableError: its database does not answer.
        """
        self._engine.open()
        if self._dsn is not None:
            # Asked of an engine, this takes ten seconds and is answered without a reason.
            await check_reachable(self._dsn, "Prisma's datasource")
        try:
            if not self._client.is_connected():
                self._opened_here = True
                await self._client.connect()
            await self._client.query_raw("SELECT 1")
        except self._package.engine_errors.EngineError as error:
            msg = f"Prisma's engine could not be started: {error}"
            raise errors.EngineError(msg) from error
        except (self._package.errors.PrismaError, httpx.HTTPError) as error:
            raise errors.StoreUnavailableError("Prisma's datasource", first_line(error)) from error

    async def close(self) -> None:
        """Stop the engine after the calls that are under way, if this path started it."""
        await self._engine.rest()
        if self._opened_here:
            await self._engine.stop()
            self._opened_here = False

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation; see `Path.execute`."""
        return await self._session.execute(operation, again=operation.action in READS)

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Execute several writes together; see `Path.batch`."""
        await self._session.batch(operations)

    async def begin(self, *, max_wait: float = 2.0, timeout: float = 5.0) -> PrismaTransaction:  # noqa: ASYNC109
        """Start a transaction; see `Path.begin`."""
        manager = self._client.tx(
            max_wait=timedelta(seconds=max_wait),
            timeout=timedelta(seconds=timeout),
        )
        self._engine.enter()
        try:
            client = await self._started(manager)
            schema = None if self._dsn is None else self._dsn.schema
            return PrismaTransaction(
                self._schema, schema, self._session.of(client), self._package, self._engine, manager, timeout
            )
        except BaseException:
            self._engine.leave()
            raise

    async def _started(self, manager: Any) -> Any:
        """Start a transaction; if nobody waits for it any more, end it."""
        starting = self._engine.spawn(self._engine.call(manager.start, again=True))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._engine.spawn(_undo(starting, manager))
            raise
        except self._package.errors.PrismaError as error:
            raise await self._package.of_transaction(error) from error

    async def reserve(self, model: str, field: str, count: int) -> list[int]:
        """Take `count` values from the sequence behind an autoincrement field."""
        rows = await self._sequence(_NEXT_VALUES.format(count=int(count)), model, field)
        return [int(row["value"]) for row in rows]

    async def sequence_value(self, model: str, field: str) -> int:
        """Return the last value that the sequence behind an autoincrement field gave out; 0 if none yet."""
        rows = await self._sequence(_LAST_VALUE, model, field, again=True)
        return int(rows[0]["value"])

    async def advance_sequence(self, model: str, field: str, value: int) -> None:
        """Make sure that the sequence will not give out `value` or less again. Never moves it back."""
        if value > 0:
            await self._sequence(_ADVANCE.format(value=int(value)), model, field, again=True)

    async def _sequence(self, sql: str, model: str, field: str, *, again: bool = False) -> Any:
        spec = self._schema.model(model)
        values = quoted(spec.table), spec.fields[field].column
        return await self._session.raw("query_raw", sql, *values, again=again)


async def _undo(starting: asyncio.Task[Any], manager: Any) -> None:
    await starting
    await manager.rollback()
