"""Put crossfade's objects into a store, and take them away again without a trace.

Rules:

* Nothing is changed before everything that stands in the way has been listed.
* Each table is done in a transaction of its own, which gives up soon when it has to wait for a lock, and is tried
  again: writers never queue for long. What cannot be had in time is named; the rest is done, and a second run
  completes it.
* Only what is missing or differs is touched, so that a second run locks nothing. The row in `installation` is written
  last: until then the store counts as not installed.
* A fence is brought to what the record says, and left alone while its model's authority is being moved.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crossfade.errors import InstallError
from crossfade.stages import Side, Stage
from crossfade.store.catalog import (
    ALWAYS,
    DISABLED,
    find_triggers,
    installation,
    outdated,
    own_triggers,
)
from crossfade.store.locks import LOCK_TIMEOUT, in_locked_transaction
from crossfade.store.objects import (
    REFUSE_AUTHORS,
    REFUSE_FOLLOWERS,
    VERSION,
    Fence,
    alterations,
    core,
    drop_core,
    targets,
    toggle,
)
from crossfade.store.record import Record
from crossfade.store.refusals import refusals
from crossfade.store.store import Store
from crossfade.store.tables import Connection, StoredTable, inspect_tables, literal, quoted
from crossfade.store.triggers import (
    FENCE_FUNCTIONS,
    RECORD_CHANGED,
    RECORD_TRIGGER,
    capture_function,
    capture_triggers,
    fence_triggers,
)
from crossfade.store.turns import Turn
from crossfade.stores import check_reachable

DEADLINE = 30.0
"""Seconds in which every lock must have been had."""

_LEAST = 2.0
FENCE_TRIGGERS = (REFUSE_AUTHORS, REFUSE_FOLLOWERS)


@dataclass(frozen=True, slots=True)
class Done:
    """What was done about one table, in words; nothing if it was complete. `table` is empty for the objects beside."""

    model: str
    table: str
    steps: tuple[str, ...]


async def install(
    store: Store, *, by: str, deadline: float = DEADLINE, core_only: bool = False
) -> list[Done]:
    """Create or complete the objects in `store`, which need not be open.

    Args:
        store: where.
        by: who does it, for the record.
        deadline: how many seconds to try to get every lock.
        core_only: whether to leave out capture and fence, for a store that both sides share.

    Returns:
        What was done, table by table, beginning with the objects beside.

    Raises:
        InstallError: something stands in the way, all of it listed, and nothing was changed; or a table stayed
            locked, and everything else was done.
        StoreUnavailableError: the database does not answer.
    """
    tables, problems = await _survey(store, core_only=core_only)
    if problems:
        raise InstallError(store.where, "; ".join(problems))

    async def create_core(connection: Connection) -> tuple[str, ...]:
        return await install_core(connection, store.home, list(store.schema.models), by)

    done = [Done("", "", await in_locked_transaction(store, create_core, deadline=deadline))]
    done += await _install_tables(store, tables, deadline)

    async def finish(connection: Connection) -> None:
        await conclude(connection, store.home, store.side, by)

    await in_locked_transaction(store, finish, deadline=deadline)
    if not core_only:
        await store.reread_tables()
    return done


async def obstacles(store: Store, *, core_only: bool = False) -> list[str]:
    """Say of everything that would make `install` refuse what it is; `store` need not be open.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    return (await _survey(store, core_only=core_only))[1]


async def _survey(store: Store, *, core_only: bool) -> tuple[list[StoredTable], list[str]]:
    await check_reachable(store.dsn, f"the store of {store.side}")
    connection = await store.listen_connection()
    try:
        tables: list[StoredTable] = []
        problems: list[str] = []
        if not core_only:
            found, problems = await inspect_tables(
                connection, store.schema, store.database_schema, store.mappings
            )
            tables = list(found)
        problems += await refusals(connection, store.home, store.side, tables)
    finally:
        await connection.close()
    return tables, problems


async def _install_tables(store: Store, tables: Sequence[StoredTable], deadline: float) -> list[Done]:
    loop = asyncio.get_running_loop()
    until = loop.time() + deadline
    done: list[Done] = []
    problems: list[str] = []
    for table in tables:

        async def create(connection: Connection, table: StoredTable = table) -> tuple[str, ...]:
            return await install_table(connection, store.home, store.side, table, store.where)

        patience = max(_LEAST, until - loop.time())
        try:
            steps = await in_locked_transaction(store, create, deadline=patience)
        except InstallError as error:
            problems.append(error.problem)
        else:
            done.append(Done(table.model, table.quoted, steps))
    if problems:
        problems.append(f"{len(done)} of {len(tables)} tables are done, and a second run does the rest")
        raise InstallError(store.where, "; ".join(problems))
    return done


# --- the steps, each in a transaction of its caller's ------------------------------------------------------------


async def install_core(connection: Connection, home: str, models: Iterable[str], by: str) -> tuple[str, ...]:
    """Create or complete everything that concerns no single table."""
    await _one_at_a_time(connection)
    steps: list[str] = []
    present = await installation(connection, home)
    if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", quoted(home)):
        await connection.execute(f"CREATE SCHEMA {quoted(home)}")
        steps.append(f"schema {home}")
    for statement in core(home):
        await connection.execute(statement)
    if present is not None:
        for statement in alterations(home, present[0]):
            await connection.execute(statement)
    functions = await outdated(connection, home, [RECORD_CHANGED, *FENCE_FUNCTIONS])
    for function in functions:
        for statement in function.create(home):
            await connection.execute(statement)
    if functions:
        steps.append("functions")
    record = f"{quoted(home)}.record"
    trigger = (await find_triggers(connection, [record])).get((record, RECORD_TRIGGER.name))
    if trigger is None or not trigger.is_intact(home, RECORD_TRIGGER):
        await connection.execute(f"DROP TRIGGER IF EXISTS {RECORD_TRIGGER.name} ON {record}")
        await connection.execute(RECORD_TRIGGER.create(home, record))
        steps.append("notification of changes")
    if await connection.fetch(
        f"INSERT INTO {record} (model, by, reason) SELECT m, $2, 'installed' FROM unnest($1::text[]) AS m"  # noqa: S608
        " ON CONFLICT DO NOTHING RETURNING model",
        list(models),
        by,
    ):
        steps.append("records")
    return tuple(steps)


async def install_table(
    connection: Connection, home: str, side: Side, table: StoredTable, where: str
) -> tuple[str, ...]:
    """Create or complete the capture and the fence of one table and its partitions.

    Raises:
        InstallError: its fence has to be put up anew while its model's authority is being moved.
    """
    await _one_at_a_time(connection)
    record = await _record(connection, home, table.owner)
    if record.final:
        return ()
    present = await installation(connection, home)
    is_older = present is not None and present[0] < VERSION
    found = await find_triggers(connection, targets(table))
    fence = record.fence(side)
    statements: list[str] = []
    steps: list[str] = []
    is_replaced = is_half_fenced = False
    for target in targets(table):
        for trigger in (*capture_triggers(table), *fence_triggers(table)):
            is_fence = trigger.name in FENCE_TRIGGERS
            wanted = trigger_state(trigger.name, fence)
            there = found.get((target, trigger.name))
            if there is None or is_older or not there.is_intact(home, trigger):
                if there is not None:
                    statements.append(f"DROP TRIGGER {trigger.name} ON {target}")
                    is_replaced = True
                statements.append(trigger.create(home, target))
                is_half_fenced |= is_fence
            elif there.enabled == wanted or (is_fence and record.moving_to is not None):
                continue
            statements.append(toggle(target, trigger.name, enabled=wanted == ALWAYS))
            step = f"fence ({fence})" if is_fence else "capture"
            steps.append(step if target == table.quoted else f"{step} on partition {target}")
    if is_half_fenced and record.moving_to is not None:
        raise InstallError(
            where,
            f"the fence of {table.quoted} is not complete and the authority over {table.owner} is being moved;"
            " install when that is over",
        )
    functions = await outdated(connection, home, [capture_function(home, table)])
    for function in functions:
        for statement in function.create(home):
            await connection.execute(statement)
        steps.append("capture function")
    if statements:
        await _lock(connection, targets(table), "ACCESS EXCLUSIVE" if is_replaced else "SHARE ROW EXCLUSIVE")
    for statement in statements:
        await connection.execute(statement)
    return tuple(dict.fromkeys(steps))


async def conclude(connection: Connection, home: str, side: Side, by: str) -> None:
    """Say that the store has everything of this version."""
    await _one_at_a_time(connection)
    if await installation(connection, home) == (VERSION, side):
        return
    own = f"{quoted(home)}.installation"
    # A newer version keeps the time of the first: what was captured since then is captured still.
    since = await connection.fetchval(f"SELECT min(at) FROM {own}")  # noqa: S608
    await connection.execute(f"DELETE FROM {own}")  # noqa: S608
    await connection.execute(
        f"INSERT INTO {own} (version, side, by, at)"  # noqa: S608
        f" VALUES ({VERSION}, {literal(side)}, {literal(by)}, coalesce($1, clock_timestamp()))",
        since,
    )


def trigger_state(trigger: str, fence: Fence) -> str:
    """The state that a trigger of crossfade's has in the catalog while the fence stands at `fence`."""
    if trigger == REFUSE_AUTHORS and not fence.refuses_authors:
        return DISABLED
    if trigger == REFUSE_FOLLOWERS and not fence.refuses_followers:
        return DISABLED
    return ALWAYS


async def _record(connection: Connection, home: str, model: str) -> Record:
    """A model's record, held so that no move begins before this transaction has ended."""
    row = await connection.fetchrow(
        f"SELECT stage, moving_to, final, forced FROM {quoted(home)}.record WHERE model = $1 FOR SHARE",  # noqa: S608
        model,
    )
    if row is None:
        return Record(model)
    moving_to = row["moving_to"] and Stage(row["moving_to"])
    return Record(model, Stage(row["stage"]), moving_to, final=row["final"], forced=row["forced"])


async def _one_at_a_time(connection: Connection) -> None:
    await connection.execute(f"SELECT pg_advisory_xact_lock({Turn.INSTALL:d})")


async def _lock(connection: Connection, names: Sequence[str], mode: str) -> None:
    """Lock tables in one mode. Whoever writes to the first waits for the last, so all share one patience."""
    until = time.monotonic() + LOCK_TIMEOUT
    for name in names:
        patience = max(1, round((until - time.monotonic()) * 1000))
        await connection.execute(f"SET LOCAL lock_timeout = '{patience}ms'")
        await connection.execute(f"LOCK TABLE ONLY {name} IN {mode} MODE")


# --- and back ----------------------------------------------------------------------------------------------------


async def uninstall(store: Store, *, force: bool = False, deadline: float = DEADLINE) -> list[Done]:
    """Remove everything that `install` has put there, from whatever tables have it.

    Args:
        store: where.
        force: whether to do so although models are under way.
        deadline: how many seconds to try to get every lock.

    Returns:
        What was removed, table by table; nothing if crossfade was not installed.

    Raises:
        InstallError: a model has left `off`, and nothing was changed; or a table stayed locked.
        StoreUnavailableError: the database does not answer.
    """
    if not force:
        await check_unused(store)
    async with store.transaction() as connection:
        found = await own_triggers(connection, store.home)
    done: list[Done] = []
    for target, _ in found:

        async def clear(connection: Connection, target: str = target) -> tuple[str, ...]:
            return await uninstall_table(connection, store.home, target)

        done.append(Done("", target, await in_locked_transaction(store, clear, deadline=deadline)))

    async def drop(connection: Connection) -> tuple[str, ...]:
        return await uninstall_core(connection, store.home)

    return [*done, Done("", "", await in_locked_transaction(store, drop, deadline=deadline))]


async def check_unused(store: Store) -> None:
    """Return if no model has left `off` or all that have are final, and no table lacks an index of its own.

    Raises:
        InstallError: some have, or one does.
    """
    async with store.transaction() as connection:
        under_way = await models_under_way(connection, store.home)
        taken_off = await _taken_off(connection, store.home)
    if taken_off:
        raise InstallError(
            store.where,
            f"{', '.join(taken_off)} lack what a backfill has taken off, and only crossfade knows it; put it back with"
            " `crossfade backfill --restore-indexes` first, or use --force",
        )
    if under_way:
        raise InstallError(
            store.where,
            f"{', '.join(under_way)} left `off`; take every model back to it first, or use --force",
        )


async def models_under_way(connection: Connection, home: str) -> list[str]:
    """The models that are neither at `off` nor final."""
    record = f"{quoted(home)}.record"
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", record):
        return []
    rows = await connection.fetch(
        f"SELECT model FROM {record} WHERE NOT final AND (stage <> 'off' OR moving_to IS NOT NULL) ORDER BY model"  # noqa: S608
    )
    return [row["model"] for row in rows]


async def _taken_off(connection: Connection, home: str) -> list[str]:
    """The tables without some of their indexes or foreign keys, by model."""
    deferred = f"{quoted(home)}.deferred"
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", deferred):
        return []
    rows = await connection.fetch(f"SELECT DISTINCT model FROM {deferred} WHERE restored IS NULL ORDER BY 1")  # noqa: S608
    return [row["model"] for row in rows]


async def uninstall_table(connection: Connection, home: str, target: str) -> tuple[str, ...]:
    """Remove every trigger of crossfade's from one table."""
    await _one_at_a_time(connection)
    names = dict(await own_triggers(connection, home)).get(target, [])
    for name in names:
        await connection.execute(f"DROP TRIGGER {name} ON {target}")
    return ("capture and fence removed",) if names else ()


async def uninstall_core(connection: Connection, home: str) -> tuple[str, ...]:
    """Remove the schema with everything in it."""
    await _one_at_a_time(connection)
    if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", quoted(home)):
        return ()
    for statement in drop_core(home):
        await connection.execute(statement)
    return (f"schema {home} removed",)
