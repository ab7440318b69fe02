"""The pieces of the tables and who has one in hand, in the target store.

A chunk is claimed by a lock on its row that lasts as long as the transaction that copies it, so what a worker leaves
behind when it dies is free again at once, and nobody needs a clock to see that.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import NamedTuple

from crossfade.store import Store
from crossfade.store.ranges import Key, KeyRange
from crossfade.store.tables import Connection


class ChunkState(StrEnum):
    """How far a chunk is."""

    PENDING = "pending"
    """To be copied."""
    LANDED = "landed"
    """Copied; the check is owed."""
    WAITING = "waiting"
    """Copied but for rows whose parents are not there yet."""
    DONE = "done"
    FAILED = "failed"
    """One row that the target refuses."""


class Chunk(NamedTuple):
    """A piece of a table, in the hand of whoever has locked its row."""

    model: str
    id: int
    range: KeyRange
    state: ChunkState
    attempts: int


class Outcome(NamedTuple):
    """What copying a chunk has come to, in rows."""

    read: int = 0
    written: int = 0
    left_over: int = 0
    waiting: int = 0


class Chunks:
    """The chunks of every table. Each method takes a transaction on the target store."""

    def __init__(self, store: Store) -> None:
        self._chunk = store.own("chunk")

    async def claim(
        self,
        connection: Connection,
        models: Sequence[str],
        states: Collection[ChunkState],
        only: int | None = None,
    ) -> Chunk | None:
        """Lock the first chunk in one of `states` that nobody has in hand, the first model's first.

        With `only`, no chunk is taken but the one of that number.
        """
        row = await connection.fetchrow(
            f"SELECT model, id, after, up_to, state, attempts FROM {self._chunk}"
            " WHERE model = ANY($1) AND state = ANY($2) AND state <> 'done'"
            " AND ($3::bigint IS NULL OR id = $3)"
            " ORDER BY array_position($1::text[], model), id LIMIT 1 FOR UPDATE SKIP LOCKED",
            models,
            list(states),
            only,
        )
        if row is None:
            return None
        bounds = (None if bound is None else tuple(bound) for bound in (row["after"], row["up_to"]))
        return Chunk(row["model"], row["id"], KeyRange(*bounds), ChunkState(row["state"]), row["attempts"])

    async def relock(self, connection: Connection, chunk: Chunk, state: ChunkState) -> bool:
        """Lock this chunk once more; False if it is not in `state` any more, or somebody else has it in hand."""
        return bool(
            await connection.fetchval(
                f"SELECT true FROM {self._chunk} WHERE model = $1 AND id = $2 AND state = $3 FOR UPDATE SKIP LOCKED",
                chunk.model,
                chunk.id,
                state,
            )
        )

    async def add(self, connection: Connection, model: str, range_: KeyRange) -> None:
        """Add a chunk that is to be copied."""
        await connection.execute(
            f"INSERT INTO {self._chunk} (model, after, up_to) VALUES ($1, $2, $3)", model, *range_
        )

    async def halve(self, connection: Connection, chunk: Chunk, middle: Key) -> None:
        """Put two chunks in the place of a locked one, which has written nothing."""
        await connection.execute(
            f"DELETE FROM {self._chunk} WHERE model = $1 AND id = $2", chunk.model, chunk.id
        )
        await self.add(connection, chunk.model, KeyRange(chunk.range.after, middle))
        await self.add(connection, chunk.model, KeyRange(middle, chunk.range.up_to))

    async def conclude(
        self,
        connection: Connection,
        chunk: Chunk,
        state: ChunkState,
        outcome: Outcome,
        seconds: float,
        worker: str,
    ) -> None:
        """Note what became of a locked chunk; what an earlier turn has written is counted on."""
        await connection.execute(
            f"UPDATE {self._chunk} SET state = $3, rows_read = $4, rows_written = rows_written + $5, left_over = $6,"
            " waiting = $7, seconds = seconds + $8, worker = $9, problem = NULL,"
            " claimed = clock_timestamp() - $8 * interval '1 second', finished = clock_timestamp()"
            " WHERE model = $1 AND id = $2",
            chunk.model,
            chunk.id,
            state,
            *outcome,
            seconds,
            worker,
        )

    async def mark(self, connection: Connection, chunk: Chunk, state: ChunkState) -> None:
        """Put a locked chunk into another state."""
        await connection.execute(
            f"UPDATE {self._chunk} SET state = $3, finished = clock_timestamp() WHERE model = $1 AND id = $2",
            chunk.model,
            chunk.id,
            state,
        )

    async def fail(
        self, connection: Connection, chunk: Chunk, state: ChunkState, problem: str, worker: str
    ) -> int:
        """Note why a chunk could not be copied; return how many attempts that makes."""
        return int(
            await connection.fetchval(
                f"UPDATE {self._chunk} SET state = $3, attempts = attempts + 1, problem = $4, worker = $5,"
                " finished = clock_timestamp() WHERE model = $1 AND id = $2 RETURNING attempts",
                chunk.model,
                chunk.id,
                state,
                problem,
                worker,
            )
            or 0
        )

    async def waiting(self, connection: Connection, models: Sequence[str]) -> tuple[list[int], int]:
        """The numbers of the chunks that wait, the first model's first, and how many rows wait in them."""
        rows = await connection.fetch(
            f"SELECT id, waiting FROM {self._chunk} WHERE model = ANY($1) AND state = 'waiting'"
            " ORDER BY array_position($1::text[], model), id",
            models,
        )
        return [row["id"] for row in rows], sum(row["waiting"] for row in rows)
