"""Secondary indexes and foreign keys of the target's tables: taken off before a backfill, and put back after it.

Rows go faster into a table that has only its key and its unique indexes, and an index is built faster than it is grown.

* Nothing is dropped that is not noted: `deferred` gets the definition in the transaction that drops it.
* Only models at `off` are touched. From `dualwrite` on, the application's own writes go to the target and need its
  foreign keys, and its reads will need the indexes.
* Putting back can be broken off anywhere and be done again by anybody. An index is built without keeping writers out,
  in steps of the server's own; what a broken one leaves behind is not valid and is dropped first. A foreign key holds
  for new rows from the moment that it is added; then the rows that are there are checked.
* Whatever carries more than its definition says stays where it is: comments, statistics targets, a tablespace. So do
  the indexes and foreign keys of partitioned tables, which cannot be built this way.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from crossfade.errors import BackfillError, CrossfadeError, StoreUnavailableError
from crossfade.stages import Stage, has_begun
from crossfade.store import Store
from crossfade.store.locks import in_locked_transaction
from crossfade.store.store import LOST
from crossfade.store.tables import Connection, StoredTable, quoted
from crossfade.store.turns import Turn

DEADLINE = 30.0
"""Seconds to try for the locks of one table."""

_LOOK_SECONDS = 0.5
_ANY_TIME = 30 * 24 * 3600.0


class Kind(StrEnum):
    """What was taken off."""

    INDEX = "index"
    FOREIGN_KEY = "foreign key"


class Step(StrEnum):
    """Where a process may die."""

    NOTED = "noted"
    DROPPED = "dropped"
    BUILT = "built"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Deferred:
    """An index or a foreign key of one table, and the SQL that makes it again. `model` is the table's."""

    model: str
    kind: Kind
    name: str
    definition: str


async def _nowhere(_: Step) -> None:
    pass


_INDEXES = """
SELECT c.relname::text AS name, pg_get_indexdef(i.indexrelid) AS definition
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
WHERE i.indrelid = $1::regclass AND t.relkind = 'r' AND c.relkind = 'i'
      AND NOT i.indisunique AND NOT i.indisprimary AND NOT i.indisexclusion AND i.indisvalid AND i.indislive
      AND NOT i.indisclustered AND NOT i.indisreplident AND c.reltablespace = 0
      AND obj_description(i.indexrelid, 'pg_class') IS NULL
      AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND coalesce(a.attstattarget, -1) >= 0)
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.deptype IN ('e', 'x'))
ORDER BY 1
"""
_FOREIGN_KEYS = """
SELECT k.conname::text AS name, pg_get_constraintdef(k.oid) AS definition
FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid JOIN pg_class f ON f.oid = k.confrelid
WHERE k.conrelid = $1::regclass AND k.contype = 'f' AND k.conparentid = 0 AND k.convalidated
      AND t.relkind = 'r' AND f.relkind = 'r' AND coalesce(to_jsonb(k)->>'conenforced', 'true') = 'true'
      AND obj_description(k.oid, 'pg_constraint') IS NULL
ORDER BY 1
"""
_FOUND_INDEX = """
SELECT i.indisvalid AS is_valid, i.indrelid = $2::regclass AS is_here, pg_get_indexdef(i.indexrelid) AS definition
FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.relname = $1 AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = $2::regclass)
"""
_FOUND_CONSTRAINT = """
SELECT convalidated AS is_valid, pg_get_constraintdef(oid) AS definition
FROM pg_constraint WHERE conrelid = $2::regclass AND conname = $1
"""


async def deferrable(store: Store, models: Sequence[str]) -> list[Deferred]:
    """What `defer` would take off the tables of `models`, whatever their stage."""
    found: list[Deferred] = []
    async with store.transaction() as connection:
        for table in store.tables.of(models):
            found += await _attached(connection, table)
    return found


async def outstanding(store: Store, models: Sequence[str]) -> list[Deferred]:
    """What was taken off the tables of `models` and is not back: indexes first."""
    async with store.transaction() as connection:
        rows = await connection.fetch(
            f"SELECT model, kind, name, definition FROM {store.own('deferred')}"
            " WHERE restored IS NULL AND model = ANY ($1::text[]) ORDER BY kind DESC, model, name",
            [table.model for table in store.tables.of(models)],
        )
    return [Deferred(row["model"], Kind(row["kind"]), row["name"], row["definition"]) for row in rows]


async def defer(
    store: Store,
    models: Sequence[str],
    *,
    deadline: float = DEADLINE,
    at: Callable[[Step], Awaitable[None]] = _nowhere,
) -> list[Deferred]:
    """Take secondary indexes and foreign keys off the tables of `models`, one table after the other.

    Args:
        store: the target.
        models: whose; the many-to-many tables that they own come with them.
        deadline: how many seconds to try for the locks of each table.
        at: awaited at every step; for tests.

    Returns:
        What was taken off now.

    Raises:
        BackfillError: a model has left `off`; nothing of its tables, nor of those after it, was changed.
        LockedOutError: a table stayed locked.
        StoreUnavailableError: the store does not answer.
    """
    await _check_all_off(store, models)
    taken: list[Deferred] = []
    for table in store.tables.of(models):

        async def take(connection: Connection, table: StoredTable = table) -> list[Deferred]:
            await _check_off(connection, store, [table.owner])
            found = await _attached(connection, table)
            await connection.executemany(
                f"INSERT INTO {store.own('deferred')} (model, kind, name, definition) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT (model, name) DO UPDATE SET kind = excluded.kind, definition = excluded.definition,"
                " dropped = excluded.dropped, restored = NULL",
                [(one.model, one.kind, one.name, one.definition) for one in found],
            )
            await at(Step.NOTED)
            for one in found:
                await connection.execute(_drop(table, one))
            await at(Step.DROPPED)
            return found

        taken += await in_locked_transaction(store, take, deadline=deadline)
    return taken


async def restore(
    store: Store,
    models: Sequence[str],
    *,
    deadline: float = DEADLINE,
    told: Callable[[str], None] = lambda _: None,
    at: Callable[[Step], Awaitable[None]] = _nowhere,
) -> list[Deferred]:
    """Put back what was taken off the tables of `models`, as far as it is possible; writers go on meanwhile.

    Args:
        store: the target.
        models: whose.
        deadline: how many seconds to try for the locks of each table.
        told: hears in words what is being done.
        at: awaited at every step; for tests.

    Returns:
        What is back now.

    Raises:
        BackfillError: something could not be put back; if more than one thing, an ExceptionGroup of them. Everything
            else is back, and the same call tries again.
        StoreUnavailableError: the store does not answer.
    """
    if not await outstanding(store, models):
        return []
    back: list[Deferred] = []
    errors: list[CrossfadeError] = []
    async with _alone(store, told) as connection:
        for one in await outstanding(store, models):  # somebody else may have been at it
            table = store.tables[one.model]
            told(f"{one.kind} {one.name} of {table.name}")
            try:
                if one.kind is Kind.INDEX:
                    await _build(connection, store, table, one, at)
                else:
                    await _join(connection, store, table, one, deadline, at)
            except BackfillError as error:
                errors.append(error)
            except LOST as error:
                raise StoreUnavailableError(store.where, str(error) or type(error).__name__) from error
            except asyncpg.PostgresError as error:
                errors.append(_refused(table, one, f"{type(error).__name__}, SQLSTATE {error.sqlstate}"))
            else:
                back.append(one)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup("not everything is back", errors)
    return back


async def _attached(connection: Connection, table: StoredTable) -> list[Deferred]:
    # With no schema on the path every name in a definition is written out.
    await connection.execute("SELECT set_config('search_path', '', true)")
    return [
        Deferred(table.model, kind, row["name"], row["definition"])
        for kind, query in ((Kind.INDEX, _INDEXES), (Kind.FOREIGN_KEY, _FOREIGN_KEYS))
        for row in await connection.fetch(query, table.quoted)
    ]


async def _check_all_off(store: Store, models: Sequence[str]) -> None:
    async with store.transaction() as connection:
        await _check_off(connection, store, models)


async def _check_off(connection: Connection, store: Store, models: Sequence[str]) -> None:
    """Return if all of `models` are at `off`, and keep them there until the transaction ends."""
    rows = await connection.fetch(
        f"SELECT model, stage, moving_to, final FROM {store.own('record')} WHERE model = ANY ($1::text[])"
        " ORDER BY model FOR SHARE",
        list(models),
    )
    for row in rows:
        if row["final"] or has_begun(Stage(row["stage"])) or row["moving_to"] is not None:
            to = "" if row["moving_to"] is None else f", moving to {row['moving_to']}"
            raise BackfillError(
                row["model"],
                f"indexes and foreign keys come off only at `off`, and it is at {row['stage']}{to}:"
                " leave --defer-indexes out",
            )


def _drop(table: StoredTable, one: Deferred) -> str:
    if one.kind is Kind.INDEX:
        return f"DROP INDEX {quoted(table.schema)}.{quoted(one.name)}"
    return f"ALTER TABLE {table.quoted} DROP CONSTRAINT {quoted(one.name)}"


@asynccontextmanager
async def _alone(
    store: Store, told: Callable[[str], None]
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection on which nobody else puts anything back.

    A server goes on for a while with what a killed process has asked for, and holds the lock as long. To wait in the
    server would be waited for by the very index that is being built there.
    """
    connection = await store.listen_connection()
    try:
        key = Turn.RESTORE.of(store.home)
        has_waited = False
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", key):
            if not has_waited:
                told("another process is putting indexes back; this one waits")
                has_waited = True
            await asyncio.sleep(_LOOK_SECONDS)
        await connection.execute(
            "SELECT set_config('search_path', '', false), set_config('statement_timeout', '0', false),"
            " set_config('idle_in_transaction_session_timeout', '0', false), set_config('lock_timeout', '0', false)"
        )
        yield connection
    finally:
        # Ends the lock as well, and a statement under way is not waited for.
        connection.terminate()


async def _build(
    connection: asyncpg.Connection[asyncpg.Record],
    store: Store,
    table: StoredTable,
    one: Deferred,
    at: Callable[[Step], Awaitable[None]],
) -> None:
    found = await connection.fetchrow(_FOUND_INDEX, one.name, table.quoted)
    if found is not None and (not found["is_here"] or found["definition"] != one.definition):
        raise _refused(table, one, "there is another one of that name; rename or drop it")
    if found is not None and not found["is_valid"]:
        await connection.execute(
            f"DROP INDEX CONCURRENTLY {quoted(table.schema)}.{quoted(one.name)}", timeout=_ANY_TIME
        )
        found = None
    if found is None:
        await connection.execute(
            one.definition.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1), timeout=_ANY_TIME
        )
        await at(Step.BUILT)
    await _mark(connection, store, one)


async def _join(
    connection: asyncpg.Connection[asyncpg.Record],
    store: Store,
    table: StoredTable,
    one: Deferred,
    deadline: float,
    at: Callable[[Step], Awaitable[None]],
) -> None:
    name = quoted(one.name)
    found = await connection.fetchrow(_FOUND_CONSTRAINT, one.name, table.quoted)
    if found is not None and found["definition"].removesuffix(" NOT VALID") != one.definition:
        raise _refused(table, one, "there is another constraint of that name; rename or drop it")
    if found is None:

        async def add(locking: Connection) -> None:
            await locking.execute(
                f"ALTER TABLE {table.quoted} ADD CONSTRAINT {name} {one.definition} NOT VALID"
            )

        await in_locked_transaction(store, add, deadline=deadline)
        await at(Step.ADDED)
    try:
        async with connection.transaction():
            if found is None or not found["is_valid"]:
                await connection.execute(
                    f"ALTER TABLE {table.quoted} VALIDATE CONSTRAINT {name}", timeout=_ANY_TIME
                )
            await _mark(connection, store, one)
    except asyncpg.ForeignKeyViolationError as error:
        raise _refused(
            table,
            one,
            "some of the table's rows refer to rows that are not there; `crossfade verify --repair` brings those that"
            " the legacy store has, the others have to be corrected there",
        ) from error


async def _mark(connection: Connection, store: Store, one: Deferred) -> None:
    await connection.execute(
        f"UPDATE {store.own('deferred')} SET restored = clock_timestamp() WHERE model = $1 AND name = $2",
        one.model,
        one.name,
    )


def _refused(table: StoredTable, one: Deferred, why: str) -> BackfillError:
    return BackfillError(
        table.owner,
        f"the {one.kind} {one.name} of {table.quoted} could not be put back: {why}."
        " Then run `crossfade backfill --restore-indexes`",
    )


def listed(things: Iterable[Deferred]) -> str:
    """How many of each kind, in words."""
    kinds = [one.kind for one in things]
    indexes, keys = kinds.count(Kind.INDEX), kinds.count(Kind.FOREIGN_KEY)
    return f"{indexes} {'index' if indexes == 1 else 'indexes'} and {keys} foreign {'key' if keys == 1 else 'keys'}"
