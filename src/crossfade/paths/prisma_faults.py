"""What belongs to a generated Prisma package: its errors, which become those of `crossfade.errors`, and its serializer.

No module of Prisma is imported here. A client that was generated into a package of its own carries its own copies of
Prisma's error and field classes, so they are all found from the client that was given.

Errors reach the client in two forms. A query is answered with a list of errors, whose known kinds the client turns into
classes; SQLSTATEs that Prisma has no kind for, those of a fence among them, are only in the engine's text. The end of a
transaction is answered with an HTTP status, and a body that the client does not read.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import httpx

from crossfade import errors
from crossfade.fields import Base64, Json
from crossfade.operation import Operation
from crossfade.paths.faults import FENCES, is_of_the_store

_KINDS: tuple[type[errors.DataError], ...] = (
    errors.DataError,
    errors.FieldNotFoundError,
    errors.ForeignKeyViolationError,
    errors.InputError,
    errors.MissingRequiredValueError,
    errors.RawQueryError,
    errors.RecordNotFoundError,
    errors.TableNotFoundError,
    errors.UniqueViolationError,
)
_BY_NAME: Mapping[str, type[errors.DataError]] = {kind.__name__: kind for kind in _KINDS}
_BY_CODE: Mapping[str, type[errors.DataError]] = {kind.default_code: kind for kind in _KINDS}

_LOST_CODES = frozenset({"P1001", "P1002", "P1008", "P1017", "P2024"})
"""The engine lives, but its database does not answer, closed the connection, or has none to spare."""

# How the engine writes an error of PostgreSQL that it has no code for; older ones wrap the SQLSTATE. Quotes in values
# are escaped, so no value can look like this.
_FENCE = re.compile(
    rf'code: (?:SqlState\((?:Other\()?)?"(?P<state>{"|".join(FENCES)})"'
    r'(?:.*?message: (?P<message>"(?:[^"\\]|\\.)*"))?',
    re.DOTALL,
)
_STATE = re.compile(r'code: (?:SqlState\((?:Other\()?)?"(?P<state>[0-9A-Z]{5})"')
_DETAILS = re.compile(r"\n(?:DETAIL|HINT): ")


class Package:
    """The generated package that a client comes from."""

    def __init__(self, client: Any) -> None:
        name = type(client).__module__.rpartition(".")[0]
        self.errors: ModuleType = importlib.import_module(f"{name}.errors")
        self.engine_errors: ModuleType = importlib.import_module(f"{name}.engine.errors")
        self.lost: tuple[type[Exception], ...] = (
            httpx.TransportError,
            self.errors.ClientNotConnectedError,
            self.errors.HTTPClientClosedError,
            self.engine_errors.EngineConnectionError,
            self.engine_errors.NotConnectedError,
        )
        builder = importlib.import_module(f"{name}._builder")
        # Its own indents the lines *inside* of texts, too, which it takes to end at U+2028 and the like.
        vars(builder)["indent"] = _indent
        builder.serializer.register(Json, lambda value: builder.dumps(value.data))
        builder.serializer.register(Base64, str)
        builder.serializer.register(bytes, lambda value: str(Base64.encode(value)))

    def translated(self, error: Exception, model: str) -> errors.CrossfadeError:
        """Return our error for one of Prisma's."""
        message = str(error)
        if isinstance(error, self.errors.DataError):
            meta = error.meta if isinstance(error.meta, dict) else {}
            refusal = of_fence(message, meta)
            if refusal is not None:
                return refusal
            kind, code = self._kind_and_code(error)
            if (
                kind is errors.DataError
                and (state := _STATE.search(message))
                and is_of_the_store(state["state"])
            ):
                kind = errors.StoreFaultError
            return kind(message, code=code, meta=meta)
        if isinstance(error, self.errors.TransactionError):
            return errors.TransactionError(message)
        if isinstance(error, self.errors.BuilderError):
            return errors.QueryError(model, "include", message)
        return errors.DataError(message)

    async def of_transaction(self, error: Exception) -> errors.CrossfadeError:
        """Return our error for what Prisma raised when a transaction was begun or ended."""
        if not isinstance(error, self.engine_errors.EngineRequestError):
            return self.translated(error, "")
        try:
            answer = json.loads(await error.response.text())
            code, meta, message = answer["error_code"], answer.get("meta") or {}, answer["message"]
        except (ValueError, TypeError, KeyError, httpx.HTTPError):
            return errors.DataError(str(error))
        if code == errors.TransactionError.default_code:
            return errors.TransactionError(meta.get("error") or message)
        if code in _LOST_CODES:
            return errors.ConnectionLostError(message, code=code, meta=meta)
        return of_fence(message, meta) or _BY_CODE.get(code, errors.DataError)(message, code=code, meta=meta)

    def _kind_and_code(self, error: Any) -> tuple[type[errors.DataError], str | None]:
        kind = _BY_NAME.get(type(error).__name__, errors.DataError)
        if error.code in _LOST_CODES:
            return errors.ConnectionLostError, error.code
        # How a bad argument is reported depends on how many input types Prisma would have accepted in its place: a
        # missing value is P2012 or P2009, and an argument that nests too deeply in them is a plain DataError, because
        # the client fails to read the report. The fault is one, and so are its class and code here.
        if kind is errors.MissingRequiredValueError:
            return kind, kind.default_code
        if kind is errors.DataError and error.code == errors.FieldNotFoundError.default_code:
            return errors.FieldNotFoundError, error.code
        return kind, error.code


def of_fence(message: str, meta: Mapping[str, Any]) -> errors.CrossfadeError | None:
    """Return the error for a fence's refusal, if the engine tells of one."""
    if meta.get("code") in FENCES:  # of a raw statement
        told = _DETAILS.split(str(meta.get("message", message)))[0]
        return FENCES[meta["code"]](told.removeprefix("ERROR: "))
    found = _FENCE.search(message)
    if found is None:
        return None
    return FENCES[found["state"]](_unescaped(found["message"]) if found["message"] else message)


def _unescaped(literal: str) -> str:
    """Return the text of a literal of Rust's, as far as JSON escapes alike."""
    try:
        return str(json.loads(literal))
    except ValueError:
        return literal[1:-1]


def refused(operation: Operation, error: Exception) -> errors.CrossfadeError:
    """Return our error for arguments that the client did not send."""
    if isinstance(error, UnicodeError) or "not serializable" in str(error):
        # No field holds such a value, whatever its type.
        return errors.FieldNotFoundError(f"{operation.model}: {operation.action}: {error}")
    return errors.QueryError(operation.model, operation.action, str(error))


def connection_lost(error: Exception) -> errors.ConnectionLostError:
    """Return our error for an engine that does not answer."""
    reason = first_line(error) or type(error).__name__
    return errors.ConnectionLostError(f"the connection to Prisma's engine was lost: {reason}")


def first_line(error: Exception) -> str:
    """The line of an error of Prisma's that says what is wrong: the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _indent(text: str, prefix: str) -> str:
    """As `textwrap.indent`, for text whose lines end with a newline only, as those of a query do."""
    return "\n".join([prefix + line if line.strip() else line for line in text.split("\n")])
