"""One pass: claim what is due in both stores, compare, repair, and give the entries up or put them off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, MutableMapping, MutableSet, Sequence
from dataclasses import dataclass, field
from time import monotonic

import asyncpg

from crossfade.reconcile.claims import Entry
from crossfade.reconcile.findings import Findings, StaleViewError, attempt, problem_of
from crossfade.reconcile.images import Image, Key
from crossfade.reconcile.pair import Authorities, Pair, Spot, together
from crossfade.reconcile.settings import ReconcileSettings
from crossfade.reconcile.settlement import Settlement, working
from crossfade.stages import Side
from crossfade.store.tables import Connection


class UnreadableError(Exception):
    """A row of `model` cannot be read by a key that was noted; the pass must be done anew, with care."""

    def __init__(self, model: str) -> None:
        self.model = model
        super().__init__(model)


@dataclass(slots=True)
class Memory:
    """What one pass remembers for the next."""

    restless: MutableMapping[Spot, float] = field(default_factory=dict)
    """Since when the repair of a key has been left to its newer entries."""
    careful: MutableSet[str] = field(default_factory=set)
    """Models of which some key cannot be read."""


@dataclass(slots=True)
class PassResult:
    """What one pass came to: entries `taken` in hand, and how many of them are gone."""

    taken: int = 0
    settled: int = 0
    full: bool = False
    is_stale: bool = False
    findings: Findings = field(default_factory=Findings)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)


class Pass:
    """Looks at captured entries once, by one view of who has the authority."""

    def __init__(
        self, pair: Pair, authorities: Authorities, settings: ReconcileSettings, memory: Memory
    ) -> None:
        self._pair = pair
        self._authorities = authorities
        self._settings = settings
        self._memory = memory
        self._problems: dict[Spot, str] = {}

    async def run(
        self, models: Sequence[str], *, limit: int, settle: float, put_off_too: bool = False
    ) -> PassResult:
        """Take up to `limit` entries of each model and store in hand.

        Raises:
            UnreadableError: a noted key is none for one of the stores; nothing was done.
        """
        result = PassResult()
        models = [model for model in models if self._authorities[model] is not None]
        lock_timeout = self._settings.lock_timeout
        stores = self._pair.stores
        if not models:
            return result
        async with (
            working(stores[Side.PRISMA], lock_timeout) as legacy,
            working(stores[Side.SQLALCHEMY], lock_timeout) as target,
        ):
            connections = {Side.PRISMA: legacy, Side.SQLALCHEMY: target}
            claimed = await together(
                *(
                    self._pair.claims[side].claim(connection, models, limit, settle, put_off_too=put_off_too)
                    for side, connection in connections.items()
                )
            )
            entries = [entry for found in claimed for entry in found]
            result.taken = len(entries)
            result.full = (
                max(Counter((entry.side, entry.model) for entry in entries).values(), default=0) >= limit
            )
            if entries:
                done = await self._verify(connections, entries, settle, result)
                await self._give_up(connections, entries, done)
                result.settled = len(done)
        return result

    async def _verify(
        self,
        connections: Mapping[Side, Connection],
        entries: Sequence[Entry],
        settle: float,
        result: PassResult,
    ) -> set[Entry]:
        """Return the entries that need not be looked at again."""
        done: set[Entry] = set()
        keys: dict[str, dict[Key, list[Entry]]] = {}
        for entry in entries:
            if entry.key is not None:
                keys.setdefault(entry.model, {}).setdefault(entry.key, []).append(entry)
        emptied = [entry for entry in entries if entry.key is None]
        await expand(self._pair, {entry.model for entry in emptied}, self._settings.lock_timeout)
        done.update(emptied)
        different: dict[str, list[Key]] = {}
        for model, noted in keys.items():
            differing = await self._compare(connections, model, list(noted))
            equal = noted.keys() - differing
            for key in equal:
                done.update(noted[key])
                if self._memory.restless:
                    self._memory.restless.pop(Spot(model, key), None)
            result.outcomes[model, "equal"] += len(equal)
            if settle > 0 and differing:
                moving = await self._moving(connections, model, noted, differing)
                # A newer entry answers for those of its own store only: whoever has it in hand may have read before the
                # write that the other store's entry is of.
                done.update(entry for key in moving for entry in noted[key] if entry.side in moving[key])
                differing -= moving.keys()
            if differing:
                different[model] = sorted(differing)
        if different:
            settlement = Settlement(
                self._pair, self._authorities, self._settings.lock_timeout, reading=connections
            )
            try:
                await settlement.settle(different)
            except StaleViewError:
                result.is_stale = True
            result.findings = settlement.findings
            for spot, outcome in settlement.findings.outcomes.items():
                result.outcomes[spot.model, outcome] += 1
                done.update(keys.get(spot.model, {}).get(spot.key, ()))
            self._problems |= settlement.findings.problems
        for spot in self._problems:
            result.outcomes[spot.model, "failed"] += 1
        await self._put_off(connections, keys, done, result.findings.busy)
        return done

    async def _compare(self, connections: Mapping[Side, Connection], model: str, keys: list[Key]) -> set[Key]:
        """The keys whose rows differ."""
        if model in self._memory.careful:
            self._memory.careful.discard(model)
            return await self._compare_with_care(connections, model, keys)
        try:
            return await differing(self._pair, connections, model, keys, self._follower(model))
        except asyncpg.DataError as error:
            self._memory.careful.add(model)
            raise UnreadableError(model) from error

    async def _compare_with_care(
        self, connections: Mapping[Side, Connection], model: str, keys: list[Key]
    ) -> set[Key]:
        readable: list[Key] = []
        for side, connection in connections.items():
            readable = await self._readable(connection, self._pair.images[side][model], keys)
            keys = readable
        if not readable:
            return set()
        return await differing(self._pair, connections, model, readable, self._follower(model))

    def _follower(self, model: str) -> Side:
        authority = self._authorities[model]
        assert authority is not None  # such models are passed over
        return authority.other

    async def _readable(self, connection: Connection, image: Image, keys: list[Key]) -> list[Key]:
        async def read() -> None:
            await image.digests(connection, keys, self._follower(image.model))

        error = await attempt(connection, read) if keys else None
        if error is None:
            return keys
        if len(keys) == 1:
            self._problems[Spot(image.model, keys[0])] = problem_of(error)
            return []
        half = len(keys) // 2
        first = await self._readable(connection, image, keys[:half])
        return first + await self._readable(connection, image, keys[half:])

    async def _moving(
        self,
        connections: Mapping[Side, Connection],
        model: str,
        noted: Mapping[Key, Sequence[Entry]],
        differing: Collection[Key],
    ) -> dict[Key, set[Side]]:
        """Of the keys that differ, those that are still being written, with the stores that have newer entries."""
        newer: dict[Key, set[Side]] = {}
        for side, connection in connections.items():
            seen = [entry.id for found in noted.values() for entry in found if entry.side is side]
            if seen:
                for key in await self._pair.claims[side].newer(connection, model, max(seen), differing):
                    newer.setdefault(key, set()).add(side)
        now, restless = monotonic(), self._memory.restless
        moving: dict[Key, set[Side]] = {}
        for key, sides in newer.items():
            spot = Spot(model, key)
            if now - restless.setdefault(spot, now) < self._settings.patience:
                moving[key] = sides
            else:
                del restless[spot]
        return moving

    async def _put_off(
        self,
        connections: Mapping[Side, Connection],
        keys: Mapping[str, Mapping[Key, Sequence[Entry]]],
        done: set[Entry],
        busy: Iterable[Spot],
    ) -> None:
        """Keep the last entry of each key that cannot be settled, and drop the others."""
        late: dict[Side, list[tuple[Entry, str | None]]] = {side: [] for side in connections}
        for spot, problem in (dict.fromkeys(busy) | self._problems).items():
            last: dict[Side, Entry] = {}
            noted = keys.get(spot.model, {}).get(spot.key, ())
            for entry in noted:
                if entry.side not in last or entry.id > last[entry.side].id:
                    last[entry.side] = entry
            done.update(entry for entry in noted if entry is not last[entry.side])
            for side, entry in last.items():
                done.discard(entry)
                late[side].append((entry, problem))
        for side, connection in connections.items():
            await self._pair.claims[side].put_off(
                connection,
                late[side],
                backoff=self._settings.backoff,
                longest=self._settings.longest_backoff,
            )

    async def _give_up(
        self, connections: Mapping[Side, Connection], entries: Iterable[Entry], done: Collection[Entry]
    ) -> None:
        mine = {
            side: [entry for entry in entries if entry.side is side and entry in done] for side in connections
        }
        await together(
            *(
                self._pair.claims[side].forget(connection, mine[side])
                for side, connection in connections.items()
            )
        )


async def differing(
    pair: Pair, connections: Mapping[Side, Connection], model: str, keys: list[Key], follower: Side
) -> set[Key]:
    """The keys whose rows are not the same in both stores, as far as `follower` can be made equal."""
    one, other = await together(
        *(
            pair.images[side][model].digests(connection, keys, follower)
            for side, connection in connections.items()
        )
    )
    if one == other:
        return set()
    return {key for key in keys if one.get(key) != other.get(key)}


async def expand(pair: Pair, models: Iterable[str], lock_timeout: float) -> None:
    """Note every row of `models` in both stores, to be verified one by one, and commit that."""
    for model in models:
        for side, store in pair.stores.items():
            async with working(store, lock_timeout) as connection:
                await pair.claims[side].expand(connection, model)
