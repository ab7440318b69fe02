"""The key of a row: which row of which model, in a form that can stand in sets, queues and `where` arguments."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

from crossfade.operation import Action, Operation
from crossfade.schema import ModelSpec


class Key(NamedTuple):
    """A model and the values of one of its unique keys, the primary key unless nothing better was known."""

    model: str
    items: tuple[tuple[str, Any], ...]


def key_of(spec: ModelSpec, row: Any) -> Key:
    """Return the primary key of a record."""
    return Key(spec.name, tuple((name, getattr(row, name)) for name in spec.primary_key))


def text_of_key(spec: ModelSpec, row: Any) -> tuple[str, ...] | None:
    """Return the primary key of a record as the stores' capture notes it, or None where Python cannot tell."""
    return _texts([getattr(row, name) for name in spec.primary_key])


def text_of(key: Key) -> tuple[str, ...] | None:
    """Return a key as the stores' capture notes it, or None where Python cannot tell."""
    return _texts([value for _, value in key.items])


def _texts(values: list[Any]) -> tuple[str, ...] | None:
    # How a time or a decimal is spelled depends on the type of its column.
    if all(isinstance(value, (str, int, UUID)) and not isinstance(value, bool) for value in values):
        return tuple(map(str, values))
    return None


def subject(operation: Operation, key: Key | None) -> int:
    """Return 64 bits that stand for what an operation is about: the row of `key`, or else the question itself.

    They are the same in every process and after every restart, and no value can be read from them without guessing it.
    """
    told = key.items if key is not None else operation.arguments
    return int.from_bytes(blake2b(f"{operation.model} {told!r}".encode(), digest_size=8).digest(), "big")


def key_from_values(spec: ModelSpec, values: Mapping[str, Any]) -> Key | None:
    """Return the primary key that `values` holds, or None where a part of it is missing."""
    try:
        return Key(spec.name, tuple((name, values[name]) for name in spec.primary_key))
    except KeyError:
        return None


def key_from_where(spec: ModelSpec, where: Mapping[str, Any] | None) -> Key | None:
    """Return the unique key that a `where` of a single-row operation names, or None when it names none."""
    for name, value in (where or {}).items():
        fields = spec.uniques.get(name)
        if fields is None:
            continue
        if isinstance(value, Mapping):
            if len(fields) > 1 and all(part in value for part in fields):
                return Key(spec.name, tuple((part, value[part]) for part in fields))
        elif fields == (name,):
            return Key(spec.name, ((name, value),))
    return None


def where_of(spec: ModelSpec, key: Key) -> dict[str, Any]:
    """Return the `where` argument that finds the row of `key`."""
    if len(key.items) == 1:
        return dict(key.items)
    names = tuple(name for name, _ in key.items)
    compound = next(name for name, fields in spec.uniques.items() if fields == names)
    return {compound: dict(key.items)}


def read_by_key(spec: ModelSpec, key: Key) -> Operation:
    """Return the operation that reads the row of `key`."""
    return Operation(spec.name, Action.FIND_UNIQUE, {"where": where_of(spec, key)})


def parent_keys(spec: ModelSpec, data: Mapping[str, Any]) -> list[Key]:
    """Return the keys of the rows that foreign keys in `data` point at."""
    keys = []
    for relation in spec.relations.values():
        values = [data.get(name) for name in relation.from_fields]
        if values and all(value is not None for value in values):
            keys.append(Key(relation.model, tuple(zip(relation.to_fields, values, strict=True))))
    return keys


def keys_written(spec: ModelSpec, operation: Operation, row: Any) -> tuple[Key, ...]:
    """The primary keys that a single-row write touched: the row's own, and the one it had before."""
    if row is None:
        return ()
    key = key_of(spec, row)
    if operation.action is Action.UPDATE:
        named = key_from_where(spec, operation.arguments.get("where"))
        if named is not None and named != key and {n for n, _ in named.items} == set(spec.primary_key):
            return (key, named)
    return (key,)


def rows_referred(spec: ModelSpec, operation: Operation) -> list[tuple[str, Key | None]]:
    """The rows of other models that a write refers to by foreign keys or `connect`; None for a key of unknown form."""
    found: list[tuple[str, Key | None]] = []
    data = operation.arguments.get("data")
    rows = data if isinstance(data, (list, tuple)) else [data]
    if operation.action is Action.UPSERT and isinstance(data, Mapping):
        rows = [data.get("create"), data.get("update")]
    for row in rows:
        if not isinstance(row, Mapping):
            continue
        found += [(key.model, key) for key in parent_keys(spec, row)]
        for name, relation in spec.relations.items():
            choice = row.get(name)
            if isinstance(choice, Mapping) and isinstance(choice.get("connect"), Mapping):
                parts = tuple(choice["connect"].items())
                known = len(parts) == 1 and not isinstance(parts[0][1], Mapping)
                found.append((relation.model, Key(relation.model, parts) if known else None))
    return found
