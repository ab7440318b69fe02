"""The errors for arguments that cannot be used, worded as Prisma's engine and client word them.

`path` starts with the engine's name of the query and leads to the place: `findManyUser.where.email`.
"""

from __future__ import annotations

from crossfade.errors import (
    DataError,
    FieldNotFoundError,
    MissingRequiredValueError,
    QueryError,
    UnsupportedQueryError,
)
from crossfade.operation import Action

_ENGINE_NAMES = {
    Action.FIND_UNIQUE: "findUnique{}",
    Action.FIND_UNIQUE_OR_RAISE: "findUnique{}OrThrow",
    Action.FIND_FIRST: "findFirst{}",
    Action.FIND_FIRST_OR_RAISE: "findFirst{}OrThrow",
    Action.FIND_MANY: "findMany{}",
    Action.COUNT: "aggregate{}",
    Action.CREATE: "createOne{}",
    Action.CREATE_MANY: "createMany{}",
    Action.UPDATE: "updateOne{}",
    Action.UPDATE_MANY: "updateMany{}",
    Action.UPSERT: "upsertOne{}",
    Action.DELETE: "deleteOne{}",
    Action.DELETE_MANY: "deleteMany{}",
}


def root_path(model: str, action: Action) -> str:
    """Return the engine's name of a query."""
    return _ENGINE_NAMES[action].format(model)


def not_found(path: str) -> FieldNotFoundError:
    """The engine knows no such field or operator, or not with a value of this type."""
    root, *argument = path.split(".")
    return FieldNotFoundError(
        f"Could not find field at `{path}`", meta={"selectionPath": [root], "argumentPath": argument}
    )


def missing_value(path: str) -> MissingRequiredValueError:
    """The engine wants a value here and got none, or null."""
    return MissingRequiredValueError(f"`{path}`: A value is required but not set")


def refused_type(value: object, path: str) -> DataError:
    """A value that is no value of the type that is wanted here; None counts as missing."""
    return missing_value(path) if value is None else not_found(path)


def several_values(path: str, count: int) -> FieldNotFoundError:
    """The engine wants exactly one key in an object."""
    return FieldNotFoundError(f"`{path}`: Expected exactly one field to be present, got {count}.")


def negative_skip(skip: int) -> DataError:
    """`skip` cannot count backwards."""
    return DataError(f"Invalid value for skip argument: Value can only be positive, found: {skip}")


def unsupported(
    model: str, path: str, problem: str = "not supported on this side yet"
) -> UnsupportedQueryError:
    """Prisma can do this and the SQLAlchemy path cannot."""
    return UnsupportedQueryError(model, path.partition(".")[2] or path, problem)


def unusable(model: str, path: str, problem: str) -> QueryError:
    """The client itself refuses this before it asks the engine."""
    return QueryError(model, path.partition(".")[2] or path, problem)
