"""Data to write: Prisma's `data`, read into shapes and built into INSERT, UPDATE and their kin.

A shape of data is a tuple of `(field, operation, slot)`; on create the operation is always `set`. The order is that of
the schema, not of the caller's dict, so that call sites share statements.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.postgresql.dml import Insert
from sqlalchemy.types import ARRAY

from crossfade.errors import DataError
from crossfade.query.nested import Assignment, Nested, read_nested
from crossfade.query.refusals import missing_value, not_found, refused_type, several_values
from crossfade.query.slots import encoded_list, put, put_list, put_null, takes_null
from crossfade.query.storage import Column, StoredField, StoredModel, is_number
from crossfade.query.values import AnyType, RejectedError, array_literal
from crossfade.query.where import Nodes, build_where
from crossfade.schema import FieldSpec

Assignments: TypeAlias = tuple[Assignment, ...]
Groups: TypeAlias = tuple[tuple[tuple[str, int], ...], ...]

_NOT_NESTED = Nested()
_NUMBER_OPERATIONS = frozenset({"increment", "decrement", "multiply", "divide"})


# --- reading -------------------------------------------------------------------------------------------------


class Data(NamedTuple):
    """What to write to one row, and the rows of other models that have to do with it."""

    assignments: Assignments
    nested: Nested


def read_create(model: StoredModel, data: Any, values: list[Any], path: str) -> Data:
    """Read the data of a new row.

    Raises:
        FieldNotFoundError: an unknown field, or a value of the wrong type.
        MissingRequiredValueError: a required field has no value.
        UnsupportedQueryError: a nested write that this side cannot do.
    """
    if not isinstance(data, Mapping):
        raise refused_type(data, path)
    assignments = tuple(
        [
            (name, "set", _put_whole(stored, data[name], values, f"{path}.{name}"))
            for name, stored in model.fields.items()
            if name in data
        ]
    )
    if len(assignments) == len(data):
        _check_required(model, data.keys(), path)
        return Data(assignments, _NOT_NESTED)
    _check_names(model, data, path)
    nested = read_nested(model, data, values, path, is_new=True)
    _check_required(model, data.keys() | {name for name, _, _ in nested.assignments}, path)
    return Data(assignments + nested.assignments, nested)


def _check_names(model: StoredModel, data: Mapping[str, Any], path: str) -> None:
    for name in data:
        if name not in model.fields and name not in model.spec.relations:
            raise not_found(f"{path}.{name}")


def _check_required(model: StoredModel, given: AbstractSet[str], path: str) -> None:
    if not model.required <= given:
        name = next(name for name in model.fields if name in model.required and name not in given)
        raise missing_value(f"{path}.{name}")


def _refuse_nested(model: StoredModel, data: Mapping[str, Any], path: str) -> None:
    _check_names(model, data, path)
    for name in data:
        if name in model.spec.relations:
            raise not_found(f"{path}.{name}")  # writes of many rows have no relation fields in Prisma


def _put_whole(stored: StoredField, value: Any, values: list[Any], path: str) -> int:
    """Put the value of a whole column."""
    if stored.spec.is_list:
        if isinstance(value, Mapping):
            if value.keys() != {"set"}:
                raise not_found(path)
            value = value["set"]
        if value is None:
            raise missing_value(path)
        return put_list(stored, value, values, path)
    if value is None and takes_null(stored):
        return put_null(values)
    return put(stored, value, values, path)


def read_update(model: StoredModel, data: Any, values: list[Any], path: str) -> Data:
    """Read the data of an update: values, or one operation on the value that is there.

    Raises:
        DataError: a field has no operation or more than one.
        FieldNotFoundError: an unknown field or operation, or a value of the wrong type.
        MissingRequiredValueError: None for a required field.
        UnsupportedQueryError: a nested write that this side cannot do.
    """
    assignments = _read_assignments(model, data, values, path)
    if len(assignments) == len(data):
        return Data(assignments, _NOT_NESTED)
    _check_names(model, data, path)
    nested = read_nested(model, data, values, path, is_new=False)
    return Data(assignments + nested.assignments, nested)


def read_update_many(model: StoredModel, data: Any, values: list[Any], path: str) -> Assignments:
    """Read the data of an update of many rows: as `read_update`, without relations."""
    assignments = _read_assignments(model, data, values, path)
    if len(assignments) != len(data):
        _refuse_nested(model, data, path)
    return assignments


def _read_assignments(model: StoredModel, data: Any, values: list[Any], path: str) -> Assignments:
    if not isinstance(data, Mapping):
        raise refused_type(data, path)
    return tuple(
        [
            _read_assignment(stored, data[name], values, f"{path}.{name}")
            for name, stored in model.fields.items()
            if name in data
        ]
    )


def _read_assignment(stored: StoredField, value: Any, values: list[Any], path: str) -> Assignment:
    name = stored.spec.name
    if not isinstance(value, Mapping):
        return (name, "set", _put_whole(stored, value, values, path))
    for operation in value:
        if operation != "set" and not _is_operation(stored, operation):
            raise not_found(f"{path}.{operation}")
    if len(value) != 1:
        raise several_values(path, len(value))
    ((operation, operand),) = value.items()
    place = f"{path}.{operation}"
    if operation == "set":
        return (name, "set", _put_whole(stored, operand, values, place))
    if operation == "push":
        if operand is None:
            raise missing_value(place)
        return (name, "push", put_list(stored, operand, values, place))
    return (name, operation, put(stored, operand, values, place))


def _is_operation(stored: StoredField, operation: str) -> bool:
    if stored.spec.is_list:
        return operation == "push"
    return operation in _NUMBER_OPERATIONS and is_number(stored)


def read_rows(model: StoredModel, rows: Any, values: list[Any], path: str) -> Groups:
    """Read the rows of a `create_many`, grouped by the fields that they give; each column becomes one array.

    Raises:
        FieldNotFoundError: an unknown field, or a value of the wrong type.
        MissingRequiredValueError: a row lacks a required field.
    """
    if isinstance(rows, Mapping):
        rows = (rows,)
    if not isinstance(rows, (list, tuple)):
        raise refused_type(rows, path)
    given = {name for row in rows if isinstance(row, Mapping) for name in row}
    # One statement for rows that differ only in what is null, so that a fault is found in the order of the rows.
    padded = {name for name in given if name in model.fields and _is_null_by_default(model.fields[name].spec)}
    groups: dict[tuple[str, ...], list[list[Any]]] = {}
    for row in rows:
        if not isinstance(row, Mapping):
            raise not_found(path)
        if not row.keys() <= model.fields.keys():
            _refuse_nested(model, row, path)
        names = tuple([name for name in model.fields if name in row or name in padded])
        _check_required(model, row.keys(), path)
        columns = groups.get(names)
        if columns is None:
            columns = groups[names] = [[] for _ in names]
        for name, column in zip(names, columns, strict=True):
            column.append(_element(model.fields[name], row[name], f"{path}.{name}") if name in row else None)
    shape: list[tuple[tuple[str, int], ...]] = []
    for names, columns in groups.items():
        shape.append(tuple([(name, len(values) + index) for index, name in enumerate(names)]))
        values.extend(columns)
    return tuple(shape)


def _is_null_by_default(spec: FieldSpec) -> bool:
    return spec.default is None and (spec.is_list or not spec.is_required)


def _element(stored: StoredField, value: Any, path: str) -> Any:
    if stored.spec.is_list:
        if isinstance(value, Mapping) and value.keys() == {"set"}:
            value = value["set"]
        if value is None or isinstance(value, Mapping):
            raise refused_type(value, path)
        # An array of arrays must be rectangular in PostgreSQL; as text each may be as long as it likes.
        return array_literal(encoded_list(stored, value, path))
    if value is None and takes_null(stored):
        return None
    try:
        return stored.encode(value)
    except RejectedError:
        raise refused_type(value, path) from None


# --- building ------------------------------------------------------------------------------------------------


def build_insert(model: StoredModel, assignments: Assignments) -> Insert:
    """Build the INSERT of one row."""
    insert = pg_insert(model.table)
    values = {
        _column(model, name): model.fields[name].written(model.fields[name].whole(slot))
        for name, _, slot in kept(model, assignments)
    }
    return insert.values(values) if values else insert


def kept(model: StoredModel, assignments: Assignments) -> Assignments:
    """The assignments to fields that the table has a column for."""
    if all(model.fields[name].is_kept for name, _, _ in assignments):
        return assignments
    return tuple(assignment for assignment in assignments if model.fields[assignment[0]].is_kept)


def build_update(model: StoredModel, assignments: Assignments) -> dict[str, Column]:
    """Build the SET clause: the expression of every column that changes."""
    return {
        _column(model, name): model.fields[name].written(_assigned(model, name, op, slot))
        for name, op, slot in kept(model, assignments)
    }


def _column(model: StoredModel, name: str) -> str:
    return model.fields[name].column


def _assigned(model: StoredModel, name: str, operation: str, slot: int) -> Column:
    stored = model.fields[name]
    column = stored.of(model.table)
    match operation:
        case "set":
            return stored.whole(slot)
        case "push":
            return sa.func.array_cat(column, stored.array(slot))
        case "increment":
            return column + stored.parameter(slot)
        case "decrement":
            return column - stored.parameter(slot)
        case "multiply":
            return column * stored.parameter(slot)
        case "divide":
            return column.op("/")(
                stored.parameter(slot)
            )  # `/` of SQLAlchemy would make a fraction of integers
        case _:
            raise DataError(f"unknown operation {operation} on {name}")


def build_changed(
    model: StoredModel, assignments: Assignments, where: Nodes, *, joins: bool = True
) -> sa.Update:
    """Build the UPDATE of the rows that `where` finds; for `joins` see `build_where`."""
    condition = build_where(model, model.table, where, joins=joins)
    return sa.update(model.table).values(build_update(model, assignments)).where(condition)


def build_rows(model: StoredModel, columns: tuple[tuple[str, int], ...], *, skip_duplicates: bool) -> Insert:
    """Build the INSERT of any number of rows, whose columns come as one array each."""
    columns = tuple(column for column in columns if model.fields[column[0]].is_kept)
    fields = [model.fields[name] for name, _ in columns]
    arrays = [
        sa.bindparam(f"slot_{slot}", type_=ARRAY(_travels_as(stored)))
        for stored, (_, slot) in zip(fields, columns, strict=True)
    ]
    names = [f"c{index}" for index in range(len(fields))]
    rows = (
        sa.func.unnest(*arrays)
        .table_valued(
            *(sa.column(n, _travels_as(f)) for n, f in zip(names, fields, strict=True)), name="rows"
        )
        .render_derived()
    )
    selected = [
        stored.written(_arrived(stored, rows.c[name])) for name, stored in zip(names, fields, strict=True)
    ]
    insert = pg_insert(model.table).from_select(
        [stored.column for stored in fields], sa.select(*selected), include_defaults=False
    )
    return insert.on_conflict_do_nothing() if skip_duplicates else insert


def _travels_as(stored: StoredField) -> AnyType:
    return sa.Text() if stored.spec.is_list else stored.codec.bind


def _arrived(stored: StoredField, value: Column) -> Column:
    if stored.spec.is_list:
        return sa.cast(value, stored.kind)
    return value if stored.codec.cast is None else sa.cast(value, stored.codec.cast)
