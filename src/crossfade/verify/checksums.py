"""Compare one piece of a table, from the sum of everything down to the keys whose rows differ.

Each store adds up a hash of every row's image, grouped into buckets by a hash of the key: one statement on each side,
both at once. Only of buckets whose sums differ are keys and hashes listed, and only keys come out of that: rows stay in
the databases. A sum of 64-bit hashes is as wide as it has to be, so it cannot overflow, and two different sets of rows
have the same one about as likely as two rows have the same hash.

The two statements do not see the same moment. What was written in between shows up as a suspect, no more.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import NamedTuple, TypeAlias, TypeVar

from crossfade.reconcile.pair import together
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.crossing import Crossing
from crossfade.store.ranges import Key
from crossfade.store.tables import Connection
from crossfade.verify.hashing import Hashing
from crossfade.verify.pieces import Piece, bucket

T = TypeVar("T")
_LISTED_ROWS = 50_000
"""How many rows' keys and hashes are asked for at once."""


class Seen(NamedTuple):
    """What a key's rows are compared by, in the legacy and the target store (None: there is no row), and when."""

    rows: tuple[int | str | None, int | str | None]
    at: float


Suspects: TypeAlias = "dict[Key, Seen | None]"
"""Keys that did not look the same in both stores, and how they looked, if that is known."""


class Compared(NamedTuple):
    """What a piece came to: the legacy store's rows in it, and the keys that do not look the same in both.

    `is_cut` says that not all of it was looked through, since there were too many of them.
    """

    rows: int
    suspects: Suspects
    is_cut: bool = False


class Checksums:
    """Compares pieces of one table.

    Args:
        stores: both.
        crossing: the table.
        towards: the follower: columns that it does not take are not compared.
        hashing: what both stores agree on.
        since: a condition on the rows of each store that are compared at all.
        most: after how many suspects a piece is left.
    """

    def __init__(
        self,
        stores: Mapping[Side, Store],
        crossing: Crossing,
        towards: Side,
        hashing: Hashing,
        *,
        since: Mapping[Side, str] | None = None,
        most: int,
    ) -> None:
        self._stores = stores
        self._crossing = crossing
        self._towards = towards
        self._hashing = hashing
        self._since = since
        self._most = most

    async def compare(self, piece: Piece) -> Compared:
        """Compare a piece by the hashes of its rows."""
        sums = dict(zip(Side, await together(*(self._sums(side, piece) for side in Side)), strict=True))
        legacy, target = sums[Side.PRISMA], sums[Side.SQLALCHEMY]
        rows = sum(count for count, _ in legacy.values())
        differing = {
            number: max(legacy.get(number, _NONE)[0], target.get(number, _NONE)[0])
            for number in legacy.keys() | target.keys()
            if legacy.get(number, _NONE) != target.get(number, _NONE)
        }
        suspects: Suspects = {}
        for buckets in _batches(differing):
            if len(suspects) >= self._most:
                return Compared(rows, suspects, is_cut=True)
            one, other = await together(*(self._hashes(side, piece, buckets) for side in Side))
            now = monotonic()
            suspects |= {key: Seen((one.get(key), other.get(key)), now) for key in _unlike(one, other)}
        return Compared(rows, suspects)

    async def compare_rows(self, piece: Piece) -> Compared:
        """Compare a piece row by row, each as it is."""
        one, other = await together(*(self._images(side, piece) for side in Side))
        return Compared(len(one), dict.fromkeys(_unlike(one, other)))

    async def _sums(self, side: Side, piece: Piece) -> dict[int, tuple[int, str]]:
        query = (
            f"SELECT {bucket(self._crossing, side, self._hashing, piece)}, count(*), sum({self._hash(side)})::text"
            f" FROM {self._source(side, piece)} GROUP BY 1"
        )
        async with scanning(self._stores[side]) as connection:
            return {number: (count, total) for number, count, total in await connection.fetch(query)}

    async def _hashes(self, side: Side, piece: Piece, buckets: list[int]) -> dict[Key, int]:
        query = (
            f"SELECT {self._crossing.key_texts(side)}, {self._hash(side)} FROM {self._source(side, piece)}"
            f" AND {bucket(self._crossing, side, self._hashing, piece)} = ANY ($1::bigint[])"
        )
        async with scanning(self._stores[side]) as connection:
            return {tuple(key): hash_ for key, hash_ in await connection.fetch(query, buckets)}

    async def _images(self, side: Side, piece: Piece) -> dict[Key, str]:
        query = (
            f"SELECT {self._crossing.key_texts(side)}, {self._image(side)} FROM {self._source(side, piece)}"
        )
        async with scanning(self._stores[side]) as connection:
            return {tuple(key): image for key, image in await connection.fetch(query)}

    def _image(self, side: Side) -> str:
        return self._crossing.image(side, towards=self._towards)

    def _hash(self, side: Side) -> str:
        return self._hashing.of_row(self._crossing, side, self._towards)

    def _source(self, side: Side, piece: Piece) -> str:
        since = "" if self._since is None else f" AND {self._since[side]}"
        return f"{self._crossing.tables[side].quoted} t WHERE {piece.where[side]}{since}"


_NONE = (0, "")


@asynccontextmanager
async def scanning(store: Store) -> AsyncIterator[Connection]:
    """A transaction that reads many rows in one go, by one process of the server."""
    async with store.transaction() as connection:
        # Buckets are few: to sort all rows for the sake of them, images included, is what the planner must not do.
        await connection.execute(
            "SELECT set_config('enable_sort', 'off', true), set_config('jit', 'off', true),"
            " set_config('max_parallel_workers_per_gather', '0', true), set_config('statement_timeout', '0', true)"
        )
        yield connection


def _unlike(one: Mapping[Key, T], other: Mapping[Key, T]) -> list[Key]:
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def _batches(counts: Mapping[int, int]) -> Iterator[list[int]]:
    batch: list[int] = []
    rows = 0
    for number in sorted(counts):
        batch.append(number)
        rows += counts[number]
        if rows >= _LISTED_ROWS:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch
