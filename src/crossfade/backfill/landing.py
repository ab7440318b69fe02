"""Look whether rows were deleted while they were being copied: the check that a chunk owes after it has landed.

The keys of the chunk's range are read anew in both stores, as counts and sums by the hash of the key, and one by one
only where these differ. A key that is in the target and not in the legacy store is noted to be verified.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; bounds are quoted constants
from __future__ import annotations

from collections.abc import Iterator, Mapping

from crossfade.backfill.copying import ring
from crossfade.reconcile.pair import together
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.crossing import Crossing
from crossfade.store.ranges import Key, KeyRange, within
from crossfade.store.tables import Connection, quoted

_BUCKETS = 1024
_AT_ONCE = 20_000
"""How many keys of either store are looked at one by one at the same time."""


async def check(
    crossing: Crossing, legacy: Connection, target: Connection, store: Store, range_: KeyRange
) -> int:
    """Note the keys of a range that only the target has; return how many.

    `legacy` must be a transaction that sees what is committed when each statement begins, and the chunk must have been
    committed before the first one; `target` is the transaction that notes them.
    """
    here, there = await together(
        _sums(crossing, Side.PRISMA, legacy, range_), _sums(crossing, Side.SQLALCHEMY, target, range_)
    )
    noted = 0
    for buckets in _slices(here, there):
        known, landed = await together(
            _keys(crossing, Side.PRISMA, legacy, range_, buckets),
            _keys(crossing, Side.SQLALCHEMY, target, range_, buckets),
        )
        extra = sorted(landed - known)
        if extra:
            await _note(crossing, target, store, extra)
            noted += len(extra)
    if noted:
        await ring(target)
    return noted


async def note(
    crossing: Crossing, legacy: Connection, target: Connection, store: Store, range_: KeyRange
) -> int:
    """Note every key of a range that the legacy store has, to be verified; return how many."""
    rows = await legacy.fetch(
        f"SELECT {crossing.key_texts(Side.PRISMA)} AS key FROM {crossing.tables[Side.PRISMA].quoted} t"
        f" WHERE {within(crossing, Side.PRISMA, range_)}"
    )
    keys = [tuple(row["key"]) for row in rows]
    if keys:
        await _note(crossing, target, store, keys)
        await ring(target)
    return len(keys)


async def _sums(
    crossing: Crossing, side: Side, connection: Connection, range_: KeyRange
) -> dict[int, tuple[int, object]]:
    rows = await connection.fetch(
        f"SELECT h & {_BUCKETS - 1} AS bucket, count(*) AS keys, sum(h) AS hash"
        f" FROM (SELECT {_hash(crossing, side)} AS h FROM {crossing.tables[side].quoted} t"
        f" WHERE {within(crossing, side, range_)}) k GROUP BY 1"
    )
    return {row["bucket"]: (row["keys"], row["hash"]) for row in rows}


async def _keys(
    crossing: Crossing, side: Side, connection: Connection, range_: KeyRange, buckets: list[int]
) -> set[Key]:
    rows = await connection.fetch(
        f"SELECT {crossing.key_texts(side)} AS key FROM {crossing.tables[side].quoted} t"
        f" WHERE {within(crossing, side, range_)} AND {_hash(crossing, side)} & {_BUCKETS - 1} = ANY($1)",
        buckets,
    )
    return {tuple(row["key"]) for row in rows}


def _slices(
    legacy: Mapping[int, tuple[int, object]], target: Mapping[int, tuple[int, object]]
) -> Iterator[list[int]]:
    """The buckets that differ and of which the target has anything, a bounded number of keys at a time."""
    found: list[int] = []
    keys = 0
    for bucket, held in target.items():
        if held == legacy.get(bucket):
            continue
        found.append(bucket)
        keys += held[0]
        if keys >= _AT_ONCE:
            yield found
            found, keys = [], 0
    if found:
        yield found


async def _note(crossing: Crossing, target: Connection, store: Store, keys: list[Key]) -> None:
    """Note keys as capture would: in the order of the target table's own key."""
    names, own = crossing.keys[Side.SQLALCHEMY], crossing.tables[Side.SQLALCHEMY].key
    places = [names.index(name) for name in own]
    columns = [[key[place] for key in keys] for place in places]
    arrays = ", ".join(f"${n + 2}::text[]" for n in range(len(columns)))
    texts = ", ".join(f"c{n}" for n in range(len(columns)))
    await target.execute(
        f"INSERT INTO {store.own('change')} (model, key, op) SELECT $1, ARRAY[{texts}], 'V'"
        f" FROM unnest({arrays}) AS k({texts})",
        crossing.model,
        *columns,
    )


def _hash(crossing: Crossing, side: Side) -> str:
    names = crossing.keys[side]
    text = f"t.{quoted(names[0])}::text" if len(names) == 1 else f"{crossing.key_texts(side)}::text"
    return f'hashtextextended({text} COLLATE "C", 0)'
