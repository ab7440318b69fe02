"""PostgreSQL's faults as the errors of `crossfade.errors`, with Prisma's codes, meta and words.

The one place that maps them. Whoever raises the result chains the driver's error to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import asyncpg
import sqlalchemy as sa

from crossfade.errors import (
    ConnectionLostError,
    CrossfadeError,
    DataError,
    FieldNotFoundError,
    ForeignKeyViolationError,
    LateWriteError,
    StoreFaultError,
    TableNotFoundError,
    UniqueViolationError,
    WrongAuthorityError,
)
from crossfade.mapping import NO_MAPPINGS, Mappings

FENCES: Mapping[str, type[WrongAuthorityError | LateWriteError]] = {
    "XF001": WrongAuthorityError,
    "XF002": LateWriteError,
}
"""What the fences of a store raise, by SQLSTATE."""

_NOT_SENT = "invalid input for query argument"
_KEY = re.compile(r"^Key \((?P<columns>.*?)\)=\(", re.DOTALL)

LOST: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""What asyncpg raises when a connection is gone. `TimeoutError` is an `OSError` and is told apart first."""

FAULTS: tuple[type[Exception], ...] = (asyncpg.PostgresError, OverflowError, *LOST)
"""Everything that is the store's fault; anything else is ours and passes as it is."""


def was_never_done(error: BaseException) -> bool:
    """Whether the operation certainly changed nothing.

    When the server has just said farewell on an idle connection, but has not hung up yet, asyncpg refuses to begin.
    When a table has changed since a statement was prepared, the server refuses it; asyncpg prepares it anew by itself,
    but not within a transaction, which is rolled back then.
    """
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return True
    return isinstance(error, asyncpg.InternalClientError) and "cannot switch to state" in str(error)


class Constraints:
    """The columns of every unique constraint and index of some tables, by name.

    Callers know columns by their legacy names: `mappings` say which those are.
    """

    def __init__(self, tables: Mapping[str, sa.Table], mappings: Mappings = NO_MAPPINGS) -> None:
        self._legacy_names = {
            (table.name, name): legacy
            for model, table in tables.items()
            for name, legacy in mappings.of(model).legacy_names.items()
        }
        self._columns: dict[tuple[str, str], tuple[str, ...]] = {}
        for table in tables.values():
            for index in table.indexes:
                if index.unique and index.name:
                    names = tuple(column.name for column in index.columns)
                    self._columns[table.name, str(index.name)] = names
            for constraint in table.constraints:
                if isinstance(constraint, (sa.UniqueConstraint, sa.PrimaryKeyConstraint)) and constraint.name:
                    names = tuple(column.name for column in constraint.columns)
                    self._columns[table.name, str(constraint.name)] = names

    def legacy_name(self, table: str | None, column: str) -> str:
        """What callers call a column."""
        return self._legacy_names.get((table or "", column), column)

    def columns(self, error: asyncpg.PostgresError) -> tuple[str, ...]:
        """Return the columns that a unique violation is about; none if nothing tells."""
        return tuple(self.legacy_name(error.table_name, column) for column in self._own_columns(error))

    def _own_columns(self, error: asyncpg.PostgresError) -> tuple[str, ...]:
        known = self._columns.get((error.table_name or "", error.constraint_name or ""))
        if known:
            return known
        match = _KEY.match(error.detail or "")
        return tuple(part.strip().strip('"') for part in match["columns"].split(",")) if match else ()


def translated(error: Exception, constraints: Constraints) -> CrossfadeError:
    """Return the error that a caller gets for what the driver raised."""
    if isinstance(error, OverflowError):
        # Of what is read: asyncpg makes another error of a parameter that it cannot send.
        return DataError("Inconsistent column data: a time that Python cannot express", code="P2023")
    if isinstance(error, asyncpg.DataError) and str(error).startswith(_NOT_SENT):
        return FieldNotFoundError(f"a value cannot be sent to the database: {str(error).partition(':')[0]}")
    if isinstance(error, asyncpg.PostgresError):
        if error.sqlstate in FENCES:
            return FENCES[error.sqlstate](error.message or str(error))
        make = _BY_STATE.get(error.sqlstate or "") or _BY_CLASS.get((error.sqlstate or "")[:2])
        return make(error, constraints) if make else _other(error)
    if isinstance(error, TimeoutError):
        return ConnectionLostError("the database did not answer in time", code="P1008")
    return ConnectionLostError(
        f"the connection to the database was lost: {str(error) or type(error).__name__}"
    )


def is_of_the_store(state: str) -> bool:
    """Whether an SQLSTATE without a class of its own here tells of the store's state, and not of what was asked."""
    return state[:2] in _STORE_CLASSES or state in _STORE_STATES


_STORE_CLASSES = frozenset({"53", "57", "58", "XX"})
"""No room left, cancelled (by a `statement_timeout`, too), trouble of the system, trouble of the server's own."""
_STORE_STATES = frozenset({"25006", "42501"})
"""A server that only reads, such as one that another has taken over from; a right that is missing."""


def _other(error: asyncpg.PostgresError) -> DataError:
    kind = StoreFaultError if is_of_the_store(error.sqlstate or "") else DataError
    return kind(str(error), meta={"code": error.sqlstate, "message": str(error)})


def _unique(error: asyncpg.PostgresError, constraints: Constraints) -> DataError:
    columns = constraints.columns(error)
    if columns:
        named = ",".join(f"`{column}`" for column in columns)
        message = f"Unique constraint failed on the fields: ({named})"
        return UniqueViolationError(message, meta={"target": list(columns)})
    message = f"Unique constraint failed on the constraint: `{error.constraint_name}`"
    return UniqueViolationError(message, meta={"target": error.constraint_name})


def _foreign_key(error: asyncpg.PostgresError, _: Constraints) -> DataError:
    name = f"{error.constraint_name} (index)"
    message = f"Foreign key constraint failed on the field: `{name}`"
    return ForeignKeyViolationError(message, meta={"field_name": name})


def _null(error: asyncpg.PostgresError, constraints: Constraints) -> DataError:
    column = constraints.legacy_name(error.table_name, error.column_name or "")
    message = f"Null constraint violation on the fields: (`{column}`)"
    return DataError(message, code="P2011", meta={"target": [column]})


def _check(error: asyncpg.PostgresError, _: Constraints) -> DataError:
    message = f"A constraint failed on the database: `{error.constraint_name}`"
    return DataError(message, code="P2004", meta={"database_error": str(error)})


def _too_long(error: asyncpg.PostgresError, _: Constraints) -> DataError:
    column = error.column_name or "(not available)"
    message = f"The provided value for the column is too long for the column's type. Column: {column}"
    return DataError(message, code="P2000", meta={"column_name": column})


def _no_table(error: asyncpg.PostgresError, _: Constraints) -> DataError:
    match = re.search(r'"(?P<name>[^"]+)"', str(error))
    name = match["name"] if match else str(error)
    table = name if "." in name else f"public.{name}"
    message = f"The table `{table}` does not exist in the current database."
    return TableNotFoundError(message, meta={"table": table})


def _no_column(error: asyncpg.PostgresError, _: Constraints) -> DataError:
    match = re.search(r'"(?P<name>[^"]+)"|column (?P<bare>\S+)', str(error))
    column = (match["name"] or match["bare"]) if match else str(error)
    message = f"The column `{column}` does not exist in the current database."
    return DataError(message, code="P2022", meta={"column": column})


def _conflict(_error: asyncpg.PostgresError, _: Constraints) -> DataError:
    message = "Transaction failed due to a write conflict or a deadlock. Please retry your transaction"
    return DataError(message, code="P2034")


def _lost(error: asyncpg.PostgresError, _: Constraints) -> DataError:
    return ConnectionLostError(f"the connection to the database was lost: {error}")


_Make = Callable[[asyncpg.PostgresError, Constraints], DataError]

_BY_STATE: Mapping[str, _Make] = {
    "23505": _unique,
    "23503": _foreign_key,
    "23001": _foreign_key,
    "23502": _null,
    "23514": _check,
    "22001": _too_long,
    "42P01": _no_table,
    "42703": _no_column,
    "40001": _conflict,
    "40P01": _conflict,
    "57P01": _lost,
    "57P02": _lost,
    "57P03": _lost,
}
_BY_CLASS: Mapping[str, _Make] = {"08": _lost}
