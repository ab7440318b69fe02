"""Relations in `data`: `connect`, `disconnect` and `set` of rows that exist already.

A to-one relation whose key is here becomes an assignment to that key, which is looked up first (`Lookup`). A
many-to-many relation becomes rows of its table, written after the row itself (`Linking`). What else Prisma can nest
(creating, updating, deleting rows of the other model) is refused as unsupported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.engine import Dialect

from crossfade.query.compiled import LinkStep, LookupStep, compiled
from crossfade.query.refusals import missing_value, not_found, refused_type, unsupported
from crossfade.query.select import read_unique
from crossfade.query.slots import put_null
from crossfade.query.storage import Link, StoredModel
from crossfade.query.where import Nodes, build_where
from crossfade.schema import RelationSpec

Assignment: TypeAlias = tuple[str, str, int]


class Lookup(NamedTuple):
    """A row of the other model that must exist."""

    relation: str
    where: Nodes


class Linking(NamedTuple):
    """A change of a many-to-many relation; no condition means every row."""

    relation: str
    operation: str
    where: Nodes | None


class Nested(NamedTuple):
    """What the relations of `data` come to. Assignments take keys of the lookups by slots below zero."""

    assignments: tuple[Assignment, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    linkings: tuple[Linking, ...] = ()


_NOTHING = Nested()
_TO_MANY = frozenset({"connect", "disconnect", "set"})


# --- reading -------------------------------------------------------------------------------------------------


def read_nested(
    model: StoredModel,
    data: Mapping[str, Any],
    values: list[Any],
    path: str,
    *,
    is_new: bool,
) -> Nested:
    """Read the relation fields of `data`.

    Raises:
        FieldNotFoundError: a key is given both by itself and through its relation, or a row is not named by a key.
        UnsupportedQueryError: the relation is written in a way that this side cannot do.
    """
    names = [name for name in data if name in model.spec.relations]
    if not names:
        return _NOTHING
    assignments: list[Assignment] = []
    lookups: list[Lookup] = []
    linkings: list[Linking] = []
    for name in names:
        relation, place = model.spec.relations[name], f"{path}.{name}"
        operations = data[name]
        if not isinstance(operations, Mapping):
            raise refused_type(operations, place)
        link = model.links[name]
        if relation.from_fields:
            _refuse_given_keys(model, data, path)
            assignments += _read_to_one(link, relation, operations, values, place, lookups, is_new=is_new)
        elif link.through is not None:
            linkings += _read_to_many(link, relation, operations, values, place, is_new=is_new)
        else:
            raise unsupported(model.name, place, "this nested write is not supported on this side yet")
    return Nested(tuple(assignments), tuple(lookups), tuple(linkings))


def _refuse_given_keys(model: StoredModel, data: Mapping[str, Any], path: str) -> None:
    """The engine takes either relations or their keys in one `data`, not both."""
    for relation in model.spec.relations.values():
        for key in relation.from_fields:
            if key in data:
                raise not_found(f"{path}.{key}")


def _read_to_one(
    link: Link,
    relation: RelationSpec,
    operations: Mapping[str, Any],
    values: list[Any],
    path: str,
    lookups: list[Lookup],
    *,
    is_new: bool,
) -> list[Assignment]:
    operation, operand = _only(link.model, operations, path)
    place = f"{path}.{operation}"
    if operation == "connect":
        first = sum(len(link.model.spec.relations[lookup.relation].from_fields) for lookup in lookups)
        lookups.append(Lookup(relation.name, read_unique(link.other, operand, values, place)))
        return [(key, "set", ~(first + index)) for index, key in enumerate(relation.from_fields)]
    if operation == "disconnect" and not is_new and not relation.is_required:
        if operand is False:
            return []
        if operand is not True:
            raise refused_type(operand, place)
        return [(key, "set", put_null(values)) for key in relation.from_fields]
    raise unsupported(link.model.name, place, "this nested write is not supported on this side yet")


def _read_to_many(
    link: Link,
    relation: RelationSpec,
    operations: Mapping[str, Any],
    values: list[Any],
    path: str,
    *,
    is_new: bool,
) -> list[Linking]:
    linkings: list[Linking] = []
    for operation, operand in operations.items():
        place = f"{path}.{operation}"
        if operation not in _TO_MANY or (is_new and operation != "connect"):
            raise unsupported(link.model.name, place, "this nested write is not supported on this side yet")
        if operand is None:
            raise missing_value(place)
        rows = (operand,) if isinstance(operand, Mapping) else operand
        if not isinstance(rows, (list, tuple)):
            raise not_found(place)
        if operation == "set":
            linkings.append(Linking(relation.name, "disconnect", None))
        change = "disconnect" if operation == "disconnect" else "connect"
        linkings += [
            Linking(relation.name, change, read_unique(link.other, row, values, place)) for row in rows
        ]
    # The engine takes rows out before it puts rows in.
    return sorted(linkings, key=lambda linking: linking.operation == "connect")


def _only(model: StoredModel, operations: Mapping[str, Any], path: str) -> tuple[str, Any]:
    if len(operations) != 1:
        raise unsupported(model.name, path, "give one operation on a to-one relation")
    ((operation, operand),) = operations.items()
    return operation, operand


# --- building ------------------------------------------------------------------------------------------------


def build_lookups(
    dialect: Dialect, model: StoredModel, nested: Nested, values: int
) -> tuple[LookupStep, ...]:
    """Build the SELECT of each row that must exist."""
    steps: list[LookupStep] = []
    for relation, where in nested.lookups:
        link = model.links[relation]
        source = link.other.table
        query = sa.select(*(there.selected(source) for there in link.there)).where(
            build_where(link.other, source, where)
        )
        # Held until the transaction ends, so that the key that is about to be written stays good.
        query = query.with_for_update(read=True, key_share=True)
        steps.append(LookupStep(compiled(query, dialect, values), link.other.name))
    return tuple(steps)


def build_linkings(dialect: Dialect, model: StoredModel, nested: Nested, values: int) -> tuple[LinkStep, ...]:
    """Build the statements on many-to-many tables; slot -1 is the key of the row that is written."""
    return tuple(
        _build_linking(dialect, model.links[linking.relation], linking, values) for linking in nested.linkings
    )


def _build_linking(dialect: Dialect, link: Link, linking: Linking, values: int) -> LinkStep:
    assert link.through is not None
    mine = link.here[0].parameter(-1)
    source = link.other.table
    key = link.there[0].of(source)
    if linking.operation == "connect":
        assert linking.where is not None
        found = sa.select(key.label("key")).where(build_where(link.other, source, linking.where))
        found_rows = found.cte("found")
        insert = (
            pg_insert(link.through)
            .from_select([link.near, link.far], sa.select(mine, found_rows.c.key))
            .on_conflict_do_nothing()
            .cte("linked")
        )
        query = sa.select(found_rows.c.key).add_cte(insert)
        return LinkStep(compiled(query, dialect, values), link.other.name, must_find=True)
    delete = sa.delete(link.through).where(link.through.c[link.near] == mine)
    if linking.where is not None:
        found = sa.select(key).where(build_where(link.other, source, linking.where))
        delete = delete.where(link.through.c[link.far].in_(found))
    return LinkStep(compiled(delete, dialect, values), link.other.name, must_find=False)
