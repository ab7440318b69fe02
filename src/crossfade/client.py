"""The front door: `db.user.find_many(...)` means what it meant with Prisma Client Python.

A `DatabaseClient` has one `ModelClient` per model, under the model's name in lower case. Arguments are Prisma's; None
means "not given", as it does there. Results are record classes, the same whichever side answered. Errors are those of
`crossfade.errors`, and with an `ErrorDialect` those of Prisma Client Python at the same time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast, overload

from crossfade.dialect import ErrorDialect, Execute
from crossfade.operation import Action, Operation
from crossfade.records import Record
from crossfade.repository import Repository
from crossfade.schema import Schema
from crossfade.transaction import Transaction, execute_batch

RecordT = TypeVar("RecordT", bound=Record)
ClientT = TypeVar("ClientT")

Where = Mapping[str, Any]
Data = Mapping[str, Any]
Include = Mapping[str, Any]
Order = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class ModelClient(Generic[RecordT]):
    """The operations of one model. Raises what `Repository.execute` raises."""

    __slots__ = ("_execute", "_model")

    def __init__(self, execute: Execute, model: str) -> None:
        self._execute = execute
        self._model = model

    async def _call(self, action: Action, **arguments: Any) -> Any:
        given = {name: value for name, value in arguments.items() if value is not None}
        return await self._execute(Operation(self._model, action, given))

    async def find_unique(self, where: Where, include: Include | None = None) -> RecordT | None:
        """Return the row that a unique key names, or None."""
        arguments = {"where": where} if include is None else {"where": where, "include": include}
        return cast(
            "RecordT | None", await self._execute(Operation(self._model, Action.FIND_UNIQUE, arguments))
        )

    async def find_unique_or_raise(self, where: Where, include: Include | None = None) -> RecordT:
        """Return the row that a unique key names, or raise `RecordNotFoundError`."""
        return cast("RecordT", await self._call(Action.FIND_UNIQUE_OR_RAISE, where=where, include=include))

    async def find_first(
        self,
        skip: int | None = None,
        where: Where | None = None,
        cursor: Where | None = None,
        include: Include | None = None,
        order: Order | None = None,
        distinct: Sequence[str] | None = None,
    ) -> RecordT | None:
        """Return the first row that matches, or None. Without `order`, any row that matches may be the first."""
        result = await self._call(
            Action.FIND_FIRST,
            skip=skip,
            where=where,
            cursor=cursor,
            include=include,
            order=order,
            distinct=distinct,
        )
        return cast("RecordT | None", result)

    async def find_first_or_raise(
        self,
        skip: int | None = None,
        where: Where | None = None,
        cursor: Where | None = None,
        include: Include | None = None,
        order: Order | None = None,
        distinct: Sequence[str] | None = None,
    ) -> RecordT:
        """Return the first row that matches, or raise `RecordNotFoundError`."""
        result = await self._call(
            Action.FIND_FIRST_OR_RAISE,
            skip=skip,
            where=where,
            cursor=cursor,
            include=include,
            order=order,
            distinct=distinct,
        )
        return cast("RecordT", result)

    async def find_many(
        self,
        take: int | None = None,
        skip: int | None = None,
        where: Where | None = None,
        cursor: Where | None = None,
        include: Include | None = None,
        order: Order | None = None,
        distinct: Sequence[str] | None = None,
    ) -> list[RecordT]:
        """Return the rows that match. A negative `take` counts from the end."""
        result = await self._call(
            Action.FIND_MANY,
            take=take,
            skip=skip,
            where=where,
            cursor=cursor,
            include=include,
            order=order,
            distinct=distinct,
        )
        return cast("list[RecordT]", result)

    @overload
    async def count(
        self,
        select: None = None,
        take: int | None = None,
        skip: int | None = None,
        where: Where | None = None,
        cursor: Where | None = None,
    ) -> int: ...

    @overload
    async def count(
        self,
        select: Mapping[str, bool],
        take: int | None = None,
        skip: int | None = None,
        where: Where | None = None,
        cursor: Where | None = None,
    ) -> dict[str, int]: ...

    async def count(
        self,
        select: Mapping[str, bool] | None = None,
        take: int | None = None,
        skip: int | None = None,
        where: Where | None = None,
        cursor: Where | None = None,
    ) -> int | dict[str, int]:
        """Return how many rows match; with `select`, how many have a value, per field."""
        result = await self._call(
            Action.COUNT, select=select, take=take, skip=skip, where=where, cursor=cursor
        )
        return cast("int | dict[str, int]", result)

    async def create(self, data: Data, include: Include | None = None) -> RecordT:
        """Create one row and return it."""
        return cast("RecordT", await self._call(Action.CREATE, data=data, include=include))

    async def create_many(self, data: Data | Sequence[Data], *, skip_duplicates: bool | None = None) -> int:
        """Create rows, all or none, and return how many; rows that exist are left out with `skip_duplicates`.

        Like Prisma Client Python, this takes a single row as well.
        """
        rows = [data] if isinstance(data, Mapping) else list(data)
        return cast("int", await self._call(Action.CREATE_MANY, data=rows, skip_duplicates=skip_duplicates))

    async def update(self, data: Data, where: Where, include: Include | None = None) -> RecordT | None:
        """Change the row that a unique key names and return it; None when there is no such row."""
        return cast(
            "RecordT | None", await self._call(Action.UPDATE, data=data, where=where, include=include)
        )

    async def update_many(self, data: Data, where: Where) -> int:
        """Change every row that matches and return how many there were."""
        return cast("int", await self._call(Action.UPDATE_MANY, data=data, where=where))

    async def upsert(self, where: Where, data: Data, include: Include | None = None) -> RecordT:
        """Change the row that a unique key names, or create it: `data` holds `create` and `update`."""
        return cast("RecordT", await self._call(Action.UPSERT, where=where, data=data, include=include))

    async def delete(self, where: Where, include: Include | None = None) -> RecordT | None:
        """Delete the row that a unique key names and return it; None when there is no such row."""
        return cast("RecordT | None", await self._call(Action.DELETE, where=where, include=include))

    async def delete_many(self, where: Where | None = None) -> int:
        """Delete every row that matches and return how many there were."""
        return cast("int", await self._call(Action.DELETE_MANY, where=where))


class Batch:
    """Collects writes and executes them together, all or none. Results are not returned; it may be used again.

    Has the models' attributes of the client it comes from; their methods only note the write.
    """

    def __init__(self, schema: Schema, execute: Callable[[Sequence[Operation]], Awaitable[None]]) -> None:
        self._execute = execute
        self._operations: list[Operation] = []
        for spec in schema:
            setattr(self, spec.attribute, BatchModel(self._operations, spec.name))

    def __getattr__(self, name: str) -> BatchModel:
        raise AttributeError(f"a batch has no model {name!r}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self.commit()

    async def commit(self) -> None:
        """Execute what was noted.

        Raises:
            MixedAuthorityError: the writes belong to different sides.
            RecordNotFoundError: a row to update or to delete is not there; nothing was written.
            DataError, QueryError: see `Repository.execute`.
        """
        operations = list(self._operations)
        self._operations.clear()
        await self._execute(operations)


class BatchModel:
    """The writes of one model in a batch; arguments are those of `ModelClient`."""

    __slots__ = ("_model", "_operations")

    def __init__(self, operations: list[Operation], model: str) -> None:
        self._operations = operations
        self._model = model

    def _note(self, action: Action, **arguments: Any) -> None:
        given = {name: value for name, value in arguments.items() if value is not None}
        self._operations.append(Operation(self._model, action, given))

    def create(self, data: Data) -> None:
        """Create one row."""
        self._note(Action.CREATE, data=data)

    def create_many(self, data: Sequence[Data], *, skip_duplicates: bool | None = None) -> None:
        """Create rows."""
        self._note(Action.CREATE_MANY, data=list(data), skip_duplicates=skip_duplicates)

    def update(self, data: Data, where: Where) -> None:
        """Change the row that a unique key names; it must be there."""
        self._note(Action.UPDATE, data=data, where=where)

    def upsert(self, where: Where, data: Data) -> None:
        """Change the row that a unique key names, or create it."""
        self._note(Action.UPSERT, where=where, data=data)

    def update_many(self, data: Data, where: Where) -> None:
        """Change every row that matches."""
        self._note(Action.UPDATE_MANY, data=data, where=where)

    def delete(self, where: Where) -> None:
        """Delete the row that a unique key names; it must be there."""
        self._note(Action.DELETE, where=where)

    def delete_many(self, where: Where | None = None) -> None:
        """Delete every row that matches."""
        self._note(Action.DELETE_MANY, where=where)


class TransactionManager(Generic[ClientT]):
    """A transaction and the client bound to it: `async with db.tx() as tx`, or `start`, `commit` and `rollback`."""

    def __init__(self, client: ClientT, transaction: Transaction, errors: ErrorDialect | None) -> None:
        self._client = client
        self._transaction = transaction
        self._commit = transaction.commit if errors is None else errors.guard(transaction.commit)
        self._rollback = transaction.rollback if errors is None else errors.guard(transaction.rollback)

    async def __aenter__(self) -> ClientT:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self._commit()
        elif self._transaction.is_open:
            await self._rollback()

    async def start(self) -> ClientT:
        """Begin, and return the client whose operations are part of the transaction."""
        self._transaction.start()
        return self._client

    async def commit(self) -> None:
        """Commit; raises what `Transaction.commit` raises."""
        await self._commit()

    async def rollback(self) -> None:
        """Undo everything."""
        await self._rollback()


class DatabaseClient:
    """Holds a `ModelClient` for every model of the schema: the model `MarketResearchData` is `marketresearchdata`.

    Subclasses may declare the attributes with their record classes, for the type checker.

    Args:
        repository: what executes the calls.
        errors: lets `except` clauses that name Prisma's own classes go on catching.
    """

    def __init__(self, repository: Repository, *, errors: ErrorDialect | None = None) -> None:
        self.repository = repository
        self._errors = errors
        self._bind(repository.execute)

    def _bind(self, execute: Execute) -> None:
        guarded = execute if self._errors is None else self._errors.guard(execute)
        for spec in self.repository.schema:
            setattr(self, spec.attribute, ModelClient[Any](guarded, spec.name))

    def tx(
        self,
        *,
        max_wait: timedelta | float = timedelta(seconds=2),
        timeout: timedelta | float = timedelta(seconds=5),
    ) -> TransactionManager[Self]:
        """Open a transaction: `async with db.tx() as tx` and use `tx` like the client; an exception rolls it back.

        Args:
            max_wait: how long to wait for a connection, in seconds if it is a number.
            timeout: how long the transaction may last, likewise, from its first operation.
        """
        transaction = Transaction(self.repository, max_wait=_seconds(max_wait), timeout=_seconds(timeout))
        bound = copy(self)
        bound._bind(transaction.execute)  # noqa: SLF001  # its own kind
        return TransactionManager(bound, transaction, self._errors)

    def batch_(self) -> Batch:
        """Collect writes that are executed together: `async with db.batch_() as batch: batch.user.create(...)`."""
        execute = partial(execute_batch, self.repository)
        return Batch(self.repository.schema, execute if self._errors is None else self._errors.guard(execute))

    def model(self, name: str) -> ModelClient[Any]:
        """Return the client of a model by the model's name."""
        client: ModelClient[Any] = getattr(self, self.repository.schema.model(name).attribute)
        return client


def _seconds(span: timedelta | float) -> float:
    return span.total_seconds() if isinstance(span, timedelta) else span
