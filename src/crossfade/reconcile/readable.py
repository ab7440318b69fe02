"""Which rows can be read at all: a value that a mapping cannot convert makes a whole query fail.

Only models that have such columns are asked about, and only there it costs anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crossfade.reconcile.findings import attempt, problem_of
from crossfade.reconcile.images import Image, Key
from crossfade.stages import Side
from crossfade.store.tables import Connection


async def unreadable(
    images: Mapping[Side, Image], connections: Mapping[Side, Connection], keys: Sequence[Key], follower: Side
) -> dict[Key, str]:
    """Say of each key whose row cannot be read, in either store, why not.

    Raises:
        ContendedError: a lock was not to be had.
    """
    found: dict[Key, str] = {}
    if any(image.may_be_unreadable for image in images.values()):
        for side, image in images.items():
            rest = [key for key in keys if key not in found]
            found |= await _unreadable(image, connections[side], rest, follower)
    return found


async def _unreadable(
    image: Image, connection: Connection, keys: list[Key], follower: Side
) -> dict[Key, str]:
    async def read() -> None:
        if image.side is follower:
            await image.digests(connection, keys, follower)
        else:
            await image.rows(connection, keys)

    error = await attempt(connection, read) if keys else None
    if error is None:
        return {}
    if len(keys) == 1:
        return {keys[0]: problem_of(error)}
    half = len(keys) // 2
    first = await _unreadable(image, connection, keys[:half], follower)
    return first | await _unreadable(image, connection, keys[half:], follower)
