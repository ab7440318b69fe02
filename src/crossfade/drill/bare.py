"""Writers that know nothing of crossfade: plain SQL over a connection of their own, or `psql`.

They write where they wrote last. When a store tells them that it takes no writes any more, they do what the owner of
a script would do: they go to the other one, and wait a little where neither takes them.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

import asyncpg

from crossfade.drill.journal import Outcome
from crossfade.drill.lane import Increment, Verb, Write
from crossfade.drill.models import KEYS, MODELS
from crossfade.drill.processes import die_with_parent
from crossfade.drill.strands import Answer
from crossfade.dsn import Dsn
from crossfade.stages import Side
from crossfade.store.objects import WRONG_AUTHORITY
from crossfade.store.tables import literal, quoted

_DEADLINE: Final = 20.0
_PAUSE: Final = 0.02
_FOREIGN_KEY_MISS: Final = "23503"
"""A child whose parent has not arrived yet, or a parent whose child has not gone yet: a script tries again."""
_TRY_AGAIN: Final = frozenset({_FOREIGN_KEY_MISS, "40P01", "40001", "55P03"})
_UNREACHABLE: Final = "unreachable"
"""In place of an SQLSTATE: there was no connection, so nothing can have been written."""
_TIMED: Final = frozenset({"Account", "Setting"})


class Statement(NamedTuple):
    """One SQL statement, the values of its parameters and the number of rows that it must touch."""

    sql: str
    values: tuple[Any, ...]
    rows: int = 1


class Refused(NamedTuple):
    """A store's refusal: nothing was written."""

    state: str


class Broken(NamedTuple):
    """Nobody knows whether it was written."""

    reason: str


def statements(write: Write, schema: str) -> list[Statement]:
    """A write as SQL on the tables in `schema`; several statements are one transaction."""
    table = f"{quoted(schema)}.{quoted(write.model)}"
    match write.verb:
        case Verb.CREATE:
            return [_insert(table, write.data)]
        case Verb.UPSERT:
            insert = _insert(table, {**write.where, **write.data})
            columns = ", ".join(f"{quoted(name)} = EXCLUDED.{quoted(name)}" for name in write.data)
            key = ", ".join(map(quoted, KEYS[write.model]))
            timed = ", updated_at = EXCLUDED.updated_at"
            return [
                Statement(f"{insert.sql} ON CONFLICT ({key}) DO UPDATE SET {columns}{timed}", insert.values)
            ]
        case Verb.DELETE:
            where = _conditions(write.where, 1)
            return [Statement(f"DELETE FROM {table} WHERE {where}", tuple(write.where.values()))]  # noqa: S608
        case Verb.UPDATE | Verb.UPDATE_MANY:
            return [_update(table, write)]
        case Verb.SWAP:
            put = f"UPDATE {table} SET slot = $1::int WHERE reference = $2"  # noqa: S608
            one, other = write.where
            return [
                Statement(put, (None, one)),
                Statement(put, (write.where[other], other)),
                Statement(put, (write.where[one], one)),
            ]


def _insert(table: str, data: Mapping[str, Any]) -> Statement:
    names = ", ".join(map(quoted, data))
    slots = ", ".join(f"${number}" for number in range(1, len(data) + 1))
    return Statement(f"INSERT INTO {table} ({names}) VALUES ({slots})", tuple(data.values()))  # noqa: S608


def _update(table: str, write: Write) -> Statement:
    sets = []
    for number, (name, value) in enumerate(write.data.items(), start=1):
        grown = f"{quoted(name)} + " if isinstance(value, Increment) else ""
        sets.append(f"{quoted(name)} = {grown}${number}")
    if write.model in _TIMED:
        sets.append("updated_at = CURRENT_TIMESTAMP AT TIME ZONE 'UTC'")
    where = _conditions(write.where, len(write.data) + 1)
    sql = f"UPDATE {table} SET {', '.join(sets)} WHERE {where}"  # noqa: S608
    values = (
        *(int(v) if isinstance(v, Increment) else v for v in write.data.values()),
        *write.where.values(),
    )
    return Statement(sql, values, len(write.effects))


def _conditions(where: Mapping[str, Any], first: int) -> str:
    return " AND ".join(f"{quoted(name)} = ${number}" for number, name in enumerate(where, start=first))


class Script:
    """What scripts of both kinds share: where they write, and what they do when that is refused."""

    def __init__(self, stores: Mapping[Side, Dsn], start: Side = Side.PRISMA) -> None:
        self.stores = stores
        self._at = dict.fromkeys(MODELS, start)
        self.refusals = 0

    async def run(self, side: Side, todo: list[Statement]) -> Refused | Broken | None:
        """Run statements in one transaction of a store; None when that was acknowledged."""
        raise NotImplementedError

    async def write(self, write: Write) -> Answer:
        """Execute a write; see `Hand.write`."""
        give_up = monotonic() + _DEADLINE
        while True:
            side = self._at[write.model]
            answer = await self.run(side, statements(write, self.stores[side].schema or "public"))
            if answer is None:
                return Answer(Outcome.ACKNOWLEDGED)
            if isinstance(answer, Broken):
                return Answer(Outcome.UNKNOWN, f"{write.verb} {write.model} by SQL: {answer.reason}")
            if answer.state in (WRONG_AUTHORITY, _UNREACHABLE):
                self.refusals += answer.state == WRONG_AUTHORITY
                self._at[write.model] = side.other
            elif answer.state not in _TRY_AGAIN:
                return Answer(Outcome.REFUSED, f"{write.verb} {write.model} by SQL: {answer.state}")
            if monotonic() > give_up:
                return Answer(
                    Outcome.REFUSED,
                    f"{write.verb} {write.model} by SQL: still {answer.state} after {_DEADLINE:g} s",
                )
            await asyncio.sleep(_PAUSE)


class SqlScript(Script):
    """Plain SQL over a connection to each store, opened when it is first needed."""

    def __init__(self, stores: Mapping[Side, Dsn], start: Side = Side.PRISMA) -> None:
        super().__init__(stores, start)
        self._open: dict[Side, asyncpg.Connection[asyncpg.Record]] = {}

    async def close(self) -> None:
        """Close the connections."""
        for connection in self._open.values():
            connection.terminate()

    async def run(self, side: Side, todo: list[Statement]) -> Refused | Broken | None:
        """Run statements in one transaction of a store; None when that was acknowledged."""
        connection = self._open.get(side)
        if connection is None or connection.is_closed():
            try:
                connection = self._open[side] = await asyncpg.connect(**self.stores[side].asyncpg_kwargs())
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                return Refused(_UNREACHABLE)
        try:
            if len(todo) == 1:
                return await self._execute(connection, todo[0])
            return await self._transact(connection, todo)
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as error:
            connection.terminate()
            return Broken(type(error).__name__)
        except asyncpg.OperatorInterventionError as error:
            return Broken(type(error).__name__)
        except asyncpg.PostgresError as error:
            return Refused(error.sqlstate or type(error).__name__)

    async def _transact(
        self, connection: asyncpg.Connection[asyncpg.Record], todo: list[Statement]
    ) -> Refused | None:
        transaction = connection.transaction()
        await transaction.start()
        try:
            for statement in todo:
                if missed := await self._execute(connection, statement):
                    await transaction.rollback()
                    return missed
        except asyncpg.PostgresError:
            if not connection.is_closed():
                await transaction.rollback()
            raise
        await transaction.commit()
        return None

    @staticmethod
    async def _execute(
        connection: asyncpg.Connection[asyncpg.Record], statement: Statement
    ) -> Refused | None:
        status = await connection.execute(statement.sql, *statement.values)
        if (touched := int(status.rpartition(" ")[2])) != statement.rows:
            return Refused(f"touched {touched} rows, not {statement.rows}")
        return None


_STATE = re.compile(r"(?:ERROR|FATAL):\s+(\w{5}):")


class PsqlScript(Script):
    """`psql`, started anew for every write, as a cron job would."""

    def __init__(self, stores: Mapping[Side, Dsn], psql: Path, start: Side = Side.PRISMA) -> None:
        super().__init__(stores, start)
        self._psql = psql

    async def close(self) -> None:
        """Nothing is kept open."""

    async def run(self, side: Side, todo: list[Statement]) -> Refused | Broken | None:
        """Run statements in one transaction of a store; None when that was acknowledged."""
        dsn = self.stores[side]
        environment = {**os.environ, "PGPASSWORD": dsn.password or "", "PGCONNECT_TIMEOUT": "3"}
        process = await asyncio.create_subprocess_exec(
            *(self._psql, "-X", "-At", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"),
            *("-1", "-c", "; ".join(_inlined(statement) for statement in todo)),
            *("-d", dsn.libpq_url(with_password=False)),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        out, err = await process.communicate()
        if process.returncode == 0:
            counts = [int(line.rpartition(" ")[2]) for line in out.decode().splitlines() if line]
            if counts != [statement.rows for statement in todo]:
                return Refused(f"touched {counts} rows")
            return None
        text = err.decode(errors="replace")
        if found := _STATE.search(text):
            return Refused(found[1])
        if "server closed the connection" in text:
            return Broken("the connection broke")
        return Refused(_UNREACHABLE)


def _inlined(statement: Statement) -> str:
    def value(found: re.Match[str]) -> str:
        given = statement.values[int(found[1]) - 1]
        if given is None:
            return "NULL"
        return str(given) if isinstance(given, int) else literal(given)

    return re.sub(r"\$(\d+)", value, statement.sql)
