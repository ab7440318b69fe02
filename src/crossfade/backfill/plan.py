"""What a backfill is going to do: which tables in which order, how large they are, and what stands in the way."""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from crossfade.errors import BackfillError, UnknownModelError
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.crossing import Crossing
from crossfade.store.record import Record, effective, read_records
from crossfade.store.tables import Connection, StoredTable


@dataclass(frozen=True, slots=True)
class PlannedTable:
    """One table to be copied. `state` is new, copying, paused or done; `blockers` say what must be done first."""

    model: str
    owner: str
    estimated: int
    size_bytes: int
    state: str
    blockers: tuple[str, ...] = ()


async def plan_tables(
    stores: Mapping[Side, Store], crossings: Mapping[str, Crossing], models: Sequence[str] | None
) -> list[PlannedTable]:
    """Describe the tables of `models`, or of all, in the order in which they are copied.

    Raises:
        UnknownModelError: the schema has no such model.
    """
    legacy, target = stores[Side.PRISMA], stores[Side.SQLALCHEMY]
    chosen = chosen_tables(crossings, models)
    async with legacy.transaction() as connection:
        since = await installed_since(connection, legacy)
        answers = [await read_records(connection, legacy)]
        sizes = {table: await _size(connection, crossings[table].tables[Side.PRISMA]) for table in chosen}
    async with target.transaction() as connection:
        answers.append(await read_records(connection, target))
        states = await _states(connection, target, since)
    records = effective(*answers)
    planned = []
    for model in chosen:
        crossing = crossings[model]
        state = states.get(model, "new")
        blockers = []
        if state != "done":
            blockers += moved(records.get(crossing.owner) or Record(crossing.owner))
            blockers += _missing_parents(crossing, crossings, chosen, states)
        planned.append(PlannedTable(model, crossing.owner, *sizes[model], state, tuple(blockers)))
    return planned


def chosen_tables(crossings: Mapping[str, Crossing], models: Iterable[str] | None) -> list[str]:
    """The tables of `models`, parents before children.

    Raises:
        UnknownModelError: the schema has no such model.
    """
    owners = {crossing.owner for crossing in crossings.values()}
    wanted = owners if models is None else set(models)
    for model in sorted(wanted - owners):
        raise UnknownModelError(model, sorted(owners))
    return [model for model, crossing in crossings.items() if crossing.owner in wanted]


def moved(record: Record) -> list[str]:
    """Why rows of a model can no longer be copied from the legacy store, as its record has it."""
    if record.final or record.authority is not Side.PRISMA:
        return [
            f"it stands at {record.stage}: the target store has the authority, and its rows are the right ones"
        ]
    if record.moving_to is not None:
        return [f"its authority is being moved to {record.moving_to}; wait until it stands still"]
    if record.forced:
        return ["a forced rollback has not been looked through yet"]
    return []


async def installed_since(connection: Connection, store: Store) -> datetime:
    """Since when the writes to a store are captured without a gap."""
    since: datetime = await connection.fetchval(f"SELECT min(at) FROM {store.own('installation')}")
    return since


def parents_of(crossing: Crossing) -> set[str]:
    """The tables to which rows of a table refer in the target, itself aside."""
    return {reference.model for reference in crossing.tables[Side.SQLALCHEMY].references} - {crossing.model}


def _missing_parents(
    crossing: Crossing, crossings: Mapping[str, Crossing], chosen: Sequence[str], states: Mapping[str, str]
) -> list[str]:
    missing = {
        crossings[parent].owner
        for parent in parents_of(crossing)
        if parent not in chosen and states.get(parent) != "done"
    }
    if not missing:
        return []
    names = " ".join(sorted(missing))
    return [
        f"its rows refer to {names}, not backfilled yet: run `crossfade backfill {names} {crossing.owner}`"
    ]


def refuse_blocked(planned: Iterable[PlannedTable]) -> None:
    """Return if nothing stands in the way.

    Raises:
        BackfillError: something does.
    """
    for table in planned:
        if table.blockers:
            raise BackfillError(table.owner, "; ".join(table.blockers))


async def _size(connection: Connection, table: StoredTable) -> tuple[int, int]:
    """Rows as the planner estimates them, and bytes with indexes aside."""
    plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) SELECT FROM {table.quoted}"))
    size = await connection.fetchval(
        "SELECT coalesce(sum(pg_table_size(relid)), 0)::bigint FROM pg_partition_tree($1::regclass)",
        table.quoted,
    )
    if not size:
        size = await connection.fetchval("SELECT pg_table_size($1::regclass)", table.quoted)
    return (int(plan[0]["Plan"]["Plan Rows"]) if size else 0), int(size)


async def _states(connection: Connection, target: Store, since: datetime) -> dict[str, str]:
    rows = await connection.fetch(
        f"SELECT model, CASE WHEN state <> 'done' AND is_paused THEN 'paused' ELSE state END AS state"
        f" FROM {target.own('backfill')} WHERE since = $1",
        since,
    )
    return {row["model"]: row["state"] for row in rows}
