"""The seam between the repository and the two sides: each path executes an `Operation`.

Internal: the protocol may change with what the paths learn; applications use `crossfade.client`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol

from crossfade.operation import Operation
from crossfade.stages import Side

ROLE_SETTING = "crossfade.role"
"""The setting of a session by which a store's fences tell followers from authors."""


class SessionRole(StrEnum):
    """Who writes in a session; one that says nothing is an author's."""

    AUTHOR = "author"
    FOLLOWER = "follower"


class PathTransaction(Protocol):
    """Operations that are committed together, on one side. Open until it is ended, or its time is over.

    Calls are executed one after the other, however they are made. The time counts from the start; what is under way
    when it is over still gets its answer, and everything is rolled back then. An error of the store aborts the
    transaction as PostgreSQL does: later calls are refused, and a commit writes nothing *and does not fail*, on both
    sides, because that is what Prisma does. After a call that was cancelled, roll back: a commit keeps everything that
    was done before it, or fails.
    """

    @property
    def side(self) -> Side:
        """Which side this is."""

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation; see `Path.execute`.

        Raises:
            TransactionError: the transaction is over.
        """

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Execute several writes; see `Path.batch`. A failure leaves what was done before it to the transaction."""

    async def hold(self, models: Sequence[str]) -> None:
        """Keep the authority of `models` where it is until this transaction ends.

        Does what a writer of their tables does first, in the order of the tables' names: it takes a lock for which
        whoever wants to change a fence has to wait, and meets the fence as it stands.

        Raises:
            TransactionError: the transaction is over.
            WrongAuthorityError: the store takes no writes of one of them; the transaction is of no use any more.
        """

    async def commit(self) -> None:
        """Commit, and give the connection back.

        Raises:
            TransactionError: the transaction is over already.
            DataError: a constraint that is checked at the end does not hold; nothing was written.
            ConnectionLostError: nobody knows whether it was committed.
        """

    async def rollback(self) -> None:
        """Undo everything, and give the connection back.

        Raises:
            TransactionError: the transaction is over already.
        """


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
            WrongAuthorityError: the store takes no writes of authors; nothing was written.
            LateWriteError: the store takes no writes of followers; nothing was written.
        """

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Execute several writes together: all of them are done, or none.

        Unlike alone, an `update` or `delete` of a row that is not there is an error here, as it is in Prisma's batch.

        Raises:
            RecordNotFoundError: there is no such row.
            QueryError: the arguments cannot be used, or an operation only reads.
            DataError, WrongAuthorityError, LateWriteError: see `execute`.
        """

    async def begin(self, *, max_wait: float = 2.0, timeout: float = 5.0) -> PathTransaction:  # noqa: ASYNC109
        """Start a transaction.

        Args:
            max_wait: seconds to wait for a connection.
            timeout: seconds until the transaction is rolled back by itself.

        Raises:
            TransactionError: it could not be started in time.
            ConnectionLostError: the store, or the engine before it, does not answer.
        """

    async def reserve(self, model: str, field: str, count: int) -> list[int]:
        """Take `count` values from the sequence behind an autoincrement field."""

    async def sequence_value(self, model: str, field: str) -> int:
        """Return the last value that the sequence behind an autoincrement field gave out; 0 if none yet."""

    async def advance_sequence(self, model: str, field: str, value: int) -> None:
        """Make sure that the sequence will not give out `value` or less again. Never moves it back."""
