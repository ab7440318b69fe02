"""The sequences behind the columns that a store numbers by itself: read on one side, raised on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from crossfade.store.tables import Connection, StoredTable, quoted


@dataclass(frozen=True, slots=True)
class Numbering:
    """The sequence of one column, and how far it has come."""

    sequence: str
    last: int
    is_called: bool
    step: int
    column: str = ""

    def is_behind(self, other: Numbering) -> bool:
        """Whether this one would give out a number that `other` may have given out."""
        mine = self.last + self.step if self.is_called else self.last
        theirs = other.last + other.step if other.is_called else other.last
        return mine < theirs if self.step > 0 else mine > theirs


_SEQUENCES = """
SELECT a.attname::text AS column, coalesce(
    pg_get_serial_sequence($1, a.attname),
    (SELECT s.oid::regclass::text FROM pg_attrdef d
     JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
          AND p.refclassid = 'pg_class'::regclass
     JOIN pg_class s ON s.oid = p.refobjid AND s.relkind = 'S'
     WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum LIMIT 1)) AS sequence
FROM pg_attribute a WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""


async def read_numberings(
    connection: Connection, tables: Sequence[StoredTable]
) -> dict[tuple[str, str], Numbering]:
    """Return the sequence of every column that has one, by model and the column's legacy name."""
    found: dict[tuple[str, str], Numbering] = {}
    for table in tables:
        for row in await connection.fetch(_SEQUENCES, table.quoted):
            name = row["sequence"]
            if name is None:
                continue
            state = await connection.fetchrow(
                "SELECT last_value, is_called,"  # noqa: S608
                " (SELECT seqincrement FROM pg_sequence WHERE seqrelid = $1::regclass) AS step"
                f" FROM {name}",
                name,
            )
            assert state is not None
            found[table.model, table.legacy_name(row["column"])] = Numbering(
                name, state["last_value"], state["is_called"], state["step"], row["column"]
            )
    return found


async def raise_numberings(
    connection: Connection, tables: Sequence[StoredTable], to: Mapping[tuple[str, str], Numbering]
) -> None:
    """Raise every sequence that is behind the one of the same column in `to`; none is ever lowered."""
    for place, numbering in (await read_numberings(connection, tables)).items():
        wanted = to.get(place)
        if wanted is not None and numbering.is_behind(wanted):
            await connection.execute(
                "SELECT setval($1::regclass, $2, $3)", numbering.sequence, wanted.last, wanted.is_called
            )


async def raise_above_rows(connection: Connection, tables: Sequence[StoredTable]) -> None:
    """Raise every sequence to the numbers that the rows of its table have, where nobody can say how far it was."""
    by_model = {table.model: table for table in tables}
    for (model, _), numbering in (await read_numberings(connection, tables)).items():
        furthest = "max" if numbering.step > 0 else "min"
        last = await connection.fetchval(
            f"SELECT {furthest}({quoted(numbering.column)}) FROM {by_model[model].quoted}"  # noqa: S608
        )
        reached = replace(numbering, last=last, is_called=True) if last else None
        if reached is not None and numbering.is_behind(reached):
            await connection.execute("SELECT setval($1::regclass, $2, true)", numbering.sequence, last)
