"""The SQLAlchemy side: an operation compiled by `crossfade.query` and run on asyncpg.

SQLAlchemy makes the statements, once per shape of the arguments, and owns the connections; a call itself goes straight
to the driver. Statements stand alone (autocommit) unless one operation needs several: then BEGIN … COMMIT on one
connection, which is rolled back, or dropped, whatever interrupts it.

A read that finds its connection broken is asked once more on a connection that has just been opened. A write is not,
unless it certainly was never done: it was not sent, or the server refused a statement that it had prepared before the
tables changed. Otherwise nobody knows whether the server had already done it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from crossfade.dsn import Dsn
from crossfade.errors import (
    ConfigurationError,
    ConnectionLostError,
    QueryError,
    RecordNotFoundError,
    StoreUnavailableError,
    TransactionError,
)
from crossfade.mapping import NO_MAPPINGS, Mappings
from crossfade.operation import Operation
from crossfade.paths import ROLE_SETTING, SessionRole
from crossfade.paths.execution import (
    BEGIN_AS_FOLLOWER,
    EXECUTORS,
    Work,
    answers_none,
    as_follower,
    fetch,
    write_all,
)
from crossfade.paths.faults import FAULTS, Constraints, translated, was_never_done
from crossfade.paths.pool import ConnectionPool, Held
from crossfade.paths.sqlalchemy_transaction import SqlAlchemyTransaction
from crossfade.paths.transaction import NOT_STARTED, check_batch, quoted
from crossfade.query import Compiler
from crossfade.query.compiled import ConstantPlan, Statement, Values
from crossfade.query.legacy import legacy_tables
from crossfade.records import Record
from crossfade.schema import Schema
from crossfade.stages import Side

_STATEMENT_CACHE = 1000
_NEXT_VALUES = "SELECT nextval(pg_get_serial_sequence($1, $2)::regclass) FROM generate_series(1, $3::int)"
_LAST_VALUE = "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence($1, $2)::regclass), 0)"
# The lock keeps two callers from each reading the old value and the lower one from being set last.
_ADVANCE = """
SELECT CASE WHEN coalesce(pg_sequence_last_value(pg_get_serial_sequence($1, $2)::regclass), 0) < $3::bigint
            THEN setval(pg_get_serial_sequence($1, $2)::regclass, $3::bigint) END
FROM (SELECT pg_advisory_xact_lock(hashtext('crossfade.sequence'), hashtext($1)) OFFSET 0) AS lock
"""


class SqlAlchemyPath:
    """Executes operations on the tables of declarative models.

    The tables of the Prisma side are the same as these, so a path of `side` prisma works on those.

    Args:
        schema: what the models mean.
        tables: each model's table, by the model's name in the schema.
        records: each model's record class.
        store: where; an engine stays its owner's and is not disposed of.
        pool_size: how many connections may be in use; a DSN's `connection_limit` comes first.
        acquire_timeout: seconds to wait for one; a DSN's `pool_timeout` comes first; None waits for ever.
        side: which side the store belongs to.
        role: what its sessions tell the fences.
        mappings: where the target's tables, which are what `tables` describes, differ from the legacy ones. A path of
            `side` prisma goes by the tables of the legacy store, which it finds out from these.

    Raises:
        ConfigurationError: a model has no table; or the sessions of an engine should be followers, and only whoever
            made the engine can see to that.
    """

    def __init__(
        self,
        schema: Schema,
        tables: Mapping[str, sa.Table],
        records: Mapping[str, type[Record]],
        store: Dsn | AsyncEngine,
        *,
        pool_size: int = 10,
        acquire_timeout: float | None = 10.0,
        side: Side = Side.SQLALCHEMY,
        role: SessionRole | Literal["author", "follower"] = SessionRole.AUTHOR,
        mappings: Mappings = NO_MAPPINGS,
    ) -> None:
        follows = SessionRole(role) is SessionRole.FOLLOWER
        if side is Side.PRISMA:
            tables, mappings = _unqualified(legacy_tables(schema, tables, mappings)), NO_MAPPINGS
        self._side = side
        self._schema = schema
        self._compiler = Compiler(schema, tables, records, mappings=mappings)
        self._constraints = Constraints(tables, mappings)
        self._owns_engine = isinstance(store, Dsn)
        if isinstance(store, Dsn):
            pool_size = store.pool_size() or pool_size
            timeout = store.pool_timeout()
            acquire_timeout = acquire_timeout if timeout is None else (timeout or None)
            self._engine = _make_engine(store, pool_size, follows=follows)
        elif follows:
            raise ConfigurationError(
                "a path whose sessions are followers opens its connections itself: give it a DSN, not an engine"
            )
        else:
            self._engine = store
        # Behind a transaction pooler a session keeps no settings, so there every transaction says who it is.
        says_each_time = follows and isinstance(store, Dsn) and store.is_pgbouncer
        self._executors = EXECUTORS
        self._fetch: Work = fetch
        self._write_all: Work = write_all
        self._begin_statement = "BEGIN"
        if says_each_time:
            self._executors = {kind: (as_follower(work), reads) for kind, (work, reads) in EXECUTORS.items()}
            self._fetch, self._write_all = as_follower(fetch), as_follower(write_all)
            self._begin_statement = BEGIN_AS_FOLLOWER
        self._pool = ConnectionPool(self._engine, size=pool_size, acquire_timeout=acquire_timeout)

    @property
    def side(self) -> Side:
        """Which side this is."""
        return self._side

    @property
    def engine(self) -> AsyncEngine:
        """The engine whose connections are used."""
        return self._engine

    async def connect(self) -> None:
        """Make sure that the database answers; more connections are opened as they are needed.

        Raises:
            StoreUnavailableError: it does not.
        """
        self._pool.open()
        held = self._pool.take_idle() or await self._pool.take()
        self._pool.give_back(held)

    async def close(self) -> None:
        """Wait for what is under way, then close every connection of an engine made here."""
        await self._pool.close()
        if self._owns_engine:
            await self._engine.dispose()

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation; see `Path.execute`."""
        plan, values = self._compiler.plan(operation)
        if type(plan) is ConstantPlan:
            return plan.result
        work, reads = self._executors[type(plan)]
        try:
            return await self._run(work, plan, values, again=reads)
        except RecordNotFoundError:
            if answers_none(plan):
                return None
            raise

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Execute several writes together; see `Path.batch`."""
        check_batch(operations)
        plans = [self._compiler.plan(operation) for operation in operations]
        if plans:
            await self._run(self._write_all, plans, [])

    async def begin(self, *, max_wait: float = 2.0, timeout: float = 5.0) -> SqlAlchemyTransaction:  # noqa: ASYNC109
        """Start a transaction; see `Path.begin`."""
        try:
            async with asyncio.timeout(max_wait):
                held = await self._begin()
        except TimeoutError:
            raise TransactionError(NOT_STARTED) from None
        return SqlAlchemyTransaction(
            self._side,
            self._schema,
            self._compiler,
            self._constraints,
            self._pool,
            held,
            timeout,
        )

    async def reserve(self, model: str, field: str, count: int) -> list[int]:
        """Take `count` values from the sequence behind an autoincrement field."""
        return [row[0] for row in await self._sequence(_NEXT_VALUES, model, field, count)]

    async def sequence_value(self, model: str, field: str) -> int:
        """Return the last value that the sequence behind an autoincrement field gave out; 0 if none yet."""
        rows = await self._sequence(_LAST_VALUE, model, field, again=True)
        return int(rows[0][0])

    async def advance_sequence(self, model: str, field: str, value: int) -> None:
        """Make sure that the sequence will not give out `value` or less again. Never moves it back."""
        if value > 0:
            await self._sequence(_ADVANCE, model, field, value, again=True)

    async def _sequence(
        self, sql: str, model: str, field: str, *numbers: int, again: bool = False
    ) -> list[Any]:
        spec = self._schema.model(model)
        if field not in spec.fields:
            raise QueryError(model, field, "no such field")
        statement = Statement(sql, None)
        table, column = self._compiler.place(model, field)
        values = [quoted(table.schema, table.name), column, *numbers]
        rows: list[Any] = await self._run(self._fetch, statement, values, again=again)
        return rows

    async def _begin(self) -> Held:
        """Take a connection and open a transaction on it."""
        pool = self._pool
        fresh = False
        while True:
            held = (None if fresh else pool.take_idle()) or await self._take(fresh=fresh)
            try:
                await held.driver.execute(self._begin_statement)
            except BaseException as error:
                if pool.retire(held, error) and not fresh:
                    fresh = True
                    continue
                if isinstance(error, FAULTS):
                    raise translated(error, self._constraints) from error
                raise
            return held

    async def _run(self, work: Work, plan: Any, values: Values, *, again: bool = False) -> Any:
        """Do `work` on a connection; `again` allows a second try when the first connection breaks."""
        pool = self._pool
        fresh = False
        while True:
            held = (None if fresh else pool.take_idle()) or await self._take(fresh=fresh)
            try:
                result = await work(held.driver, plan, values)
            except BaseException as error:
                lost = pool.retire(held, error)
                if lost and not fresh and (again or was_never_done(error)):
                    fresh = True
                    continue
                if isinstance(error, FAULTS):
                    raise translated(error, self._constraints) from error
                raise
            pool.give_back(held)
            return result

    async def _take(self, *, fresh: bool) -> Held:
        try:
            return await self._pool.take(fresh=fresh)
        except StoreUnavailableError as error:
            # To a call this is the store's refusal, with the code that Prisma has for it.
            raise ConnectionLostError(str(error), code="P1001") from error


def _unqualified(tables: Mapping[str, sa.Table]) -> Mapping[str, sa.Table]:
    """Return the tables, and the enum types of their columns, by their bare names.

    Models may name the schema that they live in; where the legacy store has its tables, only its DSN knows.
    """
    if all(table.schema is None for table in tables.values()):
        return tables
    metadata = sa.MetaData()
    copies = {
        name: table.to_metadata(metadata, schema=None)  # type: ignore[arg-type]  # the default keeps the old one
        for name, table in tables.items()
    }
    for table in copies.values():
        for column in table.columns:
            if isinstance(column.type, sa.ARRAY) and isinstance(column.type.item_type, sa.Enum):
                item: sa.Enum = column.type.item_type.copy()  # type: ignore[no-untyped-call]
                column.type = sa.ARRAY(item)  # a copied table shares its own
            kind = column.type.item_type if isinstance(column.type, sa.ARRAY) else column.type
            if isinstance(kind, sa.Enum):
                kind.schema = None
    return copies


def _make_engine(dsn: Dsn, pool_size: int, *, follows: bool) -> AsyncEngine:
    arguments = dsn.connect_args()
    if follows and not dsn.is_pgbouncer:
        arguments["server_settings"][ROLE_SETTING] = str(SessionRole.FOLLOWER)
    arguments.setdefault("statement_cache_size", _STATEMENT_CACHE)
    engine = create_async_engine(
        dsn.sqlalchemy_url(),
        connect_args=arguments,
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,
        pool_size=pool_size,
        max_overflow=0,
        pool_use_lifo=True,  # the connections in use stay few, and their statements prepared
    )
    if setup := dsn.setup_statement():
        _on_every_connection(engine, setup)
    return engine


def _on_every_connection(engine: AsyncEngine, statement: str) -> None:
    @sa.event.listens_for(engine.sync_engine, "connect")
    def run(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(statement)
        cursor.close()
