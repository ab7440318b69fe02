"""What a repair comes to, and what a store may answer to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import asyncpg

from crossfade.events import ConflictSettled
from crossfade.reconcile.pair import Spot
from crossfade.store.objects import LATE_WRITE, WRONG_AUTHORITY
from crossfade.store.store import LOST
from crossfade.store.tables import Connection

CONTENDED = frozenset({"40001", "40P01", "55P03", "57014"})
"""What PostgreSQL says when somebody else's lock was in the way."""


class StaleViewError(Exception):
    """A store refused a repair because it is not the follower: the view of the authority is out of date."""


class ContendedError(Exception):
    """Somebody else's lock was in the way for too long; nothing was repaired."""


@dataclass(slots=True)
class Findings:
    """What became of the keys of one repair, or of several."""

    outcomes: dict[Spot, str] = field(default_factory=dict)
    """`equal`, `copied` or `deleted`."""
    problems: dict[Spot, str] = field(default_factory=dict)
    """What stands in the way of the others: an SQLSTATE and the name of a constraint or column."""
    busy: set[Spot] = field(default_factory=set)
    """Rows that somebody else has locked."""
    waiting: dict[Spot, set[Spot]] = field(default_factory=dict)
    """Rows whose parents must be settled in the other direction first."""
    returning: set[Spot] = field(default_factory=set)
    """Rows that may not be deleted and must return to their authority."""
    conflicts: list[ConflictSettled] = field(default_factory=list)

    def update(self, later: Findings) -> None:
        """Add what became known later."""
        for spot, outcome in later.outcomes.items():
            if outcome != "equal" or spot not in self.outcomes:
                self.outcomes[spot] = outcome
            self.problems.pop(spot, None)
            self.busy.discard(spot)
        for spot, problem in later.problems.items():
            self.problems[spot] = problem
            self.outcomes.pop(spot, None)
        self.busy |= later.busy
        self.conflicts += later.conflicts


def problem_of(error: asyncpg.PostgresError) -> str:
    """What went wrong, without a value: the SQLSTATE and the name of what it is about."""
    about = error.constraint_name or error.column_name or error.table_name
    return f"{error.sqlstate} {about}" if about else str(error.sqlstate)


async def attempt(
    connection: Connection, work: Callable[[], Awaitable[None]]
) -> asyncpg.PostgresError | None:
    """Do something in a savepoint; return what the store objects to in the data.

    Raises:
        StaleViewError: the store takes no such writes at all.
        ContendedError: a lock was not to be had.
    """
    try:
        async with connection.transaction():
            await work()
    except asyncpg.PostgresError as error:
        if error.sqlstate in (LATE_WRITE, WRONG_AUTHORITY):
            raise StaleViewError(error.sqlstate) from error
        if error.sqlstate in CONTENDED:
            raise ContendedError(error.sqlstate) from error
        if isinstance(error, LOST):
            raise
        return error
    return None
