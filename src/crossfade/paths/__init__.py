"""The seam between the repository and the two sides: each path executes an `Operation`.

Internal: the protocol may change with what the paths learn; applications use `crossfade.client`.
"""

from __future__ import annotations

from typing import Any, Protocol

from crossfade.operation import Operation
from crossfade.stages import Side


class Path(Protocol):
    """One way to execute operations, with the store behind it.

    Results are the same on both paths: a `Record`, a list of them or None for finds, `create`, `update`, `upsert`
    and `delete`; an int for `count` and the `*_many` writes; a dict for `count` with `select`. Faults are raised as
    the classes of `crossfade.errors`, the same class with the same `code` on both paths.
    """

    @property
    def side(self) -> Side:
        """Which side this is."""

    async def connect(self) -> None:
        """Open what is needed to execute.

        Raises:
            StoreUnavailableError: there is no store to ask.
            EngineError: the engine cannot be started.
        """

    async def close(self) -> None:
        """Close it, waiting for what is under way."""

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation.

        Raises:
            DataError: the store refused it.
            QueryError: the arguments cannot be used.
            ConnectionLostError: a `DataError` as well; the store, or the engine before it, does not answer.
        """

    async def reserve(self, model: str, field: str, count: int) -> list[int]:
        """Take `count` values from the sequence behind an autoincrement field."""

    async def sequence_value(self, model: str, field: str) -> int:
        """Return the last value that the sequence behind an autoincrement field gave out; 0 if none yet."""

    async def advance_sequence(self, model: str, field: str, value: int) -> None:
        """Make sure that the sequence will not give out `value` or less again. Never moves it back."""
