"""Bring keys level whichever side has the authority over them, and over whatever they hang on.

A repair works in one direction. Where parent and child have their authorities on different sides, a row may have to
wait for another to be settled in the opposite direction; this is what takes the turns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from crossfade.reconcile.conflicts import PARENT_RETURNS, PARENT_RETURNS_RENAMED, RESTRICTED, record
from crossfade.reconcile.findings import (
    CONTENDED,
    ContendedError,
    Findings,
    StaleViewError,
    attempt,
    problem_of,
)
from crossfade.reconcile.images import Image, Key, Row
from crossfade.reconcile.kin import keys_by, missing_parents
from crossfade.reconcile.pair import Authorities, Pair, Spot
from crossfade.reconcile.repair import Repair
from crossfade.reconcile.uniques import read_index
from crossfade.stages import PLANS, Side, Stage, Topology
from crossfade.store import Store
from crossfade.store.objects import LATE_WRITE, WRONG_AUTHORITY
from crossfade.store.tables import Connection

_DEEPEST = 8
"""How many turns a chain of rows may need whose authorities alternate; a longer one waits for the next pass."""
_FOREIGN_KEY = "23503"
_UNIQUE = "23505"
_MOST_CONTENDED = 12
"""How often a pass may run into somebody's lock before it leaves the rest to the next one."""


@asynccontextmanager
async def working(store: Store, lock_timeout: float, *, follower: bool = False) -> AsyncIterator[Connection]:
    """A transaction that looks rows up by key and does not wait long for locks."""
    async with store.transaction(follower=follower) as connection:
        await prepare(connection, lock_timeout)
        yield connection


async def prepare(connection: Connection, lock_timeout: float) -> None:
    """Make a transaction look rows up by key: the statistics of a queue, or of a table being filled, mislead."""
    await connection.execute(
        "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),"
        " set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),"
        f" set_config('jit', 'off', true), set_config('lock_timeout', '{round(lock_timeout * 1000)}ms', true)"
    )


class Settlement:
    """Settles keys, by one view of who has the authority.

    Args:
        pair: the stores.
        authorities: the view.
        lock_timeout: how long to wait for a lock, in seconds.
        reading: open transactions to read a store by; one is opened where there is none.
        writing: an open follower transaction to repair a store in, which the caller commits; likewise.
    """

    def __init__(
        self,
        pair: Pair,
        authorities: Authorities,
        lock_timeout: float,
        *,
        reading: Mapping[Side, Connection] | None = None,
        writing: Mapping[Side, Connection] | None = None,
    ) -> None:
        self._pair = pair
        self._authorities = authorities
        self._lock_timeout = lock_timeout
        self._reading = dict(reading or {})
        self._writing = dict(writing or {})
        self.findings = Findings()
        self._contended = 0
        self._returned: set[Spot] = set()

    async def settle(self, wanted: Mapping[str, Iterable[Key]]) -> Findings:
        """Bring these keys level; models whose authority is not known are passed over.

        Raises:
            StaleViewError: a store refused, because the view is out of date. What was committed is right nevertheless.
        """
        try:
            await self._settle({model: set(keys) for model, keys in wanted.items()}, 0)
        except asyncpg.PostgresError as error:
            if error.sqlstate in (LATE_WRITE, WRONG_AUTHORITY):
                raise StaleViewError(error.sqlstate) from error
            raise
        return self.findings

    async def _settle(self, wanted: Mapping[str, set[Key]], depth: int) -> None:
        for follower in Side:
            mine = {
                model: keys for model, keys in wanted.items() if self._authorities[model] is follower.other
            }
            if not mine:
                continue
            found = await self._repair(follower, mine)
            self.findings.update(found)
            for spot in sorted(found.returning):
                await self._bring_back(spot, depth)
            if found.waiting:
                await self._take_turns(found.waiting, depth)

    async def _take_turns(self, waiting: Mapping[Spot, set[Spot]], depth: int) -> None:
        if depth >= _DEEPEST:
            self.findings.problems.update(dict.fromkeys(waiting, f"{_FOREIGN_KEY} (its parents take turns)"))
            return
        await self._settle(_by_model(spot for parents in waiting.values() for spot in parents), depth + 1)
        await self._settle(_by_model(waiting), depth + 1)

    async def _repair(self, follower: Side, wanted: Mapping[str, set[Key]]) -> Findings:
        try:
            return await self._repair_at_once(follower, wanted)
        except (ContendedError, asyncpg.PostgresError) as error:
            if isinstance(error, asyncpg.PostgresError) and error.sqlstate not in CONTENDED:
                raise
        # Somebody holds a lock for long. What he does not lock is done without waiting for him.
        self._contended += 1
        spots = sorted(Spot(model, key) for model, keys in wanted.items() for key in keys)
        if len(spots) == 1 or self._contended > _MOST_CONTENDED:
            return Findings(busy=set(spots))
        half = len(spots) // 2
        found = await self._repair(follower, _by_model(spots[:half]))
        rest = await self._repair(follower, _by_model(spots[half:]))
        found.update(rest)
        found.waiting |= rest.waiting
        found.returning |= rest.returning
        return found

    async def _repair_at_once(self, follower: Side, wanted: Mapping[str, set[Key]]) -> Findings:
        async with AsyncExitStack() as stack:
            reading = await self._open(stack, self._reading, follower.other)
            connection = await self._open(stack, self._writing, follower, follower=True)
            return await Repair(self._pair, follower, self._authorities, connection, reading).run(wanted)

    async def _open(
        self, stack: AsyncExitStack, given: Mapping[Side, Connection], side: Side, *, follower: bool = False
    ) -> Connection:
        if side in given:
            return given[side]
        opened = working(self._pair.stores[side], self._lock_timeout, follower=follower)
        return await stack.enter_async_context(opened)

    async def _bring_back(self, spot: Spot, depth: int) -> None:
        """Put a row that may not be deleted back on the side that has deleted it, as that side's own write."""
        if spot in self._returned or depth >= _DEEPEST:
            return
        self._returned.add(spot)
        try:
            await self._put_back(spot, depth)
        except (ContendedError, asyncpg.PostgresError) as error:
            if isinstance(error, asyncpg.PostgresError) and error.sqlstate not in CONTENDED:
                raise
            self.findings.busy.add(spot)

    async def _put_back(self, spot: Spot, depth: int) -> None:
        side = self._authorities[spot.model]
        assert side is not None
        async with AsyncExitStack() as stack:
            reading = await self._open(stack, self._reading | self._writing, side.other)
            source = self._pair.images[side.other][spot.model]
            row = (await source.rows(reading, [spot.key])).get(spot.key)
            document = (await source.documents(reading, [spot.key])).get(spot.key)
            if row is None:
                return
            await self._bring_parents_back(spot.model, row, side, reading, depth)
            connection = await self._open(stack, {}, side)
            await self._confirm(spot.model, {side: connection, side.other: reading})
            error, policy = await self._add(self._pair.images[side][spot.model], row, connection)
            if error is not None:
                self.findings.problems[spot] = problem_of(error)
                return
            conflict = await record(
                connection, self._pair, spot, RESTRICTED, policy, side, {side: None, side.other: document}
            )
        self.findings.conflicts.append(conflict)
        self.findings.outcomes[spot] = "copied"
        if policy == PARENT_RETURNS_RENAMED:
            await self._settle({spot.model: {spot.key}}, depth + 1)

    async def _confirm(self, model: str, connections: Mapping[Side, Connection]) -> None:
        """Make sure, until these transactions end, that `model` and what may hold its rows belong to whom we believe.

        A row that returns is written as an author, so no fence would say that the view is out of date: a child that
        seems to forbid a delete may long be gone where it belongs to by now.

        Raises:
            StaleViewError: a model belongs to another side.
        """
        children = self._pair.children[Side.PRISMA]
        falling = {model, *self._pair.falls_with(Side.PRISMA, model)}
        asked = falling | {child.model for name in falling for child in children[name]}
        believed = {self._pair.owner(name): self._authorities[name] for name in asked}
        newest: dict[str, tuple[int, Side]] = {}
        for side, connection in connections.items():
            query = (
                f"SELECT model, epoch, stage FROM {self._pair.stores[side].own('record')}"  # noqa: S608
                " WHERE model = ANY ($1) ORDER BY model FOR SHARE NOWAIT"
            )
            async with (
                connection.transaction()
            ):  # whose transaction it is goes on if somebody else has a record
                rows = await connection.fetch(query, list(believed))
            for row in rows:
                authority = PLANS[Topology.SEPARATE][Stage(row["stage"])].authority
                newest[row["model"]] = max(
                    newest.get(row["model"], (0, authority)), (row["epoch"], authority)
                )
        if any(newest[name][1] is not side for name, side in believed.items() if name in newest):
            raise StaleViewError("record")

    async def _bring_parents_back(
        self, model: str, row: Row, side: Side, reading: Connection, depth: int
    ) -> None:
        image = self._pair.images[side][model]
        for reference in image.references:
            parent = self._pair.images[side][reference.model]
            async with AsyncExitStack() as stack:
                connection = await self._open(stack, {}, side)
                missing = await missing_parents(connection, image, parent, reference, [row])
            elsewhere = self._pair.images[side.other][reference.model]
            keys = set((await keys_by(reading, elsewhere, reference.to_columns, missing)).values())
            if not keys:
                continue
            if self._authorities[reference.model] is side:
                for key in sorted(keys):
                    await self._bring_back(Spot(reference.model, key), depth + 1)
            else:
                await self._settle({reference.model: keys}, depth + 1)

    @staticmethod
    async def _add(
        image: Image, row: Row, connection: Connection
    ) -> tuple[asyncpg.PostgresError | None, str]:
        """Insert a row that is gone; where somebody else has its unique values by now it gets others."""
        policy, texts = PARENT_RETURNS, list(row.texts)
        for _ in range(len(image.table.columns)):
            candidate = Row(row.key, row.digest, tuple(texts))
            error = await attempt(connection, lambda: image.add(connection, [candidate]))  # noqa: B023
            if (
                error is None
                or error.sqlstate != _UNIQUE
                or not (error.schema_name and error.constraint_name)
            ):
                return error, policy
            index = await read_index(connection, error.schema_name, error.constraint_name)
            columns = index.movable(image) if index else []
            if index is None or not columns:
                return error, policy
            texts[image.columns.index(columns[0].name)] = index.aside(columns[0])
            policy = PARENT_RETURNS_RENAMED
        return error, policy


def _by_model(spots: Iterable[Spot]) -> dict[str, set[Key]]:
    found: dict[str, set[Key]] = {}
    for model, key in spots:
        found.setdefault(model, set()).add(key)
    return found
