"""What a transaction is on either side: how it ends, what it says once it is over, what it may hold and batch.

The words are Prisma's, so that the logs of an application read the same whichever side it is on.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from crossfade.errors import ConnectionLostError, DataError, QueryError, TransactionError
from crossfade.operation import READS, Operation
from crossfade.schema import Schema

NOT_STARTED = "Unable to start a transaction in the given time."


class Ending(StrEnum):
    """How a transaction came to its end."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    EXPIRED = "expired"
    INTERRUPTED = "interrupted"
    """A call was cancelled, and with it what the server was doing."""
    LOST = "lost"
    """The connection broke, or whoever kept it ended."""
    UNKNOWN = "unknown"
    """The commit failed or was cancelled."""


class Verb(StrEnum):
    """What somebody wants of a transaction."""

    QUERY = "query"
    COMMIT = "commit"
    ROLLBACK = "rollback"


def refusal(verb: Verb, ending: Ending, timeout: float, passed: float) -> DataError:
    """Return the error for `verb` on a transaction that is over; both times are in seconds."""
    match ending:
        case Ending.LOST if verb is not Verb.ROLLBACK:
            return ConnectionLostError("the connection that held the transaction was lost; it is rolled back")
        case Ending.COMMITTED:
            what = "a committed transaction."
        case Ending.ROLLED_BACK:
            what = "a transaction that was rolled back."
        case Ending.EXPIRED:
            what = (
                f"an expired transaction. The timeout for this transaction was {timeout * 1000:.0f} ms, however"
                f" {passed * 1000:.0f} ms passed since the start of the transaction. Consider increasing the"
                " interactive transaction timeout or doing less work in the transaction."
            )
        case Ending.INTERRUPTED:
            what = "a transaction that was rolled back because a query in it was cancelled."
        case _:
            what = "a closed transaction."
    return TransactionError(f"Transaction already closed: A {verb} cannot be executed on {what}")


def check_batch(operations: Sequence[Operation]) -> None:
    """Refuse reads: a batch has no results.

    Raises:
        QueryError: one of the operations only reads.
    """
    for operation in operations:
        if operation.action in READS:
            raise QueryError(operation.model, operation.action, "a batch takes writes only")


def tables_held(schema: Schema, models: Sequence[str]) -> dict[str, str]:
    """Return the tables of `models`, each with its model.

    They come in one order for everybody, or two who want several of them could wait for each other.

    Raises:
        UnknownModelError: the schema has no such model.
    """
    return dict(sorted((schema.model(name).table, name) for name in models))


def hold_statement(tables: Sequence[str]) -> str:
    """Return a statement that does what every writer of `tables` does first, and writes nothing.

    It takes a writer's lock, for which a change of the fence has to wait, and then meets the fence as it stands. The
    names are quoted already.
    """
    parts = (f"held_{n} AS (DELETE FROM {table} WHERE false)" for n, table in enumerate(tables))  # noqa: S608
    return f"WITH {', '.join(parts)} SELECT 1"


def quoted(*parts: str | None) -> str:
    """Return a name for use in SQL, qualified by what comes before the last part, if anything does."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts if part)
