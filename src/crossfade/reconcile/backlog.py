"""What is captured and not verified yet, over both stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from crossfade.errors import StoreUnavailableError
from crossfade.reconcile.claims import Claims
from crossfade.reconcile.images import Key
from crossfade.reconcile.pair import Pair, together
from crossfade.reconcile.settings import Lag, Problem
from crossfade.reconcile.settlement import working
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.store import LOST
from crossfade.store.tables import Connection

T = TypeVar("T")


class Backlog:
    """Asks both stores; every method raises StoreUnavailableError if one of them does not answer."""

    def __init__(self, stores: Mapping[Side, Store], lock_timeout: float) -> None:
        self._stores = stores
        self._lock_timeout = lock_timeout
        self._pair: Pair | None = None

    @asynccontextmanager
    async def reaching(self) -> AsyncIterator[Pair]:
        """The stores, once they have answered; a connection that is lost meanwhile is a store that does not answer.

        Raises:
            StoreUnavailableError: a store does not answer.
            InstallError: the tables of the stores do not match.
        """
        try:
            if self._pair is None:
                self._pair = await Pair.open(self._stores)
            yield self._pair
        except LOST as error:
            where = " or ".join(store.where for store in self._stores.values())
            raise StoreUnavailableError(where, str(error) or type(error).__name__) from error

    async def lag(self, models: Iterable[str]) -> dict[str, Lag]:
        """How much waits, by model; many-to-many tables count for the model that owns them."""
        wanted = list(models)
        found = dict.fromkeys(wanted, Lag(0, 0.0))
        async with self.reaching() as pair:
            owners = {table: pair.owner(table) for table in pair.tables(wanted)}
        for lags in await self._ask(wanted, Claims.lag):
            for table, lag in lags.items():
                owner = owners[table]
                found[owner] = Lag(found[owner].keys + lag.keys, max(found[owner].oldest, lag.oldest))
        return found

    async def keys(self, models: Iterable[str], limit: int) -> set[tuple[str, Key]] | None:
        """Which keys wait; None if they are more than `limit`, or all of a model's."""
        found: set[tuple[str, Key]] = set()
        for entries in await self._ask(
            models, lambda claims, connection, tables: claims.all(connection, tables, (), limit + 1)
        ):
            if len(entries) > limit or any(entry.key is None for entry in entries):
                return None
            found |= {(entry.model, entry.key) for entry in entries if entry.key is not None}
        return None if len(found) > limit else found

    async def problems(self, models: Iterable[str]) -> list[Problem]:
        """What stands in the way, most frequent first."""
        one, other = await self._ask(models, Claims.problems)
        return sorted(one + other, key=lambda problem: (-problem.count, problem.model, problem.problem))

    async def left(self, models: Iterable[str]) -> tuple[int, int]:
        """How many entries there are, whoever has them in hand, and how many of them have no known problem."""
        one, other = await self._ask(models, Claims.left)
        return one[0] + other[0], one[1] + other[1]

    async def due_in(self, standing: Callable[[str], Side | None], settle: float) -> float:
        """In how many seconds the next entry falls due that is not to be left alone; infinity if there is none."""
        async with self.reaching() as pair:
            owners = {pair.owner(table) for table in pair.tables(None)}
        begun = [owner for owner in owners if standing(owner) is not None]
        found = await self._ask(
            begun, lambda claims, connection, tables: claims.due(connection, tables, settle)
        )
        return max(0.0, min((seconds for due in found for seconds in due.values()), default=float("inf")))

    async def _ask(
        self, models: Iterable[str], question: Callable[[Claims, Connection, list[str]], Awaitable[T]]
    ) -> list[T]:
        """Ask about the tables of `models`, both stores at the same time."""
        async with self.reaching() as pair:
            tables = pair.tables(models)

            async def ask(side: Side) -> T:
                async with working(self._stores[side], self._lock_timeout) as connection:
                    return await question(pair.claims[side], connection, tables)

            return await together(*(ask(side) for side in self._stores))
