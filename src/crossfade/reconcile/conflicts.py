"""Races that were lost between two authorities: recorded with both images, settled by a named policy.

Two kinds exist, both between a parent that was deleted on the side that has the authority over it and a child that was
written on the side that has the authority over the child:

* `child-of-deleted-parent`, policy `cascade`: the foreign key deletes children with their parents. The child goes, and
  its image is kept here;
* `restricted-parent`, policy `parent-returns`: the foreign key forbids it. The parent returns to the store that had
  deleted it, and nothing is destroyed. If somebody else has one of its unique values by now, that column of the parent
  gets another value (`parent-returns-renamed`).
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

from collections.abc import Mapping

from crossfade.events import ConflictSettled
from crossfade.reconcile.images import Key
from crossfade.reconcile.pair import Authorities, Pair, Spot
from crossfade.stages import Side
from crossfade.store.tables import Connection

ORPHAN = "child-of-deleted-parent"
RESTRICTED = "restricted-parent"
CASCADE = "cascade"
PARENT_RETURNS = "parent-returns"
PARENT_RETURNS_RENAMED = "parent-returns-renamed"


async def record(
    connection: Connection,
    pair: Pair,
    spot: Spot,
    kind: str,
    policy: str,
    authority: Side,
    images: Mapping[Side, str | None],
) -> ConflictSettled:
    """Note a conflict in the store of `authority`, in the transaction that settles it."""
    await connection.execute(
        f"INSERT INTO {pair.stores[authority].own('conflict')}"
        " (model, key, kind, policy, authority, authority_image, follower_image)"
        " VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb)",
        spot.model,
        pair.images[authority][spot.model].noted(spot.key),
        kind,
        policy,
        authority,
        images[authority],
        images[authority.other],
    )
    return ConflictSettled(spot.model, kind, policy)


async def record_orphans(
    connection: Connection,
    reading: Connection,
    pair: Pair,
    side: Side,
    authorities: Authorities,
    falls: Mapping[str, set[Key]],
) -> list[ConflictSettled]:
    """Record the rows of `falls` that the other store has not deleted by the same foreign keys.

    Either it still has them: there they hang on something else. Or it never had them: they were written here, where the
    authority over them is, and not verified since.
    """
    settled = []
    for model, fallen in falls.items():
        if authorities[model] is not side or not fallen:
            continue
        keys = sorted(fallen)
        here = await pair.claims[side].ops(connection, model, keys)
        there = await pair.claims[side.other].ops(reading, model, keys)
        copies = await pair.images[side.other][model].documents(reading, keys)
        lost = [
            key
            for key in keys
            if key in copies or (b"I" in here.get(key, set()) and b"D" not in there.get(key, set()))
        ]
        images = await pair.images[side][model].documents(connection, lost) if lost else {}
        for key in images:  # its own side may have deleted it meanwhile
            both = {side: images.get(key), side.other: copies.get(key)}
            settled.append(await record(connection, pair, Spot(model, key), ORPHAN, CASCADE, side, both))
    return settled
