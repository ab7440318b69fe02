"""What capture and fence of a store do not see or refuse at the moment, so that nothing relies on them blindly.

Everything here is answered from the catalog in a few queries and takes no lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from crossfade.stages import Side
from crossfade.store.catalog import ALWAYS, FoundTrigger, find_triggers, installation, outdated
from crossfade.store.install import FENCE_TRIGGERS, trigger_state
from crossfade.store.objects import VERSION
from crossfade.store.record import Record, read_records
from crossfade.store.refusals import unseen
from crossfade.store.store import Store
from crossfade.store.tables import Connection, StoredTable
from crossfade.store.triggers import (
    FENCE_FUNCTIONS,
    Trigger,
    capture_function,
    capture_triggers,
    fence_triggers,
)

_TARGETS = """
SELECT w.model, w.name, to_regclass(w.name) IS NOT NULL AS is_there,
       ARRAY(SELECT format('%I.%I', n.nspname, c.relname)
             FROM pg_partition_tree(to_regclass(w.name)) p JOIN pg_class c ON c.oid = p.relid
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.level > 0 ORDER BY 1) AS partitions
FROM unnest($1::text[], $2::text[]) AS w(model, name)
"""
_REMEDY = "run `crossfade install`"


async def installed_problems(store: Store, models: Collection[str] | None = None) -> list[str]:
    """Say of everything that is missing, disabled or beyond the triggers' sight what it is; empty when all is well.

    Args:
        store: where.
        models: whose tables are looked at, those that they own included; all by default.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    async with store.transaction() as connection:
        present = await installation(connection, store.home)
        if present is None:
            return [f"crossfade is not installed, or not completely; {_REMEDY}"]
        if present[0] != VERSION:
            return [f"it has version {present[0]} of crossfade's objects instead of {VERSION}; {_REMEDY}"]
        before = await read_records(connection, store)
        final = {model for model, record in before.items() if record.final}
        tables = [
            table
            for table in store.tables
            if table.owner not in final and (models is None or table.owner in models)
        ]
        places, problems = await _places(connection, tables)
        found = await find_triggers(connection, [target for names in places.values() for target in names])
        after = await read_records(connection, store)
        for table in tables:
            record = before.get(table.owner)
            # While a fence moves, the record moves with it; then there is no telling how it should stand.
            at_rest = record is not None and record == after.get(table.owner) and record.moving_to is None
            problems += _of_table(
                store.home, store.side, table, places.get(table.model, []), found, record if at_rest else None
            )
        functions = [capture_function(store.home, table) for table in tables]
        for function in await outdated(connection, store.home, [*FENCE_FUNCTIONS, *functions]):
            problems.append(
                f"the function {store.home}.{function.name} has been changed or dropped; {_REMEDY}"
            )
        problems += await unseen(connection, [target for names in places.values() for target in names])
    return problems


async def _places(
    connection: Connection, tables: list[StoredTable]
) -> tuple[dict[str, list[str]], list[str]]:
    """Where each table takes writes now, partitions that came later included; and the tables that are gone."""
    rows = await connection.fetch(
        _TARGETS, [table.model for table in tables], [table.quoted for table in tables]
    )
    places = {row["model"]: [row["name"], *row["partitions"]] for row in rows if row["is_there"]}
    return places, [f"{row['name']} of {row['model']} is gone" for row in rows if not row["is_there"]]


def _of_table(
    home: str,
    side: Side,
    table: StoredTable,
    places: list[str],
    found: Mapping[tuple[str, str], FoundTrigger],
    record: Record | None,
) -> list[str]:
    problems = []
    for target in places:
        triggers = [*capture_triggers(table), *fence_triggers(table)]
        absent = [trigger for trigger in triggers if (target, trigger.name) not in found]
        if len(absent) == len(triggers):
            problems.append(
                f"{target} of {table.model} has no triggers, so its writes are not seen; {_REMEDY}"
            )
            continue
        for trigger in triggers:
            fault = _fault(home, side, trigger, found.get((target, trigger.name)), record)
            if fault:
                problems.append(f"{target} of {table.model}: the trigger {trigger.name} {fault}; {_REMEDY}")
    return problems


def _fault(
    home: str, side: Side, trigger: Trigger, found: FoundTrigger | None, record: Record | None
) -> str | None:
    if found is None:
        return "is missing"
    if not found.is_intact(home, trigger):
        return "is not the one that was installed"
    if trigger.name not in FENCE_TRIGGERS:
        return None if found.enabled == ALWAYS else _STATES[found.enabled]
    if found.enabled in "OR":
        return _STATES[found.enabled]
    if record is not None and found.enabled != trigger_state(trigger.name, record.fence(side)):
        return (
            f"is {'enabled' if found.enabled == ALWAYS else 'disabled'}, against the record ({record.stage})"
        )
    return None


_STATES: Mapping[str, str] = {
    "D": "is disabled",
    "O": "is not enabled ALWAYS, so a session in the role of a replica passes it by",
    "R": "is enabled for replicas alone",
}
