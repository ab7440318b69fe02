"""Shapes: what a call asks for, without its values.

Reading an operation checks its arguments, encodes the values and yields a hashable shape. It happens on every call, so
it is kept to one walk; everything that depends on the shape alone is compiled once per shape (`compiler`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from crossfade.operation import Action, Operation
from crossfade.query.refusals import missing_value, not_found, refused_type, root_path, unsupported, unusable
from crossfade.query.select import Inclusions, Selection, read_include, read_selection, read_unique
from crossfade.query.storage import StoredModel
from crossfade.query.where import Nodes, read_where
from crossfade.query.write import (
    Assignments,
    Data,
    Groups,
    read_create,
    read_rows,
    read_update,
    read_update_many,
)

Values: TypeAlias = list[Any]
Arguments: TypeAlias = Mapping[str, Any]


class FindUnique(NamedTuple):
    """One row by its key."""

    where: Nodes
    include: Inclusions


class Count(NamedTuple):
    """How many rows; `names` are the fields whose values are counted."""

    selection: Selection
    names: tuple[str, ...] | None


class Create(NamedTuple):
    """One new row."""

    data: Data
    include: Inclusions


class CreateMany(NamedTuple):
    """New rows, grouped by the fields they give."""

    groups: Groups
    skip_duplicates: bool


class Update(NamedTuple):
    """One row changed."""

    where: Nodes
    data: Data
    include: Inclusions


class UpdateMany(NamedTuple):
    """Rows changed."""

    where: Nodes
    data: Assignments


class Upsert(NamedTuple):
    """One row made or changed. `target` are the fields of the key when the database can decide by itself."""

    where: Nodes
    create: Assignments
    update: Assignments
    target: tuple[str, ...] | None
    include: Inclusions


class Delete(NamedTuple):
    """One row deleted."""

    where: Nodes
    include: Inclusions


class DeleteMany(NamedTuple):
    """Rows deleted."""

    where: Nodes


Shape: TypeAlias = (
    FindUnique | Selection | Count | Create | CreateMany | Update | UpdateMany | Upsert | Delete | DeleteMany
)


def read(model: StoredModel, operation: Operation, values: Values) -> Shape:
    """Read the arguments of `operation` into a shape, and append its values to `values`.

    Raises:
        QueryError: the method does not take such arguments.
        DataError: the engine would refuse them.
    """
    action, arguments = operation.action, operation.arguments
    reader, allowed, required = _READERS[action]
    if not (required <= arguments.keys() <= allowed):
        _refuse(operation, allowed, required)
    return reader(model, arguments, values, root_path(model.name, action))


def _refuse(operation: Operation, allowed: frozenset[str], required: frozenset[str]) -> None:
    for name in required - operation.arguments.keys():
        raise unusable(operation.model, name, f"{operation.action} needs it")
    for name in operation.arguments.keys() - allowed:
        raise unusable(operation.model, name, f"{operation.action} has no such argument")


def _include(model: StoredModel, arguments: Arguments, values: Values, path: str) -> Inclusions:
    include = arguments.get("include")
    return read_include(model, include, values, path) if include else ()


def _find_unique(model: StoredModel, arguments: Arguments, values: Values, path: str) -> FindUnique:
    where = read_unique(model, arguments["where"], values, f"{path}.where")
    return FindUnique(where, _include(model, arguments, values, path))


def _find(model: StoredModel, arguments: Arguments, values: Values, path: str) -> Selection:
    return read_selection(model, arguments, values, path)


def _count(model: StoredModel, arguments: Arguments, values: Values, path: str) -> Count:
    chosen = arguments.get("select")
    names = None
    if chosen is not None:
        if not isinstance(chosen, Mapping):
            raise unusable(model.name, "select", "expected a dict of fields to count")
        for name in chosen:
            if name != "_all" and name not in model.fields:
                raise not_found(f"{path}._count.{name}")
        names = tuple(name for name, wanted in chosen.items() if wanted) or ("_all",)
    return Count(read_selection(model, arguments, values, path), names)


def _create(model: StoredModel, arguments: Arguments, values: Values, path: str) -> Create:
    data = read_create(model, arguments["data"], values, f"{path}.data")
    return Create(data, _include(model, arguments, values, path))


def _create_many(model: StoredModel, arguments: Arguments, values: Values, path: str) -> CreateMany:
    groups = read_rows(model, arguments["data"], values, f"{path}.data")
    return CreateMany(groups, bool(arguments.get("skip_duplicates")))


def _update(model: StoredModel, arguments: Arguments, values: Values, path: str) -> Update:
    where = read_unique(model, arguments["where"], values, f"{path}.where")
    data = read_update(model, arguments["data"], values, f"{path}.data")
    return Update(where, data, _include(model, arguments, values, path))


def _update_many(model: StoredModel, arguments: Arguments, values: Values, path: str) -> UpdateMany:
    where = read_where(model, arguments["where"], values, f"{path}.where")
    return UpdateMany(where, read_update_many(model, arguments["data"], values, f"{path}.data"))


def _upsert(model: StoredModel, arguments: Arguments, values: Values, path: str) -> Upsert:
    data = arguments["data"]
    if not isinstance(data, Mapping):
        raise refused_type(data, f"{path}.data")
    for name in ("create", "update"):
        if data.get(name) is None:
            raise missing_value(f"{path}.{name}")
    where = read_unique(model, arguments["where"], values, f"{path}.where")
    create, created = read_create(model, data["create"], values, f"{path}.create")
    update, updated = read_update(model, data["update"], values, f"{path}.update")
    for side, nested in (("create", created), ("update", updated)):
        if nested.lookups or nested.linkings:
            raise unsupported(
                model.name, f"{path}.data.{side}", "relations in an upsert are not supported yet"
            )
    target = _conflict_target(model, where, create, update, values)
    return Upsert(where, create, update, target, _include(model, arguments, values, path))


def _conflict_target(
    model: StoredModel, where: Nodes, create: Assignments, update: Assignments, values: Values
) -> tuple[str, ...] | None:
    """The key by which `ON CONFLICT` finds the same row as `where` does, if there is one."""
    if not update or any(len(node) != 3 or node[1] != "equals" for node in where):
        return None
    given = {name: values[slot] for name, _, slot in create}
    key = tuple(node[0] for node in where)
    is_key = any(set(key) == set(names) and len(key) == len(names) for names in model.spec.uniques.values())
    if is_key and all(node[0] in given and given[node[0]] == values[node[2]] for node in where):
        return key
    return None


def _delete(model: StoredModel, arguments: Arguments, values: Values, path: str) -> Delete:
    where = read_unique(model, arguments["where"], values, f"{path}.where")
    return Delete(where, _include(model, arguments, values, path))


def _delete_many(model: StoredModel, arguments: Arguments, values: Values, path: str) -> DeleteMany:
    where = arguments.get("where")
    return DeleteMany(read_where(model, where, values, f"{path}.where") if where is not None else ())


_Reader: TypeAlias = Callable[[StoredModel, Arguments, Values, str], Shape]


def _takes(*names: str) -> frozenset[str]:
    return frozenset(names)


_BY_KEY = _takes("where", "include")
_FIRST = _takes("where", "skip", "cursor", "include", "order", "distinct")
_NOTHING = _takes()

# What each method takes, and which of it it must be given.
_READERS: Mapping[Action, tuple[_Reader, frozenset[str], frozenset[str]]] = {
    Action.FIND_UNIQUE: (_find_unique, _BY_KEY, _takes("where")),
    Action.FIND_UNIQUE_OR_RAISE: (_find_unique, _BY_KEY, _takes("where")),
    Action.FIND_FIRST: (_find, _FIRST, _NOTHING),
    Action.FIND_FIRST_OR_RAISE: (_find, _FIRST, _NOTHING),
    Action.FIND_MANY: (_find, _FIRST | {"take"}, _NOTHING),
    Action.COUNT: (_count, _takes("select", "take", "skip", "where", "cursor"), _NOTHING),
    Action.CREATE: (_create, _takes("data", "include"), _takes("data")),
    Action.CREATE_MANY: (_create_many, _takes("data", "skip_duplicates"), _takes("data")),
    Action.UPDATE: (_update, _takes("data", "where", "include"), _takes("data", "where")),
    Action.UPDATE_MANY: (_update_many, _takes("data", "where"), _takes("data", "where")),
    Action.UPSERT: (_upsert, _takes("data", "where", "include"), _takes("data", "where")),
    Action.DELETE: (_delete, _BY_KEY, _takes("where")),
    Action.DELETE_MANY: (_delete_many, _takes("where"), _NOTHING),
}
