"""One process's view of the record: what it saw last in each store, and what came in since.

A store that goes away takes nothing back: what was seen there stays in force until something newer is seen.

A view is a lease. Whoever moves a model waits for `LEASE_SECONDS` before a store is no longer fed, and whoever answers
by a view that is older than that has it renewed first. So no process, however long it was frozen, reads from a store
that is not fed any more. Time is the system's monotonic clock: an event loop's may stand still while it is frozen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from types import MappingProxyType
from typing import Self

import asyncpg

from crossfade.errors import StoreUnavailableError
from crossfade.stages import Side, Stage, has_begun
from crossfade.store.objects import RECORD_CHANNEL
from crossfade.store.record import Record, effective, read_records
from crossfade.store.store import LOST, Store

LEASE_SECONDS = 5.0
"""For how long after it has read the record a process may answer by what it has read."""


class RecordView:
    """What this process knows of the record. Open it with `async with`, before anything is served.

    It listens in every store and reads every `poll` seconds beside, `hurried` while somebody waits for news. The
    stores need not be open: it has connections of its own, which are made anew when they break.
    """

    def __init__(self, stores: Mapping[Side, Store], *, poll: float = 1.0, hurried: float = 0.05) -> None:
        self.fresh_until = float("-inf")
        """Until when the lease lasts, by the monotonic clock."""
        self._poll = poll
        self._hurried = hurried
        self._watches = {side: _Watch(store, self._heard, self._noted) for side, store in stores.items()}
        self._records: dict[str, Record] = {}
        self._callbacks: list[Callable[[Record], None]] = []
        self._waiting: dict[asyncio.Future[Record], tuple[str, int]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._renewal: asyncio.Task[None] | None = None
        self._renewed_in_vain = float("-inf")

    async def __aenter__(self) -> Self:
        """Read the record.

        Raises:
            StoreUnavailableError: no store answers.
        """
        answers = await asyncio.gather(*(watch.read() for watch in self._watches.values()))
        refusals = [answer for answer in answers if answer is not None]
        if len(refusals) == len(self._watches):
            await self.__aexit__()
            raise refusals[0]
        self._tasks = [
            asyncio.create_task(self._follow(watch), name=f"record-{side}")
            for side, watch in self._watches.items()
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._tasks, *([self._renewal] if self._renewal else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        for watch in self._watches.values():
            watch.drop()
        for waiter in self._waiting:
            waiter.cancel()

    @property
    def records(self) -> Mapping[str, Record]:
        """The records in force, of every model that has one."""
        return MappingProxyType(self._records)

    def record(self, model: str) -> Record:
        """The record in force of one model; where crossfade is not installed, the model is at `off`."""
        return self._records.get(model) or Record(model)

    def stages(self) -> dict[str, Stage]:
        """The stage of every model that has a record."""
        return {model: record.stage for model, record in self._records.items()}

    def authority(self, model: str) -> Side | None:
        """The side that wins over a captured key of `model` now; None while its keys are to be left alone."""
        record = self._records.get(model)
        if record is None or record.final or record.forced or not has_begun(record.stage):
            return None
        return record.authority

    def settling(self, model: str) -> Side | None:
        """The side that wins where rows are brought level on purpose: at `off` too, but not while a model moves."""
        record = self.record(model)
        if record.final or record.forced or record.moving_to is not None:
            return None
        return record.authority

    def answering(self) -> frozenset[Side]:
        """The sides whose store answered when it was asked last."""
        return frozenset(side for side, watch in self._watches.items() if watch.answers)

    def unsettled(self) -> frozenset[str]:
        """The models of which a move is under way or was left half-way, as far as the last look shows."""
        seen = [watch.records for watch in self._watches.values()]
        epochs: dict[str, set[int]] = {}
        for records in seen:
            for model, record in records.items():
                epochs.setdefault(model, set()).add(record.epoch)
        moving = {model for records in seen for model, record in records.items() if record.moving_to}
        return frozenset(moving | {model for model, found in epochs.items() if len(found) > 1})

    def age(self) -> float:
        """How many seconds ago the store that was read last was read."""
        return monotonic() - max(watch.read_at for watch in self._watches.values())

    def on_change(self, callback: Callable[[Record], None]) -> None:
        """Have `callback` called with every record that comes into force from now on."""
        self._callbacks.append(callback)

    async def refresh(self) -> None:
        """Read every store that answers now."""
        await asyncio.gather(*(watch.read() for watch in self._watches.values()))

    async def renew(self) -> None:
        """Read the record again, for whoever must not answer by a view that is older than the lease.

        All who ask wait for the same look. A second store that takes much longer than the first is not waited for. If
        no store answers, they go on by what is known: the stores' fences judge writes whatever a process believes.
        Nobody waits again then for as long as a lease, while the poll goes on.
        """
        if self._renewal is None:
            if monotonic() < self._renewed_in_vain + LEASE_SECONDS:
                return
            self._renewal = asyncio.create_task(self._renew(), name="record-renewal")
        await asyncio.wait([self._renewal])

    async def _renew(self) -> None:
        looks = {asyncio.ensure_future(watch.read()) for watch in self._watches.values()}
        try:
            async with asyncio.timeout(_READ_SECONDS):
                waiting = looks
                while waiting and monotonic() > self.fresh_until:
                    _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if waiting:
                    await asyncio.wait(waiting, timeout=_SECOND_STORE_SECONDS)
        except TimeoutError:
            pass
        finally:
            for look in looks:
                look.cancel()
            await asyncio.gather(*looks, return_exceptions=True)
            if monotonic() > self.fresh_until:
                self._renewed_in_vain = monotonic()
            self._renewal = None

    async def newer_than(self, model: str, epoch: int, timeout: float) -> Record:  # noqa: ASYNC109
        """Wait for a record of `model` with a higher epoch than `epoch` that is not of a move under way.

        Callbacks have heard of it before this returns.

        Raises:
            TimeoutError: none came within `timeout` seconds.
        """
        record = self._records.get(model)
        if record is not None and record.epoch > epoch and record.moving_to is None:
            return record
        waiter: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = (model, epoch)
        for watch in self._watches.values():
            watch.woken.set()
        try:
            async with asyncio.timeout(timeout):
                return await waiter
        finally:
            self._waiting.pop(waiter, None)

    async def _follow(self, watch: _Watch) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._hurried if self._waiting and watch.answers else self._poll):
                    await watch.woken.wait()
            watch.woken.clear()
            await watch.read()

    def _noted(self, read_at: float) -> None:
        self.fresh_until = max(self.fresh_until, read_at + LEASE_SECONDS)

    def _heard(self) -> None:
        fresh = effective(*(watch.records for watch in self._watches.values()))
        changed = [record for model, record in fresh.items() if self._records.get(model) != record]
        self._records = fresh
        for record in changed:
            for callback in self._callbacks:
                callback(record)
        for waiter, (model, epoch) in list(self._waiting.items()):
            known = fresh.get(model)
            if known and known.epoch > epoch and known.moving_to is None and not waiter.done():
                waiter.set_result(known)


_AWAY: tuple[type[Exception], ...] = (*LOST, asyncpg.PostgresError, StoreUnavailableError)
_READ_SECONDS = 3.0
"""A store that takes longer than this to tell its records is away."""
_SECOND_STORE_SECONDS = 0.25
"""How long a renewal waits for the second store once the first has answered."""


class _Watch:
    """One store's records, as they were read last, and the connection that they are read by."""

    def __init__(self, store: Store, heard: Callable[[], None], noted: Callable[[float], None]) -> None:
        self.store = store
        self.records: Mapping[str, Record] = {}
        self.answers = False
        self.read_at = float("-inf")
        self.woken = asyncio.Event()
        self._heard = heard
        self._noted = noted
        self._turn = asyncio.Lock()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def read(self) -> StoreUnavailableError | None:
        """Read the records now; return why, if that is not possible. What was known stays known then."""
        started = monotonic()
        async with self._turn:
            if self.read_at > started:  # somebody else read while this one waited for its turn
                return None
            began = monotonic()
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    connection = await self._connected()
                    records = await read_records(connection, self.store)
            except _AWAY as error:
                self.drop()
                if isinstance(error, StoreUnavailableError):
                    return error
                return StoreUnavailableError(self.store.where, str(error) or type(error).__name__)
            except BaseException:
                self.drop()
                raise
            self.answers, self.read_at = True, began
            if records != self.records:
                self.records = records
                self._heard()
            self._noted(began)
            return None

    async def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self.store.listen_connection()
            await self._connection.add_listener(RECORD_CHANNEL, self._ring)
        return self._connection

    def _ring(self, *_: object) -> None:
        self.woken.set()

    def drop(self) -> None:
        """Give the connection up; the next look makes a new one."""
        self.answers = False
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
