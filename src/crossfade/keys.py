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
