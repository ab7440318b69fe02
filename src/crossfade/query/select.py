"""Rows to find: `where`, `order`, `take`, `skip`, `cursor`, `distinct` and `include`, read and built.

How the engine counts off rows is kept: an order by primary key where the caller gives none, a negative `take` from the
other end, `distinct` and a cursor in an order with ties in memory (`Window`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.expression import FromClause

from crossfade.query.compiled import Include, Window, compiled
from crossfade.query.order import Terms, build_order, by_primary_key, flipped, read_order
from crossfade.query.refusals import (
    missing_value,
    negative_skip,
    not_found,
    refused_type,
    unsupported,
    unusable,
)
from crossfade.query.slots import put
from crossfade.query.storage import Column, Link, StoredModel, integer_slot
from crossfade.query.where import Nodes, build_where, read_where


class Selection(NamedTuple):
    """The shape of what to find: no values, only slots."""

    where: Nodes = ()
    order: Terms = ()
    take: int | None = None
    is_reversed: bool = False
    skip: int | None = None
    cursor: Nodes = ()
    distinct: tuple[str, ...] = ()
    include: Inclusions = ()


Inclusions = tuple[tuple[str, Selection], ...]


# --- reading -------------------------------------------------------------------------------------------------


def read_selection(
    model: StoredModel, arguments: Mapping[str, Any], values: list[Any], path: str, *, order: str = "order"
) -> Selection:
    """Read what to find. `order` is the name that the order has here: `order_by` inside an include."""
    get = arguments.get
    where, by, take, skip = get("where"), get(order), get("take"), get("skip")
    cursor, distinct, include = get("cursor"), get("distinct"), get("include")
    take_slot = skip_slot = None
    if take is not None:
        _check_integer(take, f"{path}.take")
        values.append(abs(take))
        take_slot = len(values) - 1
    if skip is not None:
        _check_integer(skip, f"{path}.skip")
        if skip < 0:
            raise negative_skip(skip)
        values.append(skip)
        skip_slot = len(values) - 1
    return Selection(
        read_where(model, where, values, f"{path}.where") if where else (),
        read_order(model, by, f"{path}.orderBy") if by else (),
        take_slot,
        take is not None and take < 0,
        skip_slot,
        read_unique(model, cursor, values, f"{path}.cursor") if cursor is not None else (),
        _read_distinct(model, distinct, f"{path}.distinct") if distinct else (),
        read_include(model, include, values, path) if include else (),
    )


def read_unique(model: StoredModel, where: Any, values: list[Any], path: str) -> Nodes:
    """Read a `where` that names one row: a unique field or a compound key, and any further conditions.

    Raises:
        FieldNotFoundError: it names no unique key, or a value is of the wrong type.
        MissingRequiredValueError: a value is None.
    """
    if not isinstance(where, Mapping):
        raise not_found(path)
    nodes: list[tuple[Any, ...]] = []
    is_unique = False
    for key, value in where.items():
        if key in model.unique_fields:
            nodes.append((key, "equals", put(model.fields[key], value, values, f"{path}.{key}")))
            is_unique = True
        elif key in model.spec.uniques:
            nodes += _read_compound(model, key, value, values, f"{path}.{key}")
            is_unique = True
        else:
            nodes += read_where(model, {key: value}, values, path)
    if not is_unique:
        raise not_found(path)
    return tuple(nodes)


def _read_compound(
    model: StoredModel, key: str, value: Any, values: list[Any], path: str
) -> Iterable[tuple[Any, ...]]:
    if not isinstance(value, Mapping):
        raise refused_type(value, path)
    names = model.spec.uniques[key]
    for name in value:
        if name not in names:
            raise not_found(f"{path}.{name}")
    for name in names:
        if name not in value:
            raise missing_value(f"{path}.{name}")
        yield (name, "equals", put(model.fields[name], value[name], values, f"{path}.{name}"))


def _check_integer(value: Any, path: str) -> None:
    if type(value) is not int:
        raise not_found(path)


def _read_distinct(model: StoredModel, distinct: Any, path: str) -> tuple[str, ...]:
    names = (distinct,) if isinstance(distinct, str) else tuple(distinct)
    for name in names:
        if name not in model.fields:
            raise not_found(f"{path}.{name}")
    return names


_IN_INCLUDE = frozenset({"where", "take", "skip", "cursor", "order_by", "distinct", "include"})
_TO_ONE = frozenset({"where", "include"})


def read_include(model: StoredModel, include: Any, values: list[Any], path: str) -> Inclusions:
    """Read an `include`.

    Raises:
        QueryError: the model has no such relation, or the choice is neither a bool nor a dict.
    """
    if not isinstance(include, Mapping):
        raise unusable(model.name, f"{path}.include", "expected a dict of relation fields")
    inclusions: list[tuple[str, Selection]] = []
    for name, choice in include.items():
        place = f"{path}.include.{name}"
        relation = model.spec.relations.get(name)
        if relation is None:
            problem = f'Field: "{name}" either does not exist or is not a relational field'
            raise unusable(model.name, place, f"{problem} on the {model.name} model")
        if choice is True:
            inclusions.append((name, Selection()))
        elif isinstance(choice, Mapping):
            given = {("order_by" if key == "orderBy" else key): value for key, value in choice.items()}
            unknown = given.keys() - (_IN_INCLUDE if relation.is_list else _TO_ONE)
            if unknown:
                raise not_found(f"{place}.{min(unknown)}")
            if given.get("cursor") is not None:
                raise unsupported(model.name, f"{place}.cursor")
            selection = read_selection(model.links[name].other, given, values, place, order="order_by")
            inclusions.append((name, selection))
        elif choice is not False:
            raise unusable(model.name, place, f"expected bool or dict, got {type(choice).__name__}")
    return tuple(inclusions)


# --- building ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """A SELECT of a model's columns, and what is left to do in memory."""

    select: sa.Select[Any]
    window: Window | None


def build_selection(model: StoredModel, selection: Selection, *, first: bool = False) -> Found:
    """Build the SELECT of a find. `first` wants one row of it at most."""
    source = model.table
    query = sa.select(*model.columns(source)).where(build_where(model, source, selection.where))
    terms = ordering(model, selection)
    in_memory = bool(selection.distinct)
    if selection.cursor:
        query = query.where(_from_cursor(model, terms, selection))
        in_memory = in_memory or not _is_total(model, terms)
    query = query.order_by(*build_order(model, source, terms))
    if not in_memory:
        if selection.take is not None:
            query = query.limit(integer_slot(selection.take))
        elif first:
            query = query.limit(sa.literal_column("1"))
        if selection.skip is not None:
            query = query.offset(integer_slot(selection.skip))
        return Found(query, Window(is_reversed=True) if selection.is_reversed else None)
    positions = {name: position for position, name in enumerate(model.fields)}
    window = Window(
        cursor=tuple((positions[node[0]], node[2]) for node in selection.cursor if node[1] == "equals"),
        distinct=tuple(positions[name] for name in selection.distinct),
        skip=selection.skip,
        take=selection.take,
        is_reversed=selection.is_reversed,
    )
    return Found(query, window)


def ordering(model: StoredModel, selection: Selection) -> Terms:
    """Return the order that a selection has, the engine's own addition included."""
    counted = selection.take is not None or selection.skip is not None
    terms = selection.order
    if not terms and (counted or selection.cursor or selection.distinct):
        terms = by_primary_key(model)
    return flipped(terms) if selection.is_reversed else terms


def _is_total(model: StoredModel, terms: Terms) -> bool:
    names = {name for name, _, _ in terms}
    return any(names.issuperset(key) for key in model.spec.uniques.values())


def _from_cursor(model: StoredModel, terms: Terms, selection: Selection) -> Column:
    """The rows that do not come before the cursor's row. Without such a row it is null, and nothing is found."""
    anchor = model.alias()
    unique = build_where(model, anchor, selection.cursor)
    alternatives: list[Column] = []
    equal: list[Column] = []
    for index, (name, way, _) in enumerate(terms):
        stored = model.fields[name]
        if not stored.spec.is_required:
            raise unsupported(model.name, "find.cursor", f"a cursor in an order by {name}, which may be null")
        column = stored.of(model.table)
        there = sa.select(stored.of(anchor)).where(unique).scalar_subquery()
        is_last = index == len(terms) - 1
        if way == "asc":
            beyond = column >= there if is_last else column > there
        else:
            beyond = column <= there if is_last else column < there
        alternatives.append(sa.and_(*equal, beyond))
        equal.append(column == there)
    return sa.or_(*alternatives)


def build_includes(
    dialect: Dialect, model: StoredModel, inclusions: Inclusions, values: int
) -> tuple[Include, ...]:
    """Build one statement per relation to load. `values` is how many slots the shape has."""
    return tuple(_build_include(dialect, model, name, selection, values) for name, selection in inclusions)


def _build_include(
    dialect: Dialect, model: StoredModel, name: str, selection: Selection, values: int
) -> Include:
    link = model.links[name]
    child = link.other
    source: FromClause = child.table
    columns = child.columns(source)
    positions = {field: position for position, field in enumerate(child.fields)}
    if link.through is None:
        keys = [there.of(source) for there in link.there]
        child_key = tuple(positions[there.name] for there in link.there)
        query = sa.select(*columns).where(_among(link, keys))
    else:
        near = link.through.c[link.near]
        keys = [near]
        child_key = (len(columns),)
        columns.append(sa.cast(near, sa.Text()) if link.here[0].codec.as_text else near)
        joined = link.through.c[link.far] == link.there[0].of(source)
        query = sa.select(*columns).select_from(source.join(link.through, joined)).where(_among(link, keys))
    query = query.where(build_where(child, source, selection.where))
    counted = selection.take is not None or selection.skip is not None
    terms = ordering(child, selection)
    ordered = list(build_order(child, source, terms))
    if counted and not selection.distinct:
        query = _ranked(query, columns, keys, ordered, selection)
        window = Window(is_reversed=True) if selection.is_reversed else None
    else:
        query = query.order_by(*ordered)
        window = None
        if selection.distinct:
            distinct = tuple(positions[field] for field in selection.distinct)
            window = Window((), distinct, selection.skip, selection.take, selection.is_reversed)
    parents = {field: position for position, field in enumerate(model.fields)}
    return Include(
        name=name,
        statement=compiled(query, dialect, values),
        build=child.builder(more=len(columns) > len(positions)),
        is_list=link.spec.is_list,
        parent_key=tuple(parents[here.name] for here in link.here),
        child_key=child_key,
        window=window,
        includes=build_includes(dialect, child, selection.include, values),
    )


def _among(link: Link, keys: list[Column]) -> Column:
    """The condition that a row belongs to one of the parents whose keys the executor fills in."""
    if len(keys) == 1:
        return keys[0] == sa.any_(link.here[0].array(-1))
    arrays = [here.array(~index) for index, here in enumerate(link.here)]
    rows = sa.func.unnest(*arrays).table_valued(*(f"k{index}" for index in range(len(keys))), name="parents")
    rows = rows.render_derived()
    return sa.tuple_(*keys).in_(sa.select(*rows.c))


def _ranked(
    query: sa.Select[Any],
    columns: list[Column],
    keys: list[Column],
    ordered: list[Column],
    selection: Selection,
) -> sa.Select[Any]:
    """Number the rows of each parent in the database, so that only those that are wanted travel."""
    rank = sa.func.row_number().over(partition_by=keys, order_by=ordered)
    names = [f"c{index}" for index in range(len(columns))]
    labelled = [column.label(name) for name, column in zip(names, columns, strict=True)]
    numbered = query.with_only_columns(*labelled, rank.label("rank"), maintain_column_froms=True).subquery(
        "r"
    )
    skip = integer_slot(selection.skip) if selection.skip is not None else sa.literal_column("0")
    outer = sa.select(*(numbered.c[name] for name in names)).where(numbered.c.rank > skip)
    if selection.take is not None:
        outer = outer.where(numbered.c.rank <= skip + integer_slot(selection.take))
    return outer.order_by(numbered.c.rank)
