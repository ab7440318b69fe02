"""The key of a row: which row of which model, in a form that can stand in sets, queues and `where` arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from crossfade.operation import Action, Operation
from crossfade.schema import ModelSpec


class Key(NamedTuple):
    """A model and the values of one of its unique keys, the primary key unless nothing better was known."""

    model: str
    items: tuple[tuple[str, Any], ...]


def key_of(spec: ModelSpec, row: Any) -> Key:
    """Return the primary key of a record."""
    return Key(spec.name, tuple((name, getattr(row, name)) for name in spec.primary_key))


def key_from_values(spec: ModelSpec, values: Mapping[str, Any]) -> Key | None:
    """Return the primary key that `values` holds, or None where a part of it is missing."""
    try:
        return Key(spec.name, tuple((name, values[name]) for name in spec.primary_key))
    except KeyError:
        return None


def unique_keys(spec: ModelSpec, values: Mapping[str, Any]) -> list[Key]:
    """Return the unique keys that `values` holds in full: the primary key alone, if it is among them."""
    primary = key_from_values(spec, values)
    if primary is not None:
        return [primary]
    complete = [
        fields for fields in spec.uniques.values() if all(values.get(name) is not None for name in fields)
    ]
    return [Key(spec.name, tuple((name, values[name]) for name in fields)) for fields in complete]


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


def is_primary(spec: ModelSpec, key: Key) -> bool:
    """Whether `key` is made of the primary key's fields."""
    return tuple(name for name, _ in key.items) == spec.primary_key


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


def keys_named(spec: ModelSpec, operation: Operation) -> list[Key]:
    """The keys that a single-row write names in its arguments, wherever it names them.

    A row whose only key the database mints, in a write of unknown outcome, cannot be named by anybody but the store.
    """
    data = operation.arguments.get("data") or {}
    named = key_from_where(spec, operation.arguments.get("where"))
    keys = [] if named is None else [named]
    match operation.action:
        case Action.CREATE:
            keys += unique_keys(spec, data)
        case Action.UPSERT:
            keys += unique_keys(spec, data["create"])
        case Action.UPDATE:
            keys += unique_keys(spec, {name: v for name, v in data.items() if not isinstance(v, Mapping)})
        case _:
            pass
    return keys


def primary_key_named(spec: ModelSpec, operation: Operation) -> Key | None:
    """The primary key of the one row that a write can touch, if its arguments name it."""
    if operation.action is Action.CREATE:
        return key_from_values(spec, operation.arguments.get("data") or {})
    key = key_from_where(spec, operation.arguments.get("where"))
    return key if key is not None and is_primary(spec, key) else None


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
