"""Look at suspects until each is the same in both stores, differs for certain, or time is up.

A key with a captured entry in either store is on its way: somebody has touched it, and it has not been verified since.
A key differs for certain if two looks, `settle` apart, show the same difference, and the second finds no entry before
it reads the rows nor after. A difference that is on its way has an entry until it has been levelled. So this one would
have been levelled, and have come again just as it was, within a few milliseconds and without leaving an entry. The
comparison of the piece in which a key was found to be suspect is the first look.

An entry that cannot be settled, because a store refuses the row, stays for ever. When time is up, such a key differs.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import NamedTuple

from crossfade.reconcile.images import Image, across, unnested
from crossfade.reconcile.pair import together
from crossfade.reconcile.settlement import prepare
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.crossing import Crossing
from crossfade.store.ranges import Key
from crossfade.store.tables import Connection
from crossfade.verify.checksums import Seen, Suspects
from crossfade.verify.hashing import Hashing
from crossfade.verify.report import Kind
from crossfade.verify.settings import VerifySettings

_LOCK_TIMEOUT = 5.0
_SHORTEST_PAUSE = 0.05


class Settled(NamedTuple):
    """What suspects turned out to be; those in neither are the same in both stores."""

    differing: dict[Key, Kind]
    in_flight: set[Key]


class Look(NamedTuple):
    """What a key's rows were, in the legacy and the target store, when they were looked at. None: there is no row."""

    rows: tuple[int | str | None, int | str | None]
    at: float
    is_captured: bool
    is_stuck: bool
    """Every entry of it has been tried and cannot be settled."""

    @property
    def kind(self) -> Kind:
        """How it differs."""
        return _kind(*self.rows)


class Settling:
    """Looks at keys of one table.

    Args:
        stores: both.
        crossing: the table.
        towards: the follower: columns that it does not take are not compared.
        images: the table, as the reconciler has it.
        hashing: what both stores agree on; None to compare the rows as they are.
        settings: how long.
        work_off: called to have captured keys settled; it may leave that to others.
    """

    def __init__(
        self,
        stores: Mapping[Side, Store],
        crossing: Crossing,
        towards: Side,
        images: Mapping[Side, Image],
        hashing: Hashing | None,
        settings: VerifySettings,
        work_off: Callable[[], Awaitable[object]],
    ) -> None:
        self._stores = stores
        self._images = images
        self._settings = settings
        self._work_off = work_off
        self._queries = {side: self._query(crossing, towards, side, hashing) for side in Side}

    async def settle(self, suspects: Suspects) -> Settled:
        """Wait until each of these keys has shown what it is, for as long as the settings say."""
        until = monotonic() + self._settings.patience
        seen = {key: look for key, look in suspects.items() if look is not None}
        stuck: set[Key] = set()
        differing: dict[Key, Kind] = {}
        waiting = sorted(suspects)
        while waiting:
            left: list[Key] = []
            captured = False
            stuck.clear()
            for start in range(0, len(waiting), self._settings.look_rows):
                for key, look in (
                    await self._look(waiting[start : start + self._settings.look_rows])
                ).items():
                    if look.rows[0] == look.rows[1]:
                        continue
                    before = seen.get(key)
                    if before is None or before.rows != look.rows:
                        seen[key] = Seen(look.rows, look.at)
                    elif look.at - before.at >= self._settings.settle:
                        if not look.is_captured:
                            differing[key] = look.kind
                            continue
                        if look.is_stuck:
                            stuck.add(key)
                    captured |= look.is_captured
                    left.append(key)
            waiting = left
            if not waiting or monotonic() >= until:
                break
            oldest = min(seen[key].at for key in waiting)
            await asyncio.sleep(max(_SHORTEST_PAUSE, oldest + self._settings.settle - monotonic()))
            if (
                captured
            ):  # right before they are looked at, for the sake of those that are written all the time
                await self._work_off()
        found = {key: _kind(*seen[key].rows) for key in waiting if key in stuck}
        return Settled(differing | found, set(waiting) - found.keys())

    async def _look(self, keys: Sequence[Key]) -> dict[Key, Look]:
        at = monotonic()
        (legacy, one), (target, other) = await together(*(self._read(side, keys) for side in Side))
        found = {}
        for key in keys:
            entries = [
                entry
                for noted in (one, other)
                for entry in (noted.get(key), noted.get(None))
                if entry is not None
            ]
            rows = (legacy.get(key), target.get(key))
            found[key] = Look(rows, at, bool(entries), bool(entries) and all(entries))
        return found

    async def _read(
        self, side: Side, keys: Sequence[Key]
    ) -> tuple[dict[Key, int | str], dict[Key | None, bool]]:
        """What each row is compared by, and whether all entries of a key are stuck; of all keys: None."""
        async with self._stores[side].transaction() as connection:
            # Each of these statements has a snapshot of its own.
            before = await self._entries(connection, side, keys)
            await prepare(connection, _LOCK_TIMEOUT)
            rows = await connection.fetch(self._queries[side], *across(keys))
            after = await self._entries(connection, side, keys)
        noted = {key: before.get(key, True) and after.get(key, True) for key in before.keys() | after.keys()}
        return {keys[n - 1]: hash_ for n, hash_ in rows}, noted

    async def _entries(
        self, connection: Connection, side: Side, keys: Sequence[Key]
    ) -> dict[Key | None, bool]:
        image = self._images[side]
        columns = ", ".join(f"k.c{n}" for n in range(len(image.key)))
        # Nothing but the hashed list of keys will do, whatever the statistics of a queue make the planner believe.
        rows = await connection.fetch(
            "SELECT c.key, bool_and(c.problem IS NOT NULL) AS stuck"
            f" FROM {self._stores[side].own('change')} c WHERE c.model = $1 AND (c.key IS NULL OR c.key IN"
            f" (SELECT ARRAY[{columns}] FROM {unnested(len(image.key), start=2)})) GROUP BY c.key",
            image.model,
            *across([image.noted(key) for key in keys]),
        )
        return {None if row["key"] is None else image.key_of(row["key"]): row["stuck"] for row in rows}

    def _query(self, crossing: Crossing, towards: Side, side: Side, hashing: Hashing | None) -> str:
        compared = (
            crossing.image(side, towards=towards)
            if hashing is None
            else hashing.of_row(crossing, side, towards)
        )
        image = self._images[side]
        return (
            f"SELECT k.n, {compared} FROM {unnested(len(image.key))}"
            f" JOIN {crossing.tables[side].quoted} t ON {image.joined()}"
        )


def _kind(legacy: int | str | None, target: int | str | None) -> Kind:
    if target is None:
        return Kind.MISSING
    return Kind.EXTRA if legacy is None else Kind.DIFFERENT
