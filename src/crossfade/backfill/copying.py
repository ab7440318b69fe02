"""Copy one chunk: out of the legacy store, into a staging table beside the target's, and from there what is missing.

Nothing that is in the target already is written over: a row that is there was put there by somebody who knew more than
a reading of a moment ago. What cannot be inserted as it is goes one of three ways:

* its key is not in the target, because another row has one of its unique values: it is *left over*, and its key is
  noted to be verified, in the same transaction;
* what it refers to is not in the target yet: it *waits*, and is left out. Rows of one chunk may refer to each other, so
  those are taken out whose parents are neither in the target nor in the chunk, and those that refer to such. In the
  end they are inserted without the references that may be NULL, and noted;
* the target refuses it: the whole chunk fails, and whoever asked for it goes on with its halves.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; bounds are quoted constants
from __future__ import annotations

from contextlib import suppress

import asyncpg

from crossfade.backfill.chunks import Outcome
from crossfade.backfill.orphans import IS_ORPHAN, STAGING, Orphans
from crossfade.backfill.stream import stream
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.columns import listed
from crossfade.store.crossing import Crossing
from crossfade.store.objects import CHANGE_CHANNEL
from crossfade.store.ranges import KeyRange, in_order, within
from crossfade.store.tables import Connection, literal, quoted


class Copier:
    """Copies chunks of one table; the same for every worker."""

    def __init__(self, crossing: Crossing, target: Store) -> None:
        self._crossing = crossing
        self._change = target.own("change")
        self._table = crossing.tables[Side.SQLALCHEMY]
        names = crossing.names(Side.SQLALCHEMY)
        self._names = names
        staged = ", ".join(
            f"{quoted(name)} {column.wire}" for name, column in zip(names, crossing.columns, strict=True)
        )
        self._stage_sql = f"CREATE TEMP TABLE {STAGING} ({staged}) ON COMMIT DROP"
        self._landed = {
            name: column.landed(f"s.{quoted(name)}")
            for name, column in zip(names, crossing.columns, strict=True)
        }
        parents = {table.model: table.quoted for table in target.tables}
        self._orphans = Orphans(self._table, parents, self._landed)
        self._plain_sql = (
            f"INSERT INTO {self._table.quoted} ({listed(names)}) OVERRIDING SYSTEM VALUE"
            f" SELECT {', '.join(self._landed.values())} FROM {STAGING} s"
        )
        self._insert_sql = f"{self._plain_sql} ON CONFLICT DO NOTHING"
        self._insert_by_key_sql = f"{self._plain_sql} ON CONFLICT ({listed(self._table.key)}) DO NOTHING"
        self._missing = (
            f"NOT EXISTS (SELECT FROM {self._table.quoted} t WHERE"
            f" {' AND '.join(f't.{quoted(name)} = {self._landed[name]}' for name in self._table.key)})"
        )
        # As capture notes it: in the order of the table's own key.
        self._key_texts = f"ARRAY[{', '.join(f'({self._landed[name]})::text' for name in self._table.key)}]"

    def reading(self, range_: KeyRange) -> str:
        """The query that reads a chunk, in the order of the key: its index, and the target's, are walked along."""
        wired = ", ".join(column.wired("t") for column in self._crossing.columns)
        return (
            f"SELECT {wired} FROM {self._crossing.tables[Side.PRISMA].quoted} t"
            f" WHERE {within(self._crossing, Side.PRISMA, range_)}"
            f" ORDER BY {in_order(self._crossing, Side.PRISMA)}"
        )

    async def read(self, legacy: Connection, target: Connection, range_: KeyRange) -> int:
        """Read a chunk into the staging table; return how many rows."""
        await target.execute(self._stage_sql)
        return await stream(legacy, self.reading(range_), target, STAGING, self._names)

    async def land(
        self, target: Connection, read: int, *, within_: KeyRange | None, finally_: bool
    ) -> Outcome:
        """Insert what has been read.

        Args:
            target: the transaction with the staging table.
            read: how many rows that holds.
            within_: their range in the target, if that can be said.
            finally_: whether rows whose parents are missing are waited for no more.

        Raises:
            asyncpg.PostgresError: the target refuses a row.
        """
        if not read:  # the fence is asked nevertheless
            await target.execute(self._insert_sql)
            return Outcome()
        written = await self._insert(target, within_)
        if written is not None:
            left_over = await self._note_left_over(target) if written < read else 0
            return Outcome(read, written, left_over)
        await self._orphans.index(target)
        if finally_:
            return await self._land_finally(target, read)
        waiting = await self._leave_out_orphans(target)
        written = await self._insert_missing(target)
        left_over = await self._note_left_over(target) if written + waiting < read else 0
        return Outcome(read, written, left_over, waiting)

    async def _land_finally(self, target: Connection, read: int) -> Outcome:
        """Insert also what waits for its parents, without the references that can be left out; all of it is noted."""
        noted = await self._note_orphans(target)
        try:
            async with target.transaction():
                if self._orphans.optional:
                    nothing = ", ".join(f"{quoted(name)} = NULL" for name in self._orphans.optional)
                    await target.execute(
                        f"{self._orphans.find()} UPDATE {STAGING} s SET {nothing} WHERE {IS_ORPHAN}"
                    )
                await self._leave_out_orphans(target)
                written = await self._insert_missing(target)
        except asyncpg.IntegrityConstraintViolationError:  # such as a CHECK that wants one of them
            await self._leave_out_orphans(target)
            written = await self._insert_missing(target)
        left_over = await self._note_left_over(target) if written < read else 0
        return Outcome(read, written, noted + left_over)

    async def _insert(self, target: Connection, within_: KeyRange | None) -> int | None:
        """Insert everything, or nothing and return None if something is missing that it refers to."""
        try:
            if within_ is not None and not await self._has_any(target, within_):
                # Leaving out what is there costs a third more, and mostly nothing is there.
                with suppress(asyncpg.UniqueViolationError, asyncpg.ExclusionViolationError):
                    async with target.transaction():
                        return _count(await target.execute(self._plain_sql))
            async with target.transaction():  # what refers to nothing undoes the whole
                return await self._insert_missing(target)
        except asyncpg.ForeignKeyViolationError:
            if not self._orphans.may_be:
                raise
            return None

    async def _has_any(self, target: Connection, range_: KeyRange) -> bool:
        return bool(
            await target.fetchval(
                f"SELECT EXISTS (SELECT FROM {self._table.quoted} t"
                f" WHERE {within(self._crossing, Side.SQLALCHEMY, range_)})"
            )
        )

    async def _insert_missing(self, target: Connection) -> int:
        try:
            async with target.transaction():
                return _count(await target.execute(self._insert_sql))
        except asyncpg.ObjectNotInPrerequisiteStateError:  # a deferrable constraint leaves no row out
            return _count(await target.execute(self._insert_by_key_sql))

    async def _leave_out_orphans(self, target: Connection) -> int:
        """Take the rows out of the staging table whose parents are missing; return how many the target lacks."""
        return int(
            await target.fetchval(
                f"{self._orphans.find()}, gone AS (DELETE FROM {STAGING} s WHERE {IS_ORPHAN}"
                f" RETURNING {self._missing} AS is_missing) SELECT count(*) FROM gone WHERE is_missing"
            )
        )

    async def _note_orphans(self, target: Connection) -> int:
        """Note them, to be verified; return how many."""
        return await self._note(target, f"{self._orphans.find()}", f"{IS_ORPHAN} AND {self._missing}")

    async def _note_left_over(self, target: Connection) -> int:
        return await self._note(target, "", self._missing)

    async def _note(self, target: Connection, with_: str, condition: str) -> int:
        noted = _count(
            await target.execute(
                f"{with_} INSERT INTO {self._change} (model, key, op)"
                f" SELECT {literal(self._table.model)}, {self._key_texts}, 'V' FROM {STAGING} s WHERE {condition}"
            )
        )
        if noted:
            await ring(target)
        return noted


async def ring(connection: Connection) -> None:
    """Wake reconcilers that sleep, when this transaction ends."""
    await connection.execute("SELECT pg_notify($1, '')", CHANGE_CHANNEL)


def _count(status: str) -> int:
    return int(status.rsplit(maxsplit=1)[-1])
