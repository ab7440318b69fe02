"""A Prisma-shaped face over one path, so that the suite reads like an application's call sites."""

from __future__ import annotations

from typing import Any

from crossfade.operation import Action, Operation, Pinner
from crossfade.paths import Path
from crossfade.schema import ModelSpec, Schema


class ModelCalls:
    """The calls of one model: `db.user.find_many(where=…)`."""

    def __init__(self, calls: Calls, spec: ModelSpec) -> None:
        self._calls = calls
        self._spec = spec

    def __getattr__(self, name: str) -> Any:
        action = Action(name)

        async def call(**arguments: Any) -> Any:
            given = {key: value for key, value in arguments.items() if value is not None}
            return await self._calls.execute(Operation(self._spec.name, action, given))

        return call


class Calls:
    """All models of one path.

    The engine mints ids, times and defaults by itself, and `pinner` does it for the other side, so what the two mint
    is compared as well.
    """

    def __init__(self, schema: Schema, path: Path, pinner: Pinner | None) -> None:
        self.path = path
        self._pinner = pinner
        self._models = {spec.attribute: ModelCalls(self, spec) for spec in schema}

    def __getattr__(self, name: str) -> ModelCalls:
        try:
            return self._models[name]
        except KeyError:
            raise AttributeError(name) from None

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation on the path."""
        return await self.path.execute(self.pinned(operation))

    def pinned(self, operation: Operation) -> Operation:
        """Fill in what this side's client would mint, unless the engine does it."""
        return self._pinner.pin(operation) if self._pinner else operation
