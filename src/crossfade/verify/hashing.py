"""Hashes that both servers agree on: of a text, and of a whole row.

PostgreSQL's own hash functions are several times quicker than any digest. They depend on the processor's byte order and
on the encoding of the database, though; where two servers do not agree, MD5 over UTF-8 takes their place.

A row's hash is that of a record, so that numbers, times and the like need not be spelled out. It hashes what each
column is compared by; a type whose equal values may be written differently (1.5 and 1.50) goes in as text. A record's
hash is a linear combination of its columns' hashes, and a sum over rows would not see two rows that have exchanged a
value. So it is hashed once more; the way over a float keeps 53 bits of it and costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from crossfade.reconcile.pair import together
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.columns import base_type
from crossfade.store.crossing import CrossedColumn, Crossing

_PROBE = """
SELECT hashtextextended('crossfade \u00e4\u6f22' COLLATE "C", 7),
       to_regprocedure('pg_catalog.hash_record_extended(record, bigint)') IS NOT NULL
"""
_TEXTS = frozenset({"text", "character varying"})
_TIMES = frozenset({"timestamp without time zone", "timestamp with time zone"})
_EXACT = frozenset({"smallint", "integer", "bigint", "boolean", "uuid", "bytea", "date", *_TEXTS, *_TIMES})
"""Types whose hash is the same exactly if the value is."""


@dataclass(frozen=True, slots=True)
class Hashing:
    """SQL for 64-bit hashes. `is_own`: PostgreSQL's functions agree; `of_records`: there is one for records."""

    is_own: bool = True
    of_records: bool = True

    def of(self, text: str) -> str:
        """The expression for the hash of a text; null for null."""
        if self.is_own:
            return f'hashtextextended(({text}) COLLATE "C", 0)'
        return f"('x' || left(md5(convert_to({text}, 'UTF8')), 16))::bit(64)::bigint"

    def of_key(self, names: Iterable[str]) -> str:
        """The expression for the hash of a key, of the expressions for its columns."""
        return self.of(" || E'\\x1f' || ".join(f"{name}::text" for name in names))

    def of_row(self, crossing: Crossing, side: Side, towards: Side) -> str:
        """The expression for the hash of all that is compared of a row, if `towards` is the follower."""
        if not (self.is_own and self.of_records):
            return self.of(crossing.image(side, towards=towards))
        values = ", ".join(_hashable(column, side) for column in crossing.reaching(towards))
        return f"hashfloat8extended(hash_record_extended(ROW({values}), 0)::double precision, 0)"


def _hashable(column: CrossedColumn, side: Side) -> str:
    """What of a column goes into a record that is hashed."""
    types = {base_type(column.legacy.type), base_type(column.target.type)}
    compared = column.compared(side)
    if column.conversion is None and (
        (len(types) == 1 and types <= _EXACT and column.legacy.type == column.target.type) or types <= _TIMES
    ):
        return f'{compared} COLLATE "C"' if types <= _TEXTS else compared
    return f'({compared})::text COLLATE "C"'


async def agree(stores: Mapping[Side, Store]) -> Hashing:
    """Find the functions that both servers have in common."""

    async def ask(store: Store) -> tuple[int, bool]:
        async with store.transaction() as connection:
            row = await connection.fetchrow(_PROBE)
            assert row is not None
            return row[0], row[1]

    one, other = await together(*(ask(store) for store in stores.values()))
    return Hashing(is_own=one[0] == other[0], of_records=one[1] and other[1])
