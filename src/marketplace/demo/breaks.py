"""Deliberate defects in the SQLAlchemy path, for `--break`: the demo has to find them.

Each is a mistake that teams really make when they write such a path by hand. A defect sits in front of the real path
and spoils one thing for one model; everything else passes through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from crossfade.operation import READS, Action, Operation
from crossfade.paths import Path, PathTransaction
from crossfade.stages import Side
from marketplace.demo.paths import PassingPath

Execute: TypeAlias = Callable[[Operation], Awaitable[Any]]


class BrokenPath(PassingPath):
    """A path with a defect in front of it, which shows inside transactions as well."""

    def __init__(self, path: Path, defect: Defect) -> None:
        super().__init__(path)
        self._defect = defect

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation, with the defect where it applies."""
        return await self._defect.applied(self._path.execute, operation)

    async def begin(self, *, max_wait: float = 2.0, timeout: float = 5.0) -> PathTransaction:  # noqa: ASYNC109
        """Start a transaction with the defect."""
        return _BrokenTransaction(await self._path.begin(max_wait=max_wait, timeout=timeout), self._defect)


class _BrokenTransaction:
    """A transaction with a defect."""

    def __init__(self, inner: PathTransaction, defect: Defect) -> None:
        self._inner = inner
        self._defect = defect

    @property
    def side(self) -> Side:
        """Which side this is."""
        return self._inner.side

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation, with the defect where it applies."""
        return await self._defect.applied(self._inner.execute, operation)

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Pass on."""
        await self._inner.batch(operations)

    async def hold(self, models: Sequence[str]) -> None:
        """Pass on."""
        await self._inner.hold(models)

    async def commit(self) -> None:
        """Pass on."""
        await self._inner.commit()

    async def rollback(self) -> None:
        """Pass on."""
        await self._inner.rollback()


class Defect(NamedTuple):
    """A named defect of one model."""

    model: str
    description: str
    execute: Callable[[Execute, Operation], Awaitable[Any]]

    async def applied(self, execute: Execute, operation: Operation) -> Any:
        """Execute one operation, spoilt if it is of the defect's model."""
        if operation.model != self.model:
            return await execute(operation)
        return await self.execute(execute, operation)


def _with_data(operation: Operation, spoil: Callable[[str, Any], Any]) -> Operation:
    """The same write with every value of its data passed through `spoil`."""
    if operation.action in READS or "data" not in operation.arguments:
        return operation

    def row(data: Mapping[str, Any]) -> dict[str, Any]:
        return {name: spoil(name, value) for name, value in data.items()}

    data = operation.arguments["data"]
    if isinstance(data, list):
        data = [row(one) for one in data]
    elif operation.action is Action.UPSERT:
        data = {"create": row(data["create"]), "update": row(data["update"])}
    else:
        data = row(data)
    return operation._replace(arguments={**operation.arguments, "data": data})


async def _drop_milliseconds(execute: Execute, operation: Operation) -> Any:
    def spoil(name: str, value: Any) -> Any:
        return value.replace(microsecond=0) if name == "sent_at" and isinstance(value, datetime) else value

    return await execute(_with_data(operation, spoil))


async def _lose_null(execute: Execute, operation: Operation) -> Any:
    def spoil(name: str, value: Any) -> Any:
        return "" if name == "description" and value is None else value

    return await execute(_with_data(operation, spoil))


async def _float_for_decimal(execute: Execute, operation: Operation) -> Any:
    def spoil(name: str, value: Any) -> Any:
        return Decimal(str(float(value))) if name == "amount" and isinstance(value, Decimal) else value

    return await execute(_with_data(operation, spoil))


async def _respect_case(execute: Execute, operation: Operation) -> Any:
    where = operation.arguments.get("where")
    if operation.action not in READS or not isinstance(where, Mapping):
        return await execute(operation)
    strict = {
        name: {key: value for key, value in condition.items() if key != "mode"}
        if isinstance(condition, Mapping)
        else condition
        for name, condition in where.items()
    }
    return await execute(operation._replace(arguments={**operation.arguments, "where": strict}))


async def _skip_write(execute: Execute, operation: Operation) -> Any:
    # The row is read and returned instead: from the outside it looks like an update that changed nothing.
    if operation.action is Action.UPDATE:
        where = operation.arguments["where"]
        return await execute(Operation(operation.model, Action.FIND_UNIQUE, {"where": where}))
    return await execute(operation)


async def _wrong_order(execute: Execute, operation: Operation) -> Any:
    rows = await execute(operation)
    if operation.action is Action.FIND_MANY and "order" in operation.arguments:
        rows = sorted(rows, key=lambda row: row.id)
    return rows


BREAKS: Final[Mapping[str, Defect]] = MappingProxyType(
    {
        "dropped-millisecond": Defect(
            "Message", "Message.sent_at is stored without its milliseconds", _drop_milliseconds
        ),
        "case-sensitive-filter": Defect(
            "Listing", "filters on Listing forget mode: insensitive", _respect_case
        ),
        "lost-null": Defect("Item", "a null in Item.description is stored as an empty text", _lose_null),
        "skipped-write": Defect(
            "Order", "updates of single Orders are answered but not executed", _skip_write
        ),
        "wrong-order": Defect("Shipment", "lists of Shipments come in the order of their ids", _wrong_order),
        "float-decimal": Defect(
            "AnalyticsData", "AnalyticsData.amount passes through a float", _float_for_decimal
        ),
    }
)
"""Every defect by its name on the command line."""
