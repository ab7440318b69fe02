"""Errors that old `except` clauses still catch.

Call sites that were written for Prisma Client Python say `except prisma.errors.UniqueViolationError`. An `ErrorDialect`
gives every `DataError` that leaves the front door a class that is both crossfade's and the vendor's of that name.
So a model can move to the other side, and a call site to `crossfade.errors`, each when its time has come.

The vendor's module is handed in by name; nothing of Prisma is imported unless somebody asks for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any, ParamSpec, Self, TypeVar

from crossfade import errors
from crossfade.errors import DataError
from crossfade.operation import Operation

Execute = Callable[[Operation], Awaitable[Any]]
P = ParamSpec("P")
T = TypeVar("T")


class ErrorDialect:
    """Translates into classes of `vendor`, a module with Prisma Client Python's error classes."""

    def __init__(self, vendor: ModuleType) -> None:
        self._vendor = vendor
        self._classes: dict[type[DataError], type[DataError]] = {}

    @classmethod
    def of(cls, package: str) -> Self:
        """Take the errors of a generated client, or of `prisma` itself.

        Raises:
            EngineError: there is no such package.
        """
        try:
            return cls(importlib.import_module(f"{package}.errors"))
        except ModuleNotFoundError as error:
            msg = f"no Prisma client in {package}: generate it from schema.prisma first"
            raise errors.EngineError(msg) from error

    def translate(self, error: DataError) -> DataError:
        """Return the same error, also of the vendor's class."""
        kind = type(error)
        both = self._classes.get(kind)
        if both is None:
            both = self._classes[kind] = self._join(kind)
        # The vendor's constructors take the engine's answer, and there may have been no engine.
        translated = both.__new__(both, *error.args)
        translated.__dict__.update(vars(error))
        answer = {"error_code": error.code, "message": str(error), "meta": error.meta}
        translated.__dict__.update(data={"user_facing_error": answer}, table=error.meta.get("table"))
        return translated

    def guard(self, call: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Return `call` with its errors translated."""

        async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return await call(*args, **kwargs)
            except DataError as error:
                raise self.translate(error) from error.__cause__

        return guarded

    def _join(self, kind: type[DataError]) -> type[DataError]:
        theirs = getattr(self._vendor, _SAME.get(kind.__name__, kind.__name__), None)
        if theirs is None:  # the vendor tells fewer kinds apart
            theirs = self._vendor.PrismaError
        return type(kind.__name__, (kind, theirs), {"__doc__": kind.__doc__, "__module__": kind.__module__})


_SAME = {errors.StoreFaultError.__name__: DataError.__name__}
"""What the vendor has no class of its own for, and which of its classes it is."""
