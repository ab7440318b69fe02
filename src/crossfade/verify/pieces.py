"""A table in pieces: conditions that say the same in both stores, in an order that a later run can go on in.

Where both stores sort the key alike, a piece is a range of keys. Its bounds are not counted off but taken from a sample
of the legacy table's pages, which costs next to nothing; how many rows lie in a range does not matter much, and the
last one is open, so none is left out.

Elsewhere a piece is what has a certain hash of the key: each piece reads the whole table, but takes the image of its
own rows alone. The same is done for a table that is larger than the server's memory and lies in another order than its
key's: a range of it would be fetched row by row from everywhere.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; bounds are quoted constants
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import NamedTuple, Protocol

from crossfade.stages import Side
from crossfade.store.crossing import Crossing
from crossfade.store.ranges import Key, KeyRange, have_same_order, in_order, within
from crossfade.store.tables import Connection, quoted
from crossfade.verify.hashing import Hashing

_SAMPLED_PAGES = 400
_MOST_SAMPLED_PAGES = 5_000
_MOST_BOUNDS = 20_000
_STEPS = 5
"""How many steps between two bounds the first pieces have; so much finer can pieces become."""
_SCATTERED = 0.5
"""The correlation of key and place below which a table lies in another order than its key's."""
_BUCKET_BITS = 24
"""How far to the left of the bits that choose a piece those are that choose a bucket in it."""


class Way(StrEnum):
    """How a table is divided."""

    RANGES = "ranges"
    HASHES = "hashes"


END: tuple[str, ...] = ()
"""What is noted when the last range is done, whose end is open."""


class Piece(NamedTuple):
    """Some rows of a table: the condition in each store, and what is noted when they are done."""

    where: Mapping[Side, str]
    last: tuple[str, ...]
    buckets: int


@dataclass(frozen=True, slots=True)
class Size:
    """What the catalog knows of a table; `rows` is an estimate."""

    pages: int
    rows: int
    correlation: float
    cache_pages: int


class Pieces(Protocol):
    """What is left of a table to be compared."""

    def take(self, rows: int) -> Piece | None:
        """The next piece, of about so many rows; None when there are no more."""

    def sample(self, share: float, random: Random) -> None:
        """Leave out all but a share of what is left; one piece at least is kept."""


class Ranges:
    """Pieces between bounds, a number of steps each."""

    def __init__(self, crossing: Crossing, after: Key | None, bounds: Sequence[Key], step: int) -> None:
        self._crossing = crossing
        # A step each; only what lies behind the end has none.
        starts = [] if after == END else [after, *bounds]
        ends: list[Key | None] = [] if after == END else [*bounds, None]
        self._ranges = [KeyRange(one, other) for one, other in zip(starts, ends, strict=True)]
        self._step = step
        self._next = 0
        self._is_whole = True

    def sample(self, share: float, random: Random) -> None:
        """Keep a share of the steps."""
        if not self._ranges:
            return
        kept = random.sample(range(len(self._ranges)), max(1, round(share * len(self._ranges))))
        self._ranges = [self._ranges[n] for n in sorted(kept)]
        self._is_whole = False

    def take(self, rows: int) -> Piece | None:
        """The next steps, as long as they follow each other."""
        if self._next >= len(self._ranges):
            return None
        steps = max(1, rows // self._step) if self._is_whole else 1
        taken = self._ranges[self._next : self._next + steps]
        self._next += len(taken)
        range_ = KeyRange(taken[0].after, taken[-1].up_to)
        return Piece(
            {side: within(self._crossing, side, range_) for side in Side}, range_.up_to or END, buckets=256
        )


class Parts:
    """Pieces by the hash of the key. `last` has the number of the part, and of how many."""

    def __init__(
        self, crossing: Crossing, hashing: Hashing, after: Key | None, parts: int, buckets: int
    ) -> None:
        if after is not None:
            parts = int(after[1])
        first = 0 if after is None else int(after[0]) + 1
        self._left = list(range(first, parts))
        self._parts = parts
        self._buckets = buckets
        self._hashes = {side: key_hash(crossing, side, hashing) for side in Side}

    def sample(self, share: float, random: Random) -> None:
        """Keep a share of the parts."""
        if self._left:
            self._left = sorted(random.sample(self._left, max(1, round(share * len(self._left)))))

    def take(self, rows: int) -> Piece | None:
        """The next part; its size is fixed."""
        del rows
        if not self._left:
            return None
        part = self._left.pop(0)
        where = {side: f"({hash_} & {self._parts - 1}) = {part}" for side, hash_ in self._hashes.items()}
        return Piece(where, (str(part), str(self._parts)), self._buckets)


def key_hash(crossing: Crossing, side: Side, hashing: Hashing) -> str:
    """The expression for the hash of a row's key."""
    return hashing.of_key(f"t.{quoted(name)}" for name in crossing.keys[side])


def bucket(crossing: Crossing, side: Side, hashing: Hashing, piece: Piece) -> str:
    """The expression for the bucket of a piece that a row belongs to."""
    return f"(({key_hash(crossing, side, hashing)} >> {_BUCKET_BITS}) & {piece.buckets - 1})"


_SIZE = """
SELECT coalesce(sum(pg_relation_size(p.relid)), 0)::bigint / current_setting('block_size')::bigint AS pages,
       coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint AS rows,
       coalesce((SELECT abs(s.correlation) FROM pg_stats s
                 WHERE s.schemaname = $2 AND s.tablename = $3 AND s.attname = $4 LIMIT 1), 1)::float8 AS correlation,
       (SELECT setting::bigint FROM pg_settings WHERE name = 'effective_cache_size') AS cache_pages
FROM (SELECT relid FROM pg_partition_tree($1::regclass) UNION SELECT $1::regclass) p
JOIN pg_class c ON c.oid = p.relid AND c.relkind <> 'p'
"""


async def measure(connection: Connection, crossing: Crossing, side: Side) -> Size:
    """Ask a store's catalog about a table."""
    table = crossing.tables[side]
    row = await connection.fetchrow(_SIZE, table.quoted, table.schema, table.name, crossing.keys[side][0])
    assert row is not None
    # A table that was never analyzed has rows all the same.
    rows = row["rows"] or row["pages"] * 50
    return Size(row["pages"], rows, row["correlation"], row["cache_pages"])


async def choose(crossing: Crossing, legacy: Connection, target: Connection) -> tuple[Way, Size]:
    """How to divide a table, and how large it is in the legacy store."""
    sizes = {
        side: await measure(connection, crossing, side)
        for side, connection in ((Side.PRISMA, legacy), (Side.SQLALCHEMY, target))
    }
    scattered = any(
        size.correlation < _SCATTERED and size.pages > size.cache_pages for size in sizes.values()
    )
    alike = await have_same_order(crossing, legacy, target)
    return (Way.RANGES if alike and not scattered else Way.HASHES), sizes[Side.PRISMA]


async def cut_by_ranges(
    legacy: Connection, crossing: Crossing, size: Size, after: Key | None, *, rows: int, seed: int
) -> Ranges:
    """Divide what lies behind `after` into steps, several of which make a piece of `rows` rows."""
    if after == END:
        return Ranges(crossing, after, [], 1)
    step = max(1, rows // _STEPS, size.rows // _MOST_BOUNDS)
    pages = min(max(_SAMPLED_PAGES, size.pages // 100), _MOST_SAMPLED_PAGES)
    share = min(1.0, pages / max(1, size.pages))
    table = crossing.tables[Side.PRISMA].quoted
    sampled = f"TABLESAMPLE SYSTEM ({share * 100:.6f}) REPEATABLE ({seed})" if share < 1 else ""
    found = await legacy.fetch(
        f"SELECT s.key FROM (SELECT {crossing.key_texts(Side.PRISMA)} AS key,"
        f" row_number() OVER (ORDER BY {in_order(crossing, Side.PRISMA)}) AS n FROM {table} t {sampled}"
        f" WHERE {within(crossing, Side.PRISMA, KeyRange(after))}) s WHERE s.n % $1 = 0 ORDER BY s.n",
        max(1, round(step * share)),
    )
    # Behind the last one are fewer rows than a step has: they go with the step before.
    return Ranges(crossing, after, [tuple(row["key"]) for row in found[:-1]], step)


def cut_by_hashes(crossing: Crossing, hashing: Hashing, size: Size, after: Key | None, *, rows: int) -> Parts:
    """Divide a table into parts of about `rows` rows, what is behind the part that `after` names."""
    parts = _power_of_two(size.rows / rows)
    buckets = min(65_536, max(256, _power_of_two(size.rows / parts / 200)))
    return Parts(crossing, hashing, after, parts, buckets)


def _power_of_two(least: float) -> int:
    power = 1
    while power < least:
        power *= 2
    return power
