"""The drain under the lock: verify and repair within a transaction of whoever hands the authority over.

Entries are neither claimed nor deleted here: who has them in hand may be waiting for this very transaction, and if it
fails, its repairs were in vain. Those that were looked at are remembered by their numbers; later they are found equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crossfade.errors import LateWriteError, UnsettledError
from crossfade.reconcile.findings import Findings, StaleViewError
from crossfade.reconcile.images import Key
from crossfade.reconcile.pair import Authorities, Pair
from crossfade.reconcile.passes import differing
from crossfade.reconcile.settlement import Settlement, prepare, working
from crossfade.stages import Side
from crossfade.store.tables import Connection

_AT_ONCE = 5000
_LOCKED = "55P03"


class Enclosed:
    """Works on the store of `side` through `connection` alone, and on the other one in transactions of its own."""

    def __init__(
        self, pair: Pair, authorities: Authorities, connection: Connection, side: Side, lock_timeout: float
    ) -> None:
        self._pair = pair
        self._authorities = authorities
        self._connection = connection
        self._side = side
        self._lock_timeout = lock_timeout
        self._known: dict[Side, set[int]] = {one: set() for one in Side}

    async def drain(self, tables: Sequence[str], tell: Callable[[Findings], None]) -> None:
        """Look at every entry of `tables` that there is, and at those that this brings about, until none is new.

        Args:
            tables: which.
            tell: is given what became of the keys, from time to time.

        Raises:
            UnsettledError: some rows cannot be brought level.
            LateWriteError: the store takes no repairs.
        """
        pair, side = self._pair, self._side
        async with working(pair.stores[side.other], self._lock_timeout) as reading:
            await prepare(self._connection, self._lock_timeout)
            connections = {side: self._connection, side.other: reading}
            while True:
                keys, emptied = await self._unknown(connections, tables)
                if not keys and not emptied:
                    return
                for model in emptied:
                    await pair.claims[side].expand(self._connection, model)
                    async with working(pair.stores[side.other], self._lock_timeout) as other:
                        await pair.claims[side.other].expand(other, model)
                wanted = {
                    model: different
                    for model, noted in keys.items()
                    if (different := await differing(pair, connections, model, sorted(noted), side))
                }
                settlement = Settlement(
                    pair,
                    self._authorities,
                    self._lock_timeout,
                    reading=connections,
                    writing={side: self._connection},
                )
                try:
                    findings = await settlement.settle(wanted)
                except StaleViewError as error:
                    raise LateWriteError(
                        f"the store of {side} takes no repairs of {', '.join(tables)}: it is not the follower"
                    ) from error
                tell(findings)
                problems = set(findings.problems.values()) | ({_LOCKED} if findings.busy else set())
                if problems:
                    raise UnsettledError(tables, sorted(problems))

    async def _unknown(
        self, connections: dict[Side, Connection], tables: Sequence[str]
    ) -> tuple[dict[str, set[Key]], set[str]]:
        """The keys of entries that were not looked at yet, and the models of which every key is suspect."""
        keys: dict[str, set[Key]] = {}
        emptied: set[str] = set()
        for side, connection in connections.items():
            for entry in await self._pair.claims[side].all(connection, tables, self._known[side], _AT_ONCE):
                self._known[side].add(entry.id)
                if entry.key is None:
                    emptied.add(entry.model)
                else:
                    keys.setdefault(entry.model, set()).add(entry.key)
        return keys, emptied
