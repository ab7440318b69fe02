"""Verify every captured key and bring the follower level with the authority.

Theory of operation. A captured key is taken up when it has rested for `settle` seconds, or at once when the stores are
to be drained. Both rows are read and compared. The rule that makes it converge: every key that was touched on either
side is verified after its last touch, and the authority wins. Three things carry it:

* Only entries that were seen before the rows were read are deleted. A repair is captured like any other write, and so
  verified once more.
* Rows that are equal are equal whoever has the authority, so such entries go even if the view of it is stale. A repair
  under a stale view is refused by the store; then nothing is deleted, and the view is refreshed.
* A row that cannot be written is put off, with the reason, and does not keep the others from their turn.

When a store is not reachable the pass ends, the entries stay where they are, and the next attempt waits longer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Self

import asyncpg

from crossfade.errors import StoreUnavailableError
from crossfade.events import Observer, ObserverFailed, RowReconciled
from crossfade.reconcile.backlog import Backlog
from crossfade.reconcile.bell import Bells
from crossfade.reconcile.enclosed import Enclosed
from crossfade.reconcile.findings import Findings, StaleViewError
from crossfade.reconcile.images import Key
from crossfade.reconcile.pair import Pair
from crossfade.reconcile.passes import Memory, Pass, PassResult, UnreadableError
from crossfade.reconcile.settings import Lag, Problem, ReconcileSettings
from crossfade.reconcile.settlement import Settlement
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.tables import Connection

_TRIES = 6
"""How often a drain tries rows again that cannot be settled, when nothing else is left."""
_SMALLEST_BATCH = 200
_MOST_RESTLESS = 10_000


class Reconciler:
    """Works through the captured keys of two stores.

    Args:
        stores: both.
        standing: the side that has the authority over a model now; None: leave the model alone.
        observer: hears what became of the keys.
        settings: bounds.
        stale: awaited when a store has shown that `standing` is out of date.
    """

    def __init__(
        self,
        stores: Mapping[Side, Store],
        standing: Callable[[str], Side | None],
        observer: Observer,
        settings: ReconcileSettings | None = None,
        *,
        stale: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._stores = stores
        self._standing = standing
        self._observer = observer
        self._settings = settings or ReconcileSettings()
        self._stale = stale
        self._backlog = Backlog(stores, self._settings.lock_timeout)
        self._batch = self._settings.batch
        self._memory = Memory()
        self._passing = asyncio.Lock()
        self._settling = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._idle_since: float | None = None

    def start(self, *, background: bool = True) -> None:
        """Start the loop, unless somebody else's is to do the work."""
        if background and self._task is None:
            self._task = asyncio.create_task(self._loop(), name="reconcile")

    async def close(self) -> None:
        """Stop the loop."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def run_once(self, models: Iterable[str] | None = None, *, settle: float | None = None) -> int:
        """Make one pass; return how many entries were looked at.

        Args:
            models: whose keys, the many-to-many tables that they own included; all by default.
            settle: how long a key must have rested, in seconds; as the settings say by default.

        Raises:
            StoreUnavailableError: a store does not answer.
        """
        return (await self._pass(models, self._settings.settle if settle is None else settle)).taken

    async def drain(self, models: Iterable[str], deadline: float) -> bool:
        """Verify every captured key of `models` without waiting for it to rest.

        Returns:
            Whether no entry is left in either store. It is False when `deadline` seconds have passed, and as soon as
            only rows are left that cannot be settled: `problems` tells why.
        """
        return await self._work_off(list(models), deadline, 0)

    async def catch_up(self, models: Iterable[str], deadline: float) -> bool:
        """Do the same while writers go on; True when what is left is little and none of it is stuck."""
        return await self._work_off(list(models), deadline, self._settings.near)

    async def settle_keys(self, model: str, keys: Sequence[Key]) -> int:
        """Verify these keys of one model now, and repair the follower; return how many rows were copied or deleted.

        Raises:
            StoreUnavailableError: a store does not answer.
        """
        if not keys:
            return 0
        async with self._backlog.reaching() as pair, self._settling:
            authorities = pair.authorities(self._standing)
            if authorities[model] is None:
                return 0
            settlement = Settlement(pair, authorities, self._settings.lock_timeout)
            try:
                await settlement.settle({model: keys})
            except StaleViewError:
                await self._refresh()
            self._tell(pair, settlement.findings)
            return sum(outcome != "equal" for outcome in settlement.findings.outcomes.values())

    async def pending(self, models: Iterable[str]) -> dict[str, Lag]:
        """How much of each model waits to be verified, in both stores.

        Raises:
            StoreUnavailableError: a store does not answer.
        """
        return await self._backlog.lag(models)

    async def pending_keys(
        self, models: Iterable[str], limit: int = 1000
    ) -> set[tuple[str, tuple[str, ...]]] | None:
        """The captured keys of `models` that wait; None if they are more than `limit`, or a table was truncated.

        Raises:
            StoreUnavailableError: a store does not answer.
        """
        return await self._backlog.keys(models, limit)

    async def problems(self, models: Iterable[str]) -> list[Problem]:
        """Why keys of `models` cannot be settled: as an SQLSTATE with the name of a constraint, most frequent first.

        Raises:
            StoreUnavailableError: a store does not answer.
        """
        return await self._backlog.problems(models)

    async def drain_within(self, connection: Connection, side: Side, models: Iterable[str]) -> None:
        """Verify every entry of `models`, and repair within a transaction that keeps all other writers out.

        Args:
            connection: a follower's transaction on the store of `side`, with locks on the tables of `models` that let
                no other writer in. The other store must take neither authors nor followers for them.
            side: the follower, which is about to become the authority.
            models: what moves.

        Raises:
            UnsettledError: some rows cannot be brought level.
            LateWriteError: the store of `side` takes no repairs: it is not the follower.
            StoreUnavailableError: a store does not answer.
        """
        async with self._backlog.reaching() as pair:
            tables = pair.tables(models)
            authorities = pair.authorities(self._standing) | dict.fromkeys(tables, side.other)
            enclosed = Enclosed(pair, authorities, connection, side, self._settings.lock_timeout)
            await enclosed.drain(tables, lambda findings: self._tell(pair, findings))

    async def _refresh(self) -> None:
        if self._stale is not None:
            await self._stale()

    async def _pass(
        self, models: Iterable[str] | None, settle: float, *, put_off_too: bool = False
    ) -> PassResult:
        async with self._backlog.reaching() as pair, self._passing:
            tables = pair.tables(models)
            authorities = pair.authorities(self._standing)
            started, limit = monotonic(), self._batch
            while True:
                work = Pass(pair, authorities, self._settings, self._memory)
                try:
                    result = await work.run(tables, limit=limit, settle=settle, put_off_too=put_off_too)
                    break
                except UnreadableError:
                    continue  # the pass remembers to be careful with that model
            self._adapt(result, limit, monotonic() - started)
        self._tell(pair, result.findings, result)
        if result.is_stale:
            await self._refresh()
        return result

    def _adapt(self, result: PassResult, limit: int, seconds: float) -> None:
        if len(self._memory.restless) > _MOST_RESTLESS:
            self._memory.restless.clear()
        if result.full:
            fitting = limit * self._settings.pass_time / max(seconds, 0.001)
            self._batch = round(
                min(max(fitting, limit / 2, _SMALLEST_BATCH), limit * 2, self._settings.largest_batch)
            )

    def _tell(self, pair: Pair, findings: Findings, result: PassResult | None = None) -> None:
        counts: dict[tuple[str, str], int] = {}
        if result is not None:
            counts |= result.outcomes
        else:
            for spot, outcome in findings.outcomes.items():
                counts[spot.model, outcome] = counts.get((spot.model, outcome), 0) + 1
            for spot in findings.problems:
                counts[spot.model, "failed"] = counts.get((spot.model, "failed"), 0) + 1
        for (model, outcome), count in counts.items():
            if count:
                self._observer.observe(RowReconciled(pair.owner(model), outcome, count))
        for conflict in findings.conflicts:
            self._observer.observe(conflict._replace(model=pair.owner(conflict.model)))

    async def _work_off(self, models: list[str], deadline: float, near: int) -> bool:
        until = monotonic() + deadline
        retry, in_vain = False, 0
        while True:
            try:
                result = await self._pass(models, 0.0, put_off_too=retry)
                left, sound = await self._backlog.left(models)
            except StoreUnavailableError:
                result, left, sound = PassResult(), 1, 1
            if left == 0 or (left <= near and left == sound):
                return True
            if monotonic() >= until or (sound <= near and left > sound and in_vain >= _TRIES):
                return False
            # Rows that were put off are tried again once nothing else is left to do.
            retry = result.taken == 0 or (retry and result.settled == 0)
            if result.settled == 0 or retry:
                in_vain += 1
                await asyncio.sleep(min(0.005 * 2**in_vain, 0.2, max(0.0, until - monotonic())))
            elif not near:
                in_vain = 0

    async def _loop(self) -> None:
        bells = Bells(self._stores.values())
        settings, failures = self._settings, 0
        try:
            while True:
                try:
                    await self._turn(bells)
                    failures = 0
                except Exception as error:  # noqa: BLE001  # the loop outlives whatever a store or a callback does
                    if not isinstance(error, StoreUnavailableError | asyncpg.PostgresError):
                        self._observer.observe(ObserverFailed("reconcile", type(error).__name__))
                    pause = settings.backoff * 2 ** min(failures, 10)
                    failures += 1
                    await asyncio.sleep(
                        min(pause, settings.longest_outage_backoff) * random.uniform(0.5, 1.0)  # noqa: S311
                    )
        finally:
            await bells.close()

    async def _turn(self, bells: Bells) -> None:
        """Make one pass, and wait for as long as there is nothing to do."""
        settings = self._settings
        result = await self._pass(None, settings.settle)
        if result.taken:
            self._idle_since = None
            if not (result.full and result.settled):
                await asyncio.sleep(settings.interval)
            return
        due = await self._due_in()
        if due < settings.idle_after:
            self._idle_since = None
            await asyncio.sleep(max(due, settings.interval))
            return
        if self._idle_since is None:
            self._idle_since = monotonic()
        if monotonic() - self._idle_since < settings.idle_after:
            await asyncio.sleep(settings.interval)
        else:
            await bells.sleep(settings.poll, settings.longest_sleep, self._due_in)

    async def _due_in(self) -> float:
        return await self._backlog.due_in(self._standing, self._settings.settle)
