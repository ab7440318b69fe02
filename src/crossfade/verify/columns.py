"""Which columns of a row differ."""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

from collections.abc import Mapping, Sequence

from crossfade.reconcile.images import Image, across, unnested
from crossfade.reconcile.pair import together
from crossfade.reconcile.settlement import working
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.crossing import Crossing
from crossfade.store.ranges import Key
from crossfade.verify.hashing import Hashing

_LOCK_TIMEOUT = 5.0


async def differing_columns(
    stores: Mapping[Side, Store],
    crossing: Crossing,
    towards: Side,
    images: Mapping[Side, Image],
    hashing: Hashing | None,
    keys: Sequence[Key],
) -> dict[Key, tuple[str, ...]]:
    """Name the columns in which the rows of these keys differ, as the legacy store names them.

    Columns that the follower, `towards`, does not take are not compared. Without `hashing`, values are compared as they
    are.
    """
    if not keys:
        return {}

    async def read(side: Side) -> dict[Key, Sequence[object]]:
        image = images[side]
        values = ", ".join(
            text if hashing is None else hashing.of(text)
            for text in (f"({column.compared(side)})::text" for column in crossing.reaching(towards))
        )
        async with working(stores[side], _LOCK_TIMEOUT) as connection:
            rows = await connection.fetch(
                f"SELECT k.n, ARRAY[{values}] FROM {unnested(len(image.key))}"
                f" JOIN {crossing.tables[side].quoted} t ON {image.joined()}",
                *across(keys),
            )
        return {keys[n - 1]: found for n, found in rows}

    one, other = await together(*(read(side) for side in Side))
    names = [column.legacy.name for column in crossing.reaching(towards)]
    return {
        key: tuple(name for name, a, b in zip(names, one[key], other[key], strict=True) if a != b)
        for key in one.keys() & other.keys()
    }
