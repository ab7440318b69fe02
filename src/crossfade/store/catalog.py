"""What the catalog of a store says of crossfade's objects, so that they can be compared with what they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crossfade.store.tables import Connection, quoted
from crossfade.store.triggers import Function, Trigger

ALWAYS, DISABLED = "A", "D"
"""Two of the values of `pg_trigger.tgenabled`."""

_TRIGGERS = """
SELECT w.target, t.tgname::text AS name, t.tgenabled::text AS enabled, n.nspname::text AS home,
       t.tgtype::int AS kind, p.proname::text AS function, t.tgoldtable::text AS old, t.tgnewtable::text AS new,
       t.tgqual IS NOT NULL AS has_condition, encode(t.tgargs, 'hex') AS arguments
FROM unnest($1::text[]) AS w(target)
JOIN pg_trigger t ON t.tgrelid = w.target::regclass
JOIN pg_proc p ON p.oid = t.tgfoid
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE NOT t.tgisinternal AND starts_with(t.tgname::text, 'crossfade_')
"""
_FUNCTIONS = """
SELECT p.proname::text AS name, p.prosrc AS body, p.prosecdef AS is_definer,
       coalesce(cardinality(p.proconfig), 0) AS settings
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = $1 AND p.pronargs = 0
"""
_VERSION = "SELECT to_regclass($1) IS NOT NULL"
_OWN_TRIGGERS = """
SELECT c.oid::regclass::text AS target, array_agg(quote_ident(t.tgname) ORDER BY t.tgname) AS names
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = $1 AND NOT t.tgisinternal AND c.relnamespace <> n.oid
GROUP BY c.oid ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class FoundTrigger:
    """A trigger as it is: the schema of its function, its state, and what identifies it."""

    home: str
    enabled: str
    identity: tuple[object, ...]

    def is_intact(self, home: str, trigger: Trigger) -> bool:
        """Whether this is `trigger` of `home`, in whatever state."""
        return self.home == home and self.identity == trigger.identity


async def find_triggers(
    connection: Connection, targets: Sequence[str]
) -> Mapping[tuple[str, str], FoundTrigger]:
    """Crossfade's triggers on `targets` (names for SQL, which must exist), by target and name."""
    rows = await connection.fetch(_TRIGGERS, list(targets))
    return {
        (row["target"], row["name"]): FoundTrigger(
            row["home"],
            row["enabled"],
            (
                row["kind"],
                row["function"],
                row["old"],
                row["new"],
                row["has_condition"],
                bytes.fromhex(row["arguments"]),
            ),
        )
        for row in rows
    }


async def outdated(connection: Connection, home: str, functions: Sequence[Function]) -> list[Function]:
    """Those of `functions` that are missing in `home` or differ from what they should be."""
    rows = {row["name"]: row for row in await connection.fetch(_FUNCTIONS, home)}
    return [
        function
        for function in functions
        if (row := rows.get(function.name)) is None
        or (row["body"], row["is_definer"], row["settings"])
        != (function.body, function.is_definer, len(function.settings))
    ]


async def own_triggers(connection: Connection, home: str) -> list[tuple[str, list[str]]]:
    """Every table that has triggers of `home`, and their names, whatever has become of either."""
    return [(row["target"], list(row["names"])) for row in await connection.fetch(_OWN_TRIGGERS, home)]


async def installation(connection: Connection, home: str) -> tuple[int, str] | None:
    """The version of the objects in `home` and the side that they were made for; None if they are not complete."""
    table = f"{quoted(home)}.installation"
    if not await connection.fetchval(_VERSION, table):
        return None
    row = await connection.fetchrow(f"SELECT version, side FROM {table} ORDER BY version DESC LIMIT 1")  # noqa: S608
    return None if row is None else (row["version"], row["side"])
