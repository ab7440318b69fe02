"""Ranges of a table's key, by which a large table is worked through in pieces.

A range begins after one key and ends with another, in the order of the key's own index; either end may be open. Keys
are texts here, as everywhere. Bounds stand in the SQL as constants, so that they can be used in COPY as well.

Two stores agree on what lies in a range only if both sort the key alike. Numbers, times and UUIDs are sorted alike
everywhere; texts by the rules of a collation, which belongs to a server's system, and enums by the order in which
their labels were declared. `have_same_order` finds out.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; bounds are quoted constants
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from crossfade.stages import Side
from crossfade.store.columns import base_type, from_text
from crossfade.store.crossing import Crossing
from crossfade.store.tables import Connection, literal, quoted

Key: TypeAlias = tuple[str, ...]

_SORTED_ALIKE = frozenset(
    {
        "uuid", "smallint", "integer", "bigint", "numeric", "real", "double precision", "boolean", "bytea", "date",
        "interval", "timestamp without time zone", "timestamp with time zone", "time without time zone", "inet", "cidr",
    }
)  # fmt: skip


class KeyRange(NamedTuple):
    """The keys after `after` up to and including `up_to`; None is an open end."""

    after: Key | None = None
    up_to: Key | None = None


def within(crossing: Crossing, side: Side, range_: KeyRange, alias: str = "t") -> str:
    """The condition that a row of one store lies in a range."""
    parts = []
    if range_.after is not None:
        parts.append(f"{_key(crossing, side, alias)} > {_bound(crossing, side, range_.after)}")
    if range_.up_to is not None:
        parts.append(f"{_key(crossing, side, alias)} <= {_bound(crossing, side, range_.up_to)}")
    return " AND ".join(parts) or "true"


def in_order(crossing: Crossing, side: Side, alias: str = "t") -> str:
    """The list of the key's columns, for ORDER BY."""
    return ", ".join(f"{alias}.{quoted(name)}" for name in crossing.keys[side])


async def cut(
    connection: Connection, crossing: Crossing, side: Side, after: Key | None, rows: int
) -> Key | None:
    """The key that lies `rows` rows behind `after`, or None where fewer are left: the end of a range of that size."""
    table = crossing.tables[side].quoted
    found = await connection.fetchval(
        f"SELECT {crossing.key_texts(side)} FROM {table} t WHERE {within(crossing, side, KeyRange(after))}"
        f" ORDER BY {in_order(crossing, side)} OFFSET $1 LIMIT 1",
        rows - 1,
    )
    return None if found is None else tuple(found)


async def have_same_order(crossing: Crossing, legacy: Connection, target: Connection) -> bool:
    """Whether both stores sort the key of a model alike."""
    for one, other in zip(
        crossing.key_columns(Side.PRISMA), crossing.key_columns(Side.SQLALCHEMY), strict=True
    ):
        if base_type(one.type) == base_type(other.type) and base_type(one.type) in _SORTED_ALIKE:
            continue
        if base_type(one.type) != base_type(other.type):
            whole = {"smallint", "integer", "bigint"}
            if {base_type(one.type), base_type(other.type)} <= whole:
                continue
            return False
        first = await _rule(legacy, crossing, Side.PRISMA, one.name)
        second = await _rule(target, crossing, Side.SQLALCHEMY, other.name)
        if first != second:
            return False
    return True


_RULE = """
SELECT CASE WHEN t.typtype = 'e' THEN
    (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid)
ELSE (SELECT concat_ws('/', p.provider, p.name, p.version, d.encoding) FROM
    (SELECT to_jsonb(c) AS c, c.oid FROM pg_collation c WHERE c.oid = a.attcollation) col
    CROSS JOIN LATERAL (SELECT to_jsonb(d) AS d, d.encoding FROM pg_database d WHERE d.datname = current_database()) d
    CROSS JOIN LATERAL (SELECT
        CASE WHEN col.c->>'collprovider' = 'd' THEN coalesce(d.d->>'datlocprovider', 'c')
             ELSE col.c->>'collprovider' END AS provider,
        CASE WHEN col.c->>'collprovider' = 'd' THEN
                 coalesce(d.d->>'datlocale', d.d->>'daticulocale', d.d->>'datcollate')
             ELSE coalesce(col.c->>'colllocale', col.c->>'colliculocale', col.c->>'collcollate') END AS name) n
    CROSS JOIN LATERAL (SELECT n.provider, n.name,
        CASE WHEN n.name IN ('C', 'POSIX') THEN 'bytes' ELSE pg_collation_actual_version(col.oid) END AS version) p)
END
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = $1::regclass AND a.attname = $2
"""


async def _rule(connection: Connection, crossing: Crossing, side: Side, column: str) -> str | None:
    """What a column is sorted by, in words that are the same for the same order."""
    rule: str | None = await connection.fetchval(_RULE, crossing.tables[side].quoted, column)
    return rule


def _key(crossing: Crossing, side: Side, alias: str) -> str:
    return _row([f"{alias}.{quoted(name)}" for name in crossing.keys[side]])


def _bound(crossing: Crossing, side: Side, key: Key) -> str:
    columns = crossing.key_columns(side)
    return _row([from_text(column, literal(text)) for column, text in zip(columns, key, strict=True)])


def _row(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"({', '.join(items)})"
