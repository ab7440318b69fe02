"""Rows that have got another key: the follower's get the same one.

To the authority it is the row that it was, and what refers to it has followed. If the follower's row were deleted under
its old key instead, the foreign keys would do to others what nobody has asked for, rows among them over which this very
store has the authority.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

import asyncpg

from crossfade.reconcile.findings import attempt
from crossfade.reconcile.images import Image, Key
from crossfade.reconcile.pair import Authorities, Pair
from crossfade.reconcile.readable import unreadable
from crossfade.stages import Side
from crossfade.store.tables import Connection

_FOREIGN_KEY = "23503"


class Renames:
    """Carries keys over within one transaction on the store of `follower`; `reading` reads the authority's.

    `enter` takes the table lock of a writer, and says whether it was to be had.
    """

    def __init__(
        self,
        pair: Pair,
        follower: Side,
        authorities: Authorities,
        connection: Connection,
        reading: Connection,
        enter: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._pair = pair
        self._follower = follower
        self._authorities = authorities
        self._connection = connection
        self._reading = reading
        self._enter = enter
        self._noted: dict[str, list[list[Key]]] = {}
        self._held: dict[str, set[Key]] = {}

    async def carry_over(self, model: str) -> Collection[Key]:
        """Give rows of a model the keys that the authority has noted for them.

        Returns:
            The keys, old and new, of rows that cannot have theirs yet: nothing must be done to them now.

        Raises:
            StaleViewError: this store is not the follower.
            ContendedError: a lock was not to be had.
        """
        if self._authorities[model] is not self._follower.other:
            return ()
        if model not in self._held:
            held = self._held[model] = set()
            noted = self._noted[model] = await self._read(model)
            if noted:
                image = self._pair.images[self._follower][model]
                for reference in image.table.references:  # a key may hold another row's, which comes first
                    if reference.model != model and await self._enter(reference.model):
                        await self.carry_over(reference.model)
                await self._rename(image, await self._due(image, noted, held), held)
        return self._held[model]

    async def too_late(self, model: str, keys: Collection[Key]) -> set[Key]:
        """Those of `keys` that rows have got, or had, since the others were carried over."""
        if not keys or self._authorities[model] is not self._follower.other:
            return set()
        fresh = [names for names in await self._read(model) if names not in self._noted.get(model, [])]
        return {key for names in fresh for key in names}.intersection(keys)

    async def _read(self, model: str) -> list[list[Key]]:
        return await self._pair.claims[self._follower.other].renamed(self._reading, model)

    async def _due(self, image: Image, noted: list[list[Key]], held: set[Key]) -> dict[Key, Key]:
        """Which rows of the follower are to get which key; those that somebody else has locked are `held`."""
        keys = sorted({key for names in noted for key in names})
        source = self._pair.images[self._follower.other][image.model]
        images = {self._follower: image, self._follower.other: source}
        connections = {self._follower: self._connection, self._follower.other: self._reading}
        unclear = await unreadable(images, connections, keys, self._follower)
        held.update(key for names in noted if not unclear.keys().isdisjoint(names) for key in names)
        noted = [names for names in noted if unclear.keys().isdisjoint(names)]
        keys = [key for key in keys if key not in held]
        if not keys:
            return {}
        here = await image.lock(self._connection, keys)
        locked = (await image.digests(self._connection, keys, self._follower)).keys() - here.keys()
        there = await source.digests(self._reading, keys, self._follower)
        due: dict[Key, Key] = {}
        for names in noted:
            *earlier, last = names
            if not locked.isdisjoint(names):
                held.update(names)
                continue
            # A key that both stores have belongs to another row, which has got it since.
            mine = [key for key in earlier if key in here and here[key] != there.get(key)]
            if mine and last in there:
                due[mine[-1]] = last
        return {old: new for old, new in due.items() if new not in here or new in due}

    async def _rename(self, image: Image, due: dict[Key, Key], held: set[Key]) -> None:
        while free := [(old, new) for old, new in due.items() if new not in due]:
            for old, _ in free:
                del due[old]
            if await self._attempt(image, free) is None:
                continue
            for pair in free:
                error = await self._attempt(image, [pair])
                if error is not None and error.sqlstate == _FOREIGN_KEY:
                    held.update(pair)  # what its new key refers to has not come yet

    async def _attempt(self, image: Image, pairs: list[tuple[Key, Key]]) -> asyncpg.PostgresError | None:
        return await attempt(self._connection, lambda: image.rename(self._connection, pairs))
