"""The Prisma side: an operation executed through a generated Prisma Client Python.

No module of Prisma is imported here. A client that was generated into a package of its own carries its own copies of
Prisma's error and field classes, so they are all found from the client that was given.

* Arguments pass through as they are. `Json` and `Base64` are made known to the client's own serializer instead of
  being replaced call by call: nothing is copied on the way in.
* Results are taken over: a model of Prisma is already validated, so its values become our record without a second
  validation. Only bytes and included relations are converted.
* Faults become the classes of `crossfade.errors`, with Prisma's code, meta and message.
* When the engine's process dies it is started again, once for all the callers that saw it. A read is then asked
  once more; a write never is, because nobody knows whether the engine had already done it.
"""

from __future__ import annotations

import asyncio
import importlib
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from types import ModuleType
from typing import Any, Self

import httpx

from crossfade import errors
from crossfade.dsn import Dsn
from crossfade.fields import Base64, Json
from crossfade.operation import READS, Action, Operation
from crossfade.records import Record
from crossfade.schema import ModelSpec, Scalar, Schema
from crossfade.stages import Side
from crossfade.stores import check_reachable

_DATA_ERRORS: Mapping[str, type[errors.DataError]] = {
    kind.__name__: kind
    for kind in (
        errors.DataError,
        errors.FieldNotFoundError,
        errors.ForeignKeyViolationError,
        errors.InputError,
        errors.MissingRequiredValueError,
        errors.RawQueryError,
        errors.RecordNotFoundError,
        errors.TableNotFoundError,
        errors.UniqueViolationError,
    )
}

_LOST_CODES = frozenset({"P1001", "P1002", "P1008", "P1017", "P2024"})
"""The engine lives, but its database does not answer, closed the connection, or has none to spare."""

_STOP_TIMEOUT = timedelta(seconds=5)
_END_OF_PROCESS = timedelta(seconds=1)

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
        self._package = _Package(client)
        self._actions = {spec.name: getattr(client, spec.attribute) for spec in schema}
        self._converters = _converters(schema, records)
        self._dsn: Dsn | None = None
        self._opened_here = False
        self._closed = False
        self._reviving = asyncio.Lock()
        self._generation = 0
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

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
        self._closed = False
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
            raise errors.StoreUnavailableError("Prisma's datasource", _first_line(error)) from error

    async def close(self) -> None:
        """Stop the engine after the calls that are under way, if this path started it."""
        self._closed = True
        await self._idle.wait()
        if self._opened_here:
            await self._client.disconnect(timeout=_STOP_TIMEOUT)
            self._opened_here = False

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation; see `Path.execute`."""
        try:
            call = getattr(self._actions[operation.model], operation.action)
        except KeyError:
            raise errors.UnknownModelError(operation.model, list(self._schema.models)) from None
        try:
            result = await self._call(partial(call, **operation.arguments), again=operation.action in READS)
        except (TypeError, UnicodeError) as error:
            raise _refused(operation, error) from error
        except self._package.errors.PrismaError as error:
            raise self._package.translated(error, operation.model) from error
        if result is None or operation.action in _COUNTS:
            return result
        convert = self._converters[operation.model]
        include = operation.arguments.get("include")
        if isinstance(result, list):
            return [convert(row, include) for row in result]
        return convert(result, include)

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
        table = '"' + spec.table.replace('"', '""') + '"'
        query = partial(self._client.query_raw, sql, table, spec.fields[field].column)
        try:
            return await self._call(query, again=again)
        except self._package.errors.PrismaError as error:
            raise self._package.translated(error, model) from error

    async def _call(self, call: Callable[[], Awaitable[Any]], *, again: bool) -> Any:
        """Call the client; when the engine is gone, start it again and, if `again`, ask once more."""
        self._under_way += 1
        self._idle.clear()
        try:
            generation = self._generation
            try:
                return await call()
            except self._package.lost as error:
                lost = error
            await self._revive(generation, lost)
            if not again:
                raise _connection_lost(lost) from lost
            try:
                return await call()
            except self._package.lost as error:
                raise _connection_lost(error) from error
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _revive(self, generation: int, lost: Exception) -> None:
        """Start the engine again, unless it still runs or another caller has done so since `generation`."""
        async with self._reviving:
            if self._closed or generation != self._generation:
                return
            if not await _is_gone(self._client, lost):
                return
            try:
                await self._client.disconnect(timeout=_STOP_TIMEOUT)
                await self._client.connect()
            except (self._package.errors.PrismaError, httpx.HTTPError) as error:
                raise _connection_lost(error) from lost
            self._generation += 1


async def _is_gone(client: Any, lost: Exception) -> bool:
    """Whether the engine behind `client` has ended, or ends now; what is left of it is killed."""
    if isinstance(lost, httpx.TimeoutException):
        return False  # a slow answer is not a dead engine
    engine = client._internal_engine  # noqa: SLF001  # the client has no public way to ask
    if engine is None or engine.process is None:
        return True
    process: subprocess.Popen[bytes] = engine.process
    if isinstance(lost, httpx.ConnectError):
        process.kill()  # nothing listens: whatever is left of it only delays the new one
    try:
        # A connection breaks a moment before the process is seen to have ended.
        await asyncio.to_thread(process.wait, _END_OF_PROCESS.total_seconds())
    except subprocess.TimeoutExpired:
        return False
    return True


_COUNTS = frozenset({Action.COUNT, Action.CREATE_MANY, Action.UPDATE_MANY, Action.DELETE_MANY})


class _Package:
    """What belongs to the generated package that a client comes from: its errors, fields and serializer."""

    def __init__(self, client: Any) -> None:
        name = type(client).__module__.rpartition(".")[0]
        self.errors: ModuleType = importlib.import_module(f"{name}.errors")
        self.engine_errors: ModuleType = importlib.import_module(f"{name}.engine.errors")
        self.lost: tuple[type[Exception], ...] = (
            httpx.TransportError,
            self.errors.ClientNotConnectedError,
            self.errors.HTTPClientClosedError,
            self.engine_errors.EngineConnectionError,
            self.engine_errors.NotConnectedError,
        )
        builder = importlib.import_module(f"{name}._builder")
        # Its own indents the lines *inside* of texts, too, which it takes to end at U+2028 and the like.
        vars(builder)["indent"] = _indent
        builder.serializer.register(Json, lambda value: builder.dumps(value.data))
        builder.serializer.register(Base64, str)
        builder.serializer.register(bytes, lambda value: str(Base64.encode(value)))

    def translated(self, error: Exception, model: str) -> errors.CrossfadeError:
        """Return our error for one of Prisma's."""
        message = str(error)
        if isinstance(error, self.errors.DataError):
            kind, code = self._kind_and_code(error)
            return kind(message, code=code, meta=error.meta if isinstance(error.meta, dict) else None)
        if isinstance(error, self.errors.TransactionError):
            return errors.TransactionError(message)
        if isinstance(error, self.errors.BuilderError):
            return errors.QueryError(model, "include", message)
        return errors.DataError(message)

    def _kind_and_code(self, error: Any) -> tuple[type[errors.DataError], str | None]:
        kind = _DATA_ERRORS.get(type(error).__name__, errors.DataError)
        if error.code in _LOST_CODES:
            return errors.ConnectionLostError, error.code
        # How a bad argument is reported depends on how many input types Prisma would have accepted in its place: a
        # missing value is P2012 or P2009, and an argument that nests too deeply in them is a plain DataError, because
        # the client fails to read the report. The fault is one, and so are its class and code here.
        if kind is errors.MissingRequiredValueError:
            return kind, kind.default_code
        if kind is errors.DataError and error.code == errors.FieldNotFoundError.default_code:
            return errors.FieldNotFoundError, error.code
        return kind, error.code


def _indent(text: str, prefix: str) -> str:
    """As `textwrap.indent`, for text whose lines end with a newline only, as those of a query do."""
    return "\n".join([prefix + line if line.strip() else line for line in text.split("\n")])


def _refused(operation: Operation, error: Exception) -> errors.CrossfadeError:
    """Return our error for arguments that the client did not send."""
    if isinstance(error, UnicodeError) or "not serializable" in str(error):
        # No field holds such a value, whatever its type.
        return errors.FieldNotFoundError(f"{operation.model}: {operation.action}: {error}")
    return errors.QueryError(operation.model, operation.action, str(error))


def _connection_lost(error: Exception) -> errors.ConnectionLostError:
    reason = _first_line(error) or type(error).__name__
    return errors.ConnectionLostError(f"the connection to Prisma's engine was lost: {reason}")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else ""


_Converter = Callable[[Any, Mapping[str, Any] | None], Record]


def _converters(schema: Schema, records: Mapping[str, type[Record]]) -> dict[str, _Converter]:
    converters: dict[str, _Converter] = {}
    for spec in schema:
        converters[spec.name] = _converter(spec, records[spec.name], converters)
    return converters


def _converter(spec: ModelSpec, record: type[Record], converters: Mapping[str, _Converter]) -> _Converter:
    """Return a function from Prisma's model to our record; `converters` is filled when it is first called."""
    of_bytes = tuple(f.name for f in spec.fields.values() if f.scalar is Scalar.BYTES)
    relations = {relation.name: relation.model for relation in spec.relations.values()}
    build = record.build

    def convert(row: Any, include: Mapping[str, Any] | None) -> Record:
        values: dict[str, Any] = row.__dict__  # the row is Prisma's no longer: its dict becomes the record's
        for name in of_bytes:
            value = values[name]
            if value is not None:
                values[name] = (
                    [Base64(str(v)) for v in value] if isinstance(value, list) else Base64(str(value))
                )
        if include:
            for name, choice in include.items():
                related = values[name]
                if related is None:
                    continue
                deeper = choice.get("include") if isinstance(choice, Mapping) else None
                into = converters[relations[name]]
                if isinstance(related, list):
                    values[name] = [into(one, deeper) for one in related]
                else:
                    values[name] = into(related, deeper)
        return build(values)

    return convert
