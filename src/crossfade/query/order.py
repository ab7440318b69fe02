"""Order: read from Prisma's `order` into `(field, "asc" | "desc", nulls)` terms, and built into ORDER BY."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from sqlalchemy.sql.expression import FromClause

from crossfade.query.refusals import missing_value, not_found, several_values, unsupported
from crossfade.query.storage import Column, StoredModel

Term: TypeAlias = tuple[str, str, str | None]
Terms: TypeAlias = tuple[Term, ...]

_FLIPPED = {"asc": "desc", "desc": "asc", "first": "last", "last": "first", None: None}


def read_order(model: StoredModel, order: Any, path: str) -> Terms:
    """Read an `order`: a dict with one key, or a list of such dicts.

    Raises:
        FieldNotFoundError: an unknown field or direction.
        UnsupportedQueryError: order by a relation or by relevance.
    """
    if isinstance(order, Mapping):
        order = (order,)
    if not isinstance(order, (list, tuple)):
        raise not_found(path)
    return tuple([_read_term(model, term, path) for term in order if term])


def _read_term(model: StoredModel, term: Any, path: str) -> Term:
    if not isinstance(term, Mapping):
        raise not_found(path)
    if len(term) != 1:
        raise several_values(path, len(term))
    ((name, direction),) = term.items()
    place = f"{path}.{name}"
    if name not in model.fields:
        if name in model.spec.relations or name == "_relevance":
            raise unsupported(model.name, place)
        raise not_found(place)
    nulls = None
    if isinstance(direction, Mapping):
        unknown = direction.keys() - {"sort", "nulls"}
        if unknown:
            raise not_found(f"{place}.{min(unknown)}")
        nulls = direction.get("nulls")
        direction = direction.get("sort")
        if model.fields[name].spec.is_required or nulls not in (None, "first", "last"):
            raise not_found(place)
    if direction is None:
        raise missing_value(place)
    if direction not in ("asc", "desc"):
        raise not_found(place)
    return (name, direction, nulls)


def by_primary_key(model: StoredModel) -> Terms:
    """The order that the engine adds when rows are counted off without one."""
    return tuple((name, "asc", None) for name in model.spec.primary_key)


def flipped(terms: Terms) -> Terms:
    """The same order from the other end: for a negative `take`."""
    return tuple((name, _FLIPPED[way] or way, _FLIPPED[nulls]) for name, way, nulls in terms)


def build_order(model: StoredModel, source: FromClause, terms: Terms) -> Iterable[Column]:
    """Return the ORDER BY of `source`; nulls lie where PostgreSQL puts them unless the caller says."""
    for name, way, nulls in terms:
        column = model.fields[name].ordered(source)
        ordered = column.asc() if way == "asc" else column.desc()
        match nulls:
            case "first":
                ordered = ordered.nulls_first()
            case "last":
                ordered = ordered.nulls_last()
        yield ordered
