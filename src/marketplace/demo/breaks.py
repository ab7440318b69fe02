"""Deliberate defects in the SQLAlchemy path, for `--break`: the demo has to find them.

Most are mistakes that teams really make when they write such a path by hand: a defect sits in front of the real path
and spoils one thing for one model; everything else passes through. Two are faults of the new store itself, for all
models: those begin while models are live.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from crossfade.errors import ConnectionLostError
from crossfade.operation import READS, Action, Operation

Execute: TypeAlias = Callable[[Operation], Awaitable[Any]]


SLOWER: Final = 0.5
"""By how many seconds a slow store is slower."""


class Spoilt(NamedTuple):
    """An answer that is not what it should be, or the answer to a write that is not what was asked for."""

    result: Any


async def _execute(execute: Execute, operation: Operation) -> Any:
    return await execute(operation)


class Defect(NamedTuple):
    """A named defect, of one model or (None) of all.

    `execute` returns `Spoilt` where it has done harm. `meet` comes before every call, for faults of the store itself;
    those are late: they begin while models are live.
    """

    model: str | None
    description: str
    execute: Callable[[Execute, Operation], Awaitable[Any]] = _execute
    meet: Callable[[], Awaitable[None]] | None = None

    @property
    def is_late(self) -> bool:
        """Whether it begins while models are live."""
        return self.meet is not None

    def concerns(self, model: str) -> bool:
        """Whether it spoils anything of `model`."""
        return self.model in (None, model)


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


async def _executed(execute: Execute, asked: Operation, done: Operation) -> Any:
    """Execute what the defect has made of an operation."""
    result = await execute(done)
    return result if done.arguments == asked.arguments else Spoilt(result)


async def _drop_milliseconds(execute: Execute, operation: Operation) -> Any:
    def spoil(name: str, value: Any) -> Any:
        return value.replace(microsecond=0) if name == "sent_at" and isinstance(value, datetime) else value

    return await _executed(execute, operation, _with_data(operation, spoil))


async def _lose_null(execute: Execute, operation: Operation) -> Any:
    def spoil(name: str, value: Any) -> Any:
        return "" if name == "description" and value is None else value

    return await _executed(execute, operation, _with_data(operation, spoil))


async def _float_for_decimal(execute: Execute, operation: Operation) -> Any:
    def spoil(name: str, value: Any) -> Any:
        return Decimal(str(float(value))) if name == "amount" and isinstance(value, Decimal) else value

    return await _executed(execute, operation, _with_data(operation, spoil))


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
    answer = await execute(operation._replace(arguments={**operation.arguments, "where": strict}))
    if strict == where or _keys(answer) == _keys(await execute(operation)):
        return answer
    return Spoilt(answer)


def _keys(answer: Any) -> Any:
    """What tells one answer from another here: which rows there are, or how many."""
    return [row.id for row in answer] if isinstance(answer, list) else getattr(answer, "id", answer)


async def _skip_write(execute: Execute, operation: Operation) -> Any:
    # The row is read and returned instead: from the outside it looks like an update that changed nothing.
    if operation.action is Action.UPDATE:
        where = operation.arguments["where"]
        return Spoilt(await execute(Operation(operation.model, Action.FIND_UNIQUE, {"where": where})))
    return await execute(operation)


async def _wrong_order(execute: Execute, operation: Operation) -> Any:
    rows = await execute(operation)
    if operation.action is Action.FIND_MANY and "order" in operation.arguments:
        wrong = sorted(rows, key=lambda row: row.id)
        return rows if _keys(wrong) == _keys(rows) else Spoilt(wrong)
    return rows


async def _be_slow() -> None:
    await asyncio.sleep(SLOWER)


async def _be_away() -> None:
    raise ConnectionLostError("the new store does not answer: it was broken on purpose")


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
        "slow-store": Defect(
            None,
            f"the new store takes {SLOWER * 1000:.0f} ms longer, from a moment on while live",
            meet=_be_slow,
        ),
        "failing-store": Defect(
            None, "the new store does not answer, from a moment on while live", meet=_be_away
        ),
    }
)
"""Every defect by its name on the command line."""
