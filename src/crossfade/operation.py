"""A call, turned into a value once; both sides execute the same value.

`Operation` holds Prisma's own arguments, without those that were not given. This module answers what an operation
touches and *pins* what Prisma's client side would mint (ids, times, literal defaults), so that two sides that
execute the same operation write the same values. It knows no driver and does no I/O.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from crossfade.fields import Base64, Json
from crossfade.schema import FieldSpec, Mint, ModelSpec, Scalar, Schema


class Action(StrEnum):
    """What a call does; the values are the method names of a model's client."""

    FIND_UNIQUE = "find_unique"
    FIND_UNIQUE_OR_RAISE = "find_unique_or_raise"
    FIND_FIRST = "find_first"
    FIND_FIRST_OR_RAISE = "find_first_or_raise"
    FIND_MANY = "find_many"
    COUNT = "count"
    CREATE = "create"
    CREATE_MANY = "create_many"
    UPDATE = "update"
    UPDATE_MANY = "update_many"
    UPSERT = "upsert"
    DELETE = "delete"
    DELETE_MANY = "delete_many"


READS: frozenset[Action] = frozenset(
    {
        Action.FIND_UNIQUE,
        Action.FIND_UNIQUE_OR_RAISE,
        Action.FIND_FIRST,
        Action.FIND_FIRST_OR_RAISE,
        Action.FIND_MANY,
        Action.COUNT,
    }
)
WRITES: frozenset[Action] = frozenset(Action) - READS
MANY_WRITES: frozenset[Action] = frozenset({Action.CREATE_MANY, Action.UPDATE_MANY, Action.DELETE_MANY})


class Operation(NamedTuple):
    """One call. `arguments` are Prisma's keyword arguments; None at the top level means "not given" and is left out.

    A tuple, because one is made for every call and a frozen dataclass costs several times as much to build.
    """

    model: str
    action: Action
    arguments: Mapping[str, Any]


def models_touched(schema: Schema, operation: Operation) -> tuple[str, ...]:
    """Return every model the operation reads or writes by name, its own first.

    Cascades are not listed: the store does those by itself.
    """
    arguments = operation.arguments
    if "include" not in arguments and not _mentions_relation(schema, operation):
        return (operation.model,)
    touched: dict[str, None] = {operation.model: None}
    _walk_include(schema, operation.model, arguments.get("include"), touched)
    _walk_where(schema, operation.model, arguments.get("where"), touched)
    return tuple(touched)


def _mentions_relation(schema: Schema, operation: Operation) -> bool:
    where = operation.arguments.get("where")
    if not where:
        return False
    relations = schema.models[operation.model].relations
    return any(key in relations or key in ("AND", "OR", "NOT") for key in where)


def _walk_include(schema: Schema, model: str, include: Any, touched: dict[str, None]) -> None:
    if not isinstance(include, Mapping):
        return
    for name, choice in include.items():
        relation = schema.models[model].relations.get(name)
        if relation is None or choice is False:
            continue
        touched[relation.model] = None
        if isinstance(choice, Mapping):
            _walk_include(schema, relation.model, choice.get("include"), touched)
            _walk_where(schema, relation.model, choice.get("where"), touched)


def _walk_where(schema: Schema, model: str, where: Any, touched: dict[str, None]) -> None:
    if isinstance(where, list):
        for part in where:
            _walk_where(schema, model, part, touched)
    if not isinstance(where, Mapping):
        return
    relations = schema.models[model].relations
    for name, condition in where.items():
        if name in ("AND", "OR", "NOT"):
            _walk_where(schema, model, condition, touched)
        elif name in relations:
            other = relations[name].model
            touched[other] = None
            if isinstance(condition, Mapping):
                _walk_where(schema, other, condition, touched)
                for key in ("is", "is_not", "some", "every", "none"):
                    _walk_where(schema, other, condition.get(key), touched)


def nested_writes(spec: ModelSpec, operation: Operation) -> tuple[str, ...]:
    """Return the relation fields by which a write reaches rows of other models (`create` and the like).

    A `connect` or `disconnect` that only sets this row's own foreign key is no such thing.
    """
    relations = spec.relations
    reached = [name for data in _all_data(operation) for name in data if name in relations]
    if not reached:
        return ()
    links = {name for data in _all_data(operation) for name in _links(spec, operation.action, data)}
    return tuple(dict.fromkeys(name for name in reached if name not in links))


def models_written(schema: Schema, operation: Operation) -> tuple[str, ...]:
    """Return every model that a write names rows of, its own first; more than one only with nested writes."""
    spec = schema.models[operation.model]
    nested = nested_writes(spec, operation)
    if not nested:
        return (operation.model,)
    written: dict[str, None] = {operation.model: None}
    for data in _all_data(operation):
        for name in nested:
            if name in data:
                _walk_nested(schema, spec.relations[name].model, data[name], written)
    return tuple(written)


def _walk_nested(schema: Schema, model: str, value: Any, written: dict[str, None]) -> None:
    """Note `model`, and every model that the rows given for it name rows of in turn."""
    written[model] = None
    relations = schema.models[model].relations
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, (list, tuple)):
            waiting += part
        elif isinstance(part, Mapping):
            for name, inner in part.items():
                if name in relations:
                    _walk_nested(schema, relations[name].model, inner, written)
                elif isinstance(inner, (Mapping, list, tuple)):
                    waiting.append(inner)


def _all_data(operation: Operation) -> list[Mapping[str, Any]]:
    data = operation.arguments.get("data")
    match operation.action:
        case Action.UPSERT if isinstance(data, Mapping):
            return [part for part in (data.get("create"), data.get("update")) if isinstance(part, Mapping)]
        case Action.CREATE_MANY if isinstance(data, (list, tuple)):
            return [part for part in data if isinstance(part, Mapping)]
        case _:
            return [data] if isinstance(data, Mapping) else []


# --- pinning -------------------------------------------------------------------------------------------------


def utc_now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def to_milliseconds(moment: datetime) -> datetime:
    """Cut `moment` to whole milliseconds, as Prisma Client Python does before it sends one. Naive means UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(number: int, width: int) -> str:
    """Write the last `width` digits of `number` in base 36, as ids have them."""
    text = ""
    for _ in range(width):
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text


class CuidFactory:
    """Makes ids in the form of Prisma's `cuid()`: sortable by time, then by a counter of this process.

    The layout is cuid version 1: `c`, the time in milliseconds (8 characters of base 36), a counter (4),
    a fingerprint of the process (4) and randomness (8).
    """

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._counter = itertools.count(secrets.randbelow(36**3))
        self._fingerprint = base36(os.getpid(), 2) + base36(secrets.randbelow(36**2), 2)
        self._random = random.SystemRandom()

    def __call__(self) -> str:
        """Return a new id."""
        stamp = int(self._clock().timestamp() * 1000)
        count = next(self._counter) % 36**4
        noise = self._random.getrandbits(64) % 36**8
        return f"c{base36(stamp, 8)}{base36(count, 4)}{self._fingerprint}{base36(noise, 8)}"


@dataclass(frozen=True, slots=True)
class Pinner:
    """Fills in what a client would mint, once per operation. Clock and id makers are dependencies."""

    schema: Schema
    clock: Callable[[], datetime] = utc_now
    cuid: Callable[[], str] = field(default_factory=CuidFactory)
    uuid: Callable[[], str] = field(default=lambda: str(uuid.uuid4()))

    def pin(self, operation: Operation) -> Operation:
        """Return `operation` with ids, times and literal defaults given; the same value when nothing is missing.

        One operation has one time: `created_at` equals `updated_at` on a new row, as the engine does it.
        Autoincrement and `dbgenerated` defaults are left to the authority.
        """
        spec = self.schema.models[operation.model]
        data = operation.arguments.get("data")
        now = to_milliseconds(self.clock())
        pinned: Any
        match operation.action:
            case Action.CREATE if isinstance(data, Mapping):
                pinned = self._filled(spec, data, now)
            case Action.CREATE_MANY if isinstance(data, (list, tuple)):
                pinned = [self._filled(spec, row, now) for row in data]
            case Action.UPDATE | Action.UPDATE_MANY if isinstance(data, Mapping):
                pinned = self._touched(spec, data, now)
            case Action.UPSERT if isinstance(data, Mapping):
                pinned = {
                    **data,
                    "create": self._filled(spec, data.get("create") or {}, now),
                    "update": self._touched(spec, data.get("update") or {}, now),
                }
            case _:
                return operation
        return operation._replace(arguments={**operation.arguments, "data": pinned})

    def _as_carried(self, spec: ModelSpec, data: Mapping[str, Any]) -> dict[str, Any]:
        """Cut floats to what Prisma's engine carries, or the two stores would differ in the last digit."""
        row = dict(data)
        for name, value in data.items():
            if isinstance(value, float) and name in spec.fields and spec.fields[name].scalar is Scalar.FLOAT:
                row[name] = float(f"{value:.16g}")
        return row

    def _filled(self, spec: ModelSpec, data: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        row = self._as_carried(spec, data)
        for name, column in spec.fields.items():
            if name in row:
                continue
            if column.is_updated_at:
                row[name] = now
            elif column.default is not None and not column.default.mint.by_database:
                row[name] = self._mint(column, now)
        return row

    def _touched(self, spec: ModelSpec, data: Mapping[str, Any], now: datetime) -> Mapping[str, Any]:
        own = spec.fields.keys() | {r.name for r in spec.relations.values() if r.from_fields}
        if own.isdisjoint(data):
            return data  # nothing of the row itself changes, so the engine leaves its time alone
        stamps = {f.name: now for f in spec.fields.values() if f.is_updated_at and f.name not in data}
        return {**self._as_carried(spec, data), **stamps}

    def _mint(self, column: FieldSpec, now: datetime) -> Any:
        assert column.default is not None
        match column.default.mint:
            case Mint.CUID:
                return self.cuid()
            case Mint.UUID:
                return self.uuid()
            case Mint.NOW:
                return now
            case _:
                return literal(column)


def literal(column: FieldSpec) -> Any:
    """Return a literal `@default` as the value a caller would have passed."""
    assert column.default is not None
    value = column.default.value
    if column.is_list:
        return [_literal_value(column.scalar, item) for item in value]
    return _literal_value(column.scalar, value)


def _literal_value(scalar: Scalar, value: Any) -> Any:
    match scalar:
        case Scalar.JSON:
            return Json(json.loads(value))
        case Scalar.BYTES:
            return Base64(value)
        case Scalar.DECIMAL:
            return Decimal(str(value))
        case Scalar.BIGINT:
            return int(value)
        case Scalar.FLOAT:
            return float(value)
        case Scalar.DATETIME:
            return datetime.fromisoformat(value)
        case _:
            return value


def for_follower(spec: ModelSpec, operation: Operation, row: Any) -> Operation:
    """Return the operation for the follower: what only the authority could tell is taken from its `row`.

    That is what its database minted, and which rows a `connect` found: the follower is given the foreign keys.
    """
    if row is None or operation.action not in (Action.CREATE, Action.UPDATE, Action.UPSERT):
        return operation
    data = operation.arguments["data"]
    linked = _links(spec, operation.action, data)
    minted = () if operation.action is Action.UPDATE else spec.minted_by_database
    if not minted and not linked:
        return operation
    told = {column.name: getattr(row, column.name) for column in minted}
    if operation.action is Action.UPSERT:
        data = {**data, "create": {**data["create"], **told}}
    else:
        told |= {key: getattr(row, key) for name in linked for key in spec.relations[name].from_fields}
        if (
            linked
        ):  # Prisma's engine links in a statement of its own, and gives the row a time of its own with it
            told |= {
                column.name: getattr(row, column.name)
                for column in spec.fields.values()
                if column.is_updated_at
            }
        data = {name: value for name, value in data.items() if name not in linked} | told
    return operation._replace(arguments={**operation.arguments, "data": data})


def _links(spec: ModelSpec, action: Action, data: Mapping[str, Any]) -> tuple[str, ...]:
    """The relations of this row itself that `data` links or unlinks, and does nothing else to."""
    if action not in (Action.CREATE, Action.UPDATE) or spec.relations.keys().isdisjoint(data):
        return ()
    return tuple(
        name
        for name, value in data.items()
        if name in spec.relations
        and spec.relations[name].from_fields
        and isinstance(value, Mapping)
        and value.keys() <= {"connect", "disconnect"}
    )
