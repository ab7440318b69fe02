"""The gate that says whether the new store can go on numbering rows where the old one leaves off.

A hand-over raises the new store's sequences above the old store's by itself. What it cannot do is to make a sequence
that is not there, to raise one that ends sooner, or one that belongs to somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from crossfade.gates.gate import Gate, GateName
from crossfade.store.tables import Connection, StoredTable

_SEQUENCES = """
SELECT t.model, a.attname::text AS column, s.sequence IS NOT NULL AS is_there,
       a.atthasdef OR a.attidentity <> '' AS has_default,
       coalesce(pg_sequence_last_value(s.sequence), q.seqstart) AS last, q.seqmin AS least, q.seqmax AS most,
       q.seqincrement > 0 AS is_rising, has_sequence_privilege(s.sequence, 'UPDATE') AS is_ours
FROM unnest($1::text[], $2::text[]) AS t(model, name)
JOIN pg_attribute a ON a.attrelid = to_regclass(t.name) AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN LATERAL (SELECT coalesce(
    pg_get_serial_sequence(t.name, a.attname)::regclass,
    (SELECT c.oid::regclass FROM pg_attrdef d
     JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
          AND p.refclassid = 'pg_class'::regclass
     JOIN pg_class c ON c.oid = p.refobjid AND c.relkind = 'S'
     WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum LIMIT 1)) AS sequence) s ON true
LEFT JOIN pg_sequence q ON q.seqrelid = s.sequence
"""

Place = tuple[str, str]
"""A model, and a column's name in the legacy store."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """How one column of one store gets its numbers. The rest is 0 where it `is_there` not."""

    is_there: bool
    has_default: bool
    last: int = 0
    least: int = 0
    most: int = 0
    is_rising: bool = True
    is_ours: bool = True


async def read_numbered(connection: Connection, tables: Sequence[StoredTable]) -> dict[Place, Numbered]:
    """Return how every column of `tables` gets its numbers, in one question."""
    by_model = {table.model: table for table in tables}
    rows = await connection.fetch(_SEQUENCES, list(by_model), [table.quoted for table in tables])
    return {(row["model"], by_model[row["model"]].legacy_name(row["column"])): _numbered(row) for row in rows}


def _numbered(row: asyncpg.Record) -> Numbered:
    if not row["is_there"]:
        return Numbered(is_there=False, has_default=row["has_default"])
    names = ("is_there", "has_default", "last", "least", "most", "is_rising", "is_ours")
    return Numbered(**{name: row[name] for name in names})


def sequences(
    model: str, tables: Sequence[StoredTable], old: Mapping[Place, Numbered], new: Mapping[Place, Numbered]
) -> Gate:
    """Whether every column of a model's `tables` that the old store numbers can be numbered on by the new one."""
    own = {table.model for table in tables}
    wanted = {place: numbered for place, numbered in old.items() if place[0] in own and numbered.is_there}
    faults = [
        f"{'.'.join(place)} {fault}"
        for place, numbered in sorted(wanted.items())
        if (fault := _fault(numbered, new.get(place)))
    ]
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        remedy = "give the new store's column a sequence that can go on from there, owned by crossfade's role"
        return Gate(model, GateName.SEQUENCES, f"{faults[0]}{more}", remedy, float(len(faults)))
    figure = (
        f"{len(wanted)} numbered column{'' if len(wanted) == 1 else 's'}, raised as the authority moves"
        if wanted
        else "no column is numbered by the old store"
    )
    return Gate(model, GateName.SEQUENCES, figure, "", 0.0)


def _fault(old: Numbered, new: Numbered | None) -> str:
    if new is None:
        return ""  # a column that the target does not have is the mapping's affair
    if not new.is_there:
        return "" if new.has_default else "is numbered by the old store and has no sequence in the new one"
    if new.is_rising is not old.is_rising:
        return "is numbered upwards by one store and downwards by the other"
    if old.last > new.most if new.is_rising else old.last < new.least:
        return f"has come to {old.last:,}, and the new store's sequence ends before that"
    if not new.is_ours:
        return "has a sequence in the new store that crossfade's role may not raise"
    return ""
