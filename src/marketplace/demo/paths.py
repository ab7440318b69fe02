"""A path in front of another one, which passes everything on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crossfade.operation import Operation
from crossfade.paths import Path, PathTransaction
from crossfade.stages import Side


class PassingPath:
    """Passes everything on; to be derived from."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def side(self) -> Side:
        """Which side this is."""
        return self._path.side

    async def connect(self) -> None:
        """Open the real path."""
        await self._path.connect()

    async def close(self) -> None:
        """Close the real path."""
        await self._path.close()

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation."""
        return await self._path.execute(operation)

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Execute several writes."""
        await self._path.batch(operations)

    async def begin(self, *, max_wait: float = 2.0, timeout: float = 5.0) -> PathTransaction:  # noqa: ASYNC109
        """Start a transaction."""
        return await self._path.begin(max_wait=max_wait, timeout=timeout)

    async def reserve(self, model: str, field: str, count: int) -> list[int]:
        """Take values of a sequence."""
        return await self._path.reserve(model, field, count)

    async def sequence_value(self, model: str, field: str) -> int:
        """Return the last value of a sequence."""
        return await self._path.sequence_value(model, field)

    async def advance_sequence(self, model: str, field: str, value: int) -> None:
        """Raise a sequence."""
        await self._path.advance_sequence(model, field, value)


class LentPath(PassingPath):
    """A path that another repository opens and closes."""

    async def connect(self) -> None:
        """Do nothing: it is open."""

    async def close(self) -> None:
        """Leave it open."""
