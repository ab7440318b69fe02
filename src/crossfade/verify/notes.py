"""What the target store remembers of a run over one table, so that another can go on with it."""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from crossfade.errors import VerifyError
from crossfade.reconcile.images import across, unnested
from crossfade.store import Store
from crossfade.store.crossing import Crossing
from crossfade.store.ranges import Key
from crossfade.store.store import LOST
from crossfade.store.tables import Connection
from crossfade.store.turns import Turn
from crossfade.verify.checksums import Suspects
from crossfade.verify.report import Differing, Kind, Verdict
from crossfade.verify.settings import Mode


@dataclass(slots=True)
class Run:
    """One run over one table: how far it is, and what it has found so far."""

    id: int
    after: Key | None
    rows: int
    chunks: int
    suspects: Suspects
    differing: list[Differing]


class Notes:
    """The notes about one table, in the target store."""

    def __init__(self, store: Store, crossing: Crossing) -> None:
        self._store = store
        self._crossing = crossing
        self._runs = store.own("verification")
        self._keys = store.own("difference")
        width = len(crossing.keys[store.side])
        self._texts = f"ARRAY[{', '.join(f'k.c{n}' for n in range(width))}]"
        self._width = width

    async def begin(
        self, mode: Mode, scope: str, since: datetime, by: str, *, fresh: bool, within: float
    ) -> Run:
        """Go on with what an earlier run of the same kind has left, or begin anew.

        What was begun before the table's backfill had ended, or longer ago than `within` seconds, is begun anew.
        """
        model = self._crossing.model
        async with self._store.transaction() as connection:
            row = await connection.fetchrow(
                f"SELECT id, after, rows, chunks FROM {self._runs} v WHERE model = $1 AND mode = $2 AND scope = $3"
                " AND since = $4 AND state = 'running' AND NOT $5 AND"
                " started > clock_timestamp() - $6::float8 * interval '1 second' AND NOT EXISTS"
                f" (SELECT FROM {self._store.own('backfill')} b WHERE b.model = v.model AND b.finished > v.started)"
                f" AND NOT EXISTS (SELECT FROM {self._runs} o WHERE o.model = v.model AND o.id > v.id)"
                " ORDER BY id DESC LIMIT 1",
                model,
                mode,
                scope,
                since,
                fresh,
                within,
            )
            if row is not None:
                return await self._resumed(connection, row)
            await connection.execute(f"DELETE FROM {self._keys} WHERE model = $1", model)
            await connection.execute(
                f"DELETE FROM {self._runs} WHERE model = $1 AND state = 'running'", model
            )
            id_ = await connection.fetchval(
                f"INSERT INTO {self._runs} (model, owner, mode, scope, since, by)"
                " VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
                model,
                self._crossing.owner,
                mode,
                scope,
                since,
                by,
            )
        return Run(id_, None, 0, 0, {}, [])

    async def advance(self, run: Run, last: Key, rows: int, suspects: Suspects) -> None:
        """Note that a piece has been compared, and what is to be looked at again."""
        async with self._store.transaction() as connection:
            await self._add(connection, run, suspects)
            await connection.execute(
                f"UPDATE {self._runs} SET after = $2, rows = rows + $3, chunks = chunks + 1 WHERE id = $1",
                run.id,
                list(last),
                rows,
            )
        run.after, run.rows, run.chunks = last, run.rows + rows, run.chunks + 1
        run.suspects |= suspects

    async def suspect(self, run: Run, suspects: Suspects) -> None:
        """Note what is to be looked at again."""
        async with self._store.transaction() as connection:
            await self._add(connection, run, suspects)
        run.suspects |= suspects

    async def _add(self, connection: Connection, run: Run, suspects: Collection[Key]) -> None:
        if suspects:
            await connection.execute(
                f"INSERT INTO {self._keys} (verification, model, key, kind)"
                f" SELECT {run.id}, $1, {self._texts}, 'suspect' FROM {unnested(self._width, start=2)}"
                " ON CONFLICT DO NOTHING",
                self._crossing.model,
                *across(list(suspects)),
            )

    async def resolve(
        self, run: Run, looked_at: Collection[Key], differing: Iterable[Differing], in_flight: Collection[Key]
    ) -> None:
        """Note what suspects have turned out to be."""
        found = list(differing)
        settled = frozenset(looked_at)
        gone = [key for key in looked_at if key not in in_flight]
        async with self._store.transaction() as connection:
            if gone:
                await connection.execute(
                    f"DELETE FROM {self._keys} d USING {unnested(self._width)}"
                    f" WHERE d.verification = {run.id} AND d.model = ${self._width + 1} AND d.key = {self._texts}",
                    *across(gone),
                    self._crossing.model,
                )
            if found:
                await connection.executemany(
                    f"INSERT INTO {self._keys} (verification, model, key, kind, columns)"
                    " VALUES ($1, $2, $3, $4, $5)",
                    [(run.id, self._crossing.model, list(d.key), d.kind, list(d.columns)) for d in found],
                )
        run.suspects = dict.fromkeys(in_flight)
        run.differing = [row for row in run.differing if row.key not in settled] + found

    async def finish(self, run: Run, state: Verdict, *, in_flight: int) -> None:
        """Note what the table has come to."""
        async with self._store.transaction() as connection:
            await connection.execute(
                f"UPDATE {self._runs} SET state = $2, differing = $3, in_flight = $4, finished = clock_timestamp()"
                " WHERE id = $1",
                run.id,
                state,
                len(run.differing),
                in_flight,
            )

    async def repaired(self, rows: int) -> None:
        """Note at the newest run that rows were repaired."""
        async with self._store.transaction() as connection:
            await connection.execute(
                f"UPDATE {self._runs} SET repaired = $2 WHERE id ="
                f" (SELECT max(id) FROM {self._runs} WHERE model = $1)",
                self._crossing.model,
                rows,
            )

    async def _resumed(self, connection: Connection, row: asyncpg.Record) -> Run:
        noted = await connection.fetch(
            f"SELECT key, kind, columns FROM {self._keys} WHERE verification = $1 AND model = $2 ORDER BY key",
            row["id"],
            self._crossing.model,
        )
        return Run(
            row["id"],
            None if row["after"] is None else tuple(row["after"]),
            row["rows"],
            row["chunks"],
            {tuple(n["key"]): None for n in noted if n["kind"] == "suspect"},
            [
                Differing(tuple(n["key"]), Kind(n["kind"]), tuple(n["columns"]))
                for n in noted
                if n["kind"] != "suspect"
            ],
        )


@asynccontextmanager
async def turn(store: Store, tables: Iterable[Crossing]) -> AsyncIterator[None]:
    """Be the only one who verifies these tables, for as long as the block runs.

    Raises:
        VerifyError: somebody else verifies one of them.
        StoreUnavailableError: the store does not answer.
    """
    connection = await store.listen_connection()
    try:
        for crossing in tables:
            key = Turn.VERIFY.of(f"{store.home}.{crossing.model}")
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", key):
                raise VerifyError(crossing.model, "another process is at it; wait for it, or end it")
        yield
    finally:
        with suppress(*LOST, asyncpg.PostgresError):
            await connection.close(timeout=1.0)
        connection.terminate()
