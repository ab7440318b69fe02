"""How far each table is: its frontier, up to which it is cut into chunks, and what has become of them.

All of it lies in the target store, so that workers anywhere know of each other.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from crossfade.backfill.chunks import Chunks, ChunkState
from crossfade.backfill.plan import PlannedTable
from crossfade.store import Store
from crossfade.store.ranges import Key, KeyRange
from crossfade.store.tables import Connection


@dataclass(frozen=True, slots=True)
class TableState:
    """How far one table is, as everybody sees it."""

    model: str
    is_done: bool
    is_cut: bool
    is_paused: bool
    chunk_rows: int
    counts: Mapping[str, int]

    @property
    def is_copied(self) -> bool:
        """Whether every row has been copied that can be, the ones that wait for others aside."""
        return self.is_cut and ChunkState.PENDING not in self.counts

    @property
    def is_whole(self) -> bool:
        """Whether every chunk is done."""
        return self.is_cut and not self.counts

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_done or (self.is_cut and self.counts.keys() <= {ChunkState.FAILED})


class Frontiers:
    """The frontiers of every table. Each method takes a transaction on the target store."""

    def __init__(self, store: Store, chunks: Chunks) -> None:
        self._chunks = chunks
        self._backfill = store.own("backfill")
        self._chunk = store.own("chunk")

    async def prepare(
        self, connection: Connection, tables: Collection[PlannedTable], since: datetime, rows: int, by: str
    ) -> None:
        """Begin the tables that have not begun, and have rows that were refused tried again.

        A table that was begun before `since`, when what was written to the legacy store was not captured yet, begins
        anew; rows that are there by now are only looked at.
        """
        models = [table.model for table in tables]
        await connection.execute(
            f"INSERT INTO {self._backfill} (model, owner, chunk_rows, estimated, since, by)"
            " SELECT m, o, $4, e, $5, $6 FROM unnest($1::text[], $2::text[], $3::bigint[]) AS t(m, o, e) ORDER BY m"
            " ON CONFLICT DO NOTHING",
            models,
            [table.owner for table in tables],
            [table.estimated for table in tables],
            rows,
            since,
            by,
        )
        begun = await connection.fetch(
            f"SELECT model, since FROM {self._backfill} WHERE model = ANY($1) ORDER BY model FOR UPDATE",
            models,
        )
        stale = [row["model"] for row in begun if row["since"] != since]
        await connection.execute(f"DELETE FROM {self._chunk} WHERE model = ANY($1)", stale)
        await connection.execute(
            f"UPDATE {self._backfill} SET state = 'copying', after = NULL, is_cut = false, chunk_rows = $2, since = $3,"
            " started = clock_timestamp(), finished = NULL, by = $4 WHERE model = ANY($1)",
            stale,
            rows,
            since,
            by,
        )
        await connection.execute(
            f"UPDATE {self._chunk} SET state = 'pending', attempts = 0, problem = NULL"
            " WHERE model = ANY($1) AND state = 'failed'",
            models,
        )

    async def states(self, connection: Connection, models: Sequence[str]) -> dict[str, TableState]:
        """How far the tables are; those that have not begun are left out."""
        rows = await connection.fetch(
            "SELECT b.model, b.state = 'done' AS is_done, b.is_cut, b.is_paused, b.chunk_rows,"
            f" array_agg(c.state) AS states, array_agg(c.chunks) AS chunks FROM {self._backfill} b LEFT JOIN"
            f" (SELECT model, state, count(*) AS chunks FROM {self._chunk} WHERE state <> 'done'"
            " GROUP BY model, state) c"
            " ON c.model = b.model WHERE b.model = ANY($1) GROUP BY b.model",
            models,
        )
        return {
            row["model"]: TableState(
                row["model"],
                row["is_done"],
                row["is_cut"],
                row["is_paused"],
                row["chunk_rows"],
                {state: count for state, count in zip(row["states"], row["chunks"], strict=True) if state},
            )
            for row in rows
        }

    async def cut(
        self,
        connection: Connection,
        model: str,
        rows: int,
        find: Callable[[Key | None], Awaitable[Key | None]],
    ) -> bool:
        """Add the next chunk and move the frontier behind it; False if there is nothing behind the frontier.

        `find` gives the key with which a chunk that begins after another one is to end, or None for the last.
        """
        row = await connection.fetchrow(
            f"SELECT after, is_cut FROM {self._backfill} WHERE model = $1 FOR UPDATE", model
        )
        if row is None or row["is_cut"]:
            return False
        after = None if row["after"] is None else tuple(row["after"])
        up_to = await find(after)
        await self._chunks.add(connection, model, KeyRange(after, up_to))
        await connection.execute(
            f"UPDATE {self._backfill} SET after = $2, is_cut = $3, chunk_rows = $4 WHERE model = $1",
            model,
            up_to,
            up_to is None,
            rows,
        )
        return True

    async def conclude(self, connection: Connection, models: Sequence[str]) -> list[str]:
        """Set the tables to done whose every chunk is; return those that were not before."""
        rows = await connection.fetch(
            f"UPDATE {self._backfill} b SET state = 'done', finished = clock_timestamp()"
            " WHERE b.model = ANY($1) AND b.state <> 'done' AND b.is_cut"
            f" AND NOT EXISTS (SELECT FROM {self._chunk} c WHERE c.model = b.model AND c.state <> 'done')"
            " RETURNING b.model",
            models,
        )
        return [row["model"] for row in rows]

    async def pause(self, connection: Connection, models: Sequence[str], *, paused: bool) -> list[str]:
        """Have every worker leave these tables alone from the next chunk on, or go on with them; return which."""
        rows = await connection.fetch(
            f"UPDATE {self._backfill} SET is_paused = $2 WHERE model = ANY($1) AND state <> 'done' RETURNING model",
            models,
            paused,
        )
        return [row["model"] for row in rows]
