"""What live traffic feels while a backfill runs: how long a point read and a small committed write take.

Each store is asked a few times a second over a connection of its own, so that one that hangs does not hide the other.
The read is of one row of the legacy store by its key; the write is to a row of this process's own in each store, and
commits. What was usual is measured before the first chunk; a backfill of another process that is under way by then is
part of it. A measurement that is still under way counts with the time that it has taken so far.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted
from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Self
from uuid import uuid4

import asyncpg

from crossfade.backfill.throttle import Felt
from crossfade.errors import StoreUnavailableError
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.columns import from_text
from crossfade.store.store import LOST
from crossfade.store.tables import StoredTable, literal, quoted

INTERVAL = 0.25
"""Seconds between two measurements."""

WINDOW = 20
"""How many measurements count as late."""

_WARM_UP = 3
_BASELINE = 20
_LEAST = 5
_PATIENCE = 10.0
_GRACE = 1.0
_AWAY: tuple[type[Exception], ...] = (*LOST, asyncpg.PostgresError, StoreUnavailableError, TimeoutError)
_NAMES = {Side.PRISMA: "legacy", Side.SQLALCHEMY: "target"}


async def oldest_captured(stores: Mapping[Side, Store], models: Sequence[str]) -> float:
    """How long the oldest captured key of `models` has waited in either store, in seconds; 0 if there is none.

    A key that cannot be brought level whatever happens does not count: it would hold the backfill for ever, and it may
    be a row that the backfill itself has yet to bring which it lacks.

    Raises:
        StoreUnavailableError: a store does not answer.
    """
    if not models:
        return 0.0
    ages = []
    for store in stores.values():
        sql = (
            "SELECT coalesce(max(e.age), 0) FROM unnest($1::text[]) AS m(model) CROSS JOIN LATERAL"
            " (SELECT extract(epoch FROM clock_timestamp() - at)::float8 AS age"
            f" FROM {store.own('change')} WHERE model = m.model AND problem IS NULL ORDER BY id LIMIT 1) e"
        )
        try:
            async with store.transaction() as connection:
                ages.append(
                    float(await connection.fetchval(sql, [table.model for table in store.tables.of(models)]))
                )
        except LOST as error:
            raise StoreUnavailableError(store.where, str(error) or type(error).__name__) from error
    return max(ages)


class Latencies:
    """The durations of one kind of measurement: the usual one, and those of late."""

    def __init__(self, what: str, clock: Callable[[], float] = monotonic) -> None:
        self.what = what
        self._clock = clock
        self._late: deque[float] = deque(maxlen=WINDOW)
        self._usual: float | None = None
        self._since: float | None = None

    def begin(self) -> None:
        """Say that a measurement begins now."""
        self._since = self._clock()

    def end(self, *, counts: bool = True) -> None:
        """Say that it is over; one that failed does not count."""
        since, self._since = self._since, None
        if counts and since is not None:
            self._late.append(self._clock() - since)

    def settle(self) -> None:
        """Take what has been measured until now for what is usual."""
        self._usual = _percentile(self._late) if self._late else None
        self._late.clear()

    def forget(self) -> None:
        """Begin anew with what counts as late."""
        self._late.clear()

    def felt(self) -> Felt | None:
        """The two figures, or None while there is too little to tell."""
        if self._usual is None:
            return None
        waiting = 0.0 if self._since is None else self._clock() - self._since
        if len(self._late) < _LEAST:
            # Little is known yet, but what hangs for this long is slow whatever comes after it.
            return Felt(self.what, self._usual, waiting) if waiting > _LEAST * INTERVAL else None
        return Felt(self.what, self._usual, max(waiting, _percentile(self._late)))


class Probe:
    """Measures both stores while it is open. Open it with `async with`, before the first chunk.

    Args:
        stores: both, with crossfade's objects.
        table: a table of the legacy store, of which one row is read over and over; None: nothing is read.
    """

    def __init__(
        self,
        stores: Mapping[Side, Store],
        table: StoredTable | None,
        *,
        interval: float = INTERVAL,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._interval = interval
        self._spots = [
            _Spot(store, table if side is Side.PRISMA else None, clock) for side, store in stores.items()
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Measure what is usual. A store that does not answer now is measured from when it does, against nothing."""
        await asyncio.gather(*(spot.settle() for spot in self._spots))
        self._tasks = [asyncio.create_task(self._watch(spot), name="probe") for spot in self._spots]
        return self

    async def __aexit__(self, *_: object) -> None:
        # A measurement that is broken off takes its connection with it, and the row could not be removed.
        self._closing.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GRACE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await asyncio.gather(*(spot.close() for spot in self._spots))

    def felt(self) -> Sequence[Felt]:
        """What has been measured of late."""
        found = (latencies.felt() for spot in self._spots for latencies in spot.kinds)
        return [felt for felt in found if felt is not None]

    def forget(self) -> None:
        """Begin anew with what counts as late."""
        for spot in self._spots:
            for latencies in spot.kinds:
                latencies.forget()

    async def _watch(self, spot: _Spot) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._closing.wait()
                return
            await spot.measure()


class _Spot:
    """One store, the connection that it is measured over, and what was measured."""

    def __init__(self, store: Store, table: StoredTable | None, clock: Callable[[], float]) -> None:
        self._store = store
        self._table = table
        self._id = uuid4()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._read_sql = ""
        self._write_sql = (
            f"INSERT INTO {store.own('probe')} (id) VALUES ($1)"
            " ON CONFLICT (id) DO UPDATE SET at = clock_timestamp()"
        )
        name = _NAMES[store.side]
        self._read = Latencies(f"a read of a row of the {name} store", clock)
        self._write = Latencies(f"a small write to the {name} store", clock)
        self.kinds = (self._read, self._write) if table is not None else (self._write,)

    async def settle(self) -> None:
        """Measure what is usual."""
        for number in range(_WARM_UP + _BASELINE):
            if number == _WARM_UP:
                for latencies in self.kinds:
                    latencies.forget()
            await self.measure()
            if self._connection is None:
                break
        for latencies in self.kinds:
            latencies.settle()

    async def measure(self) -> None:
        """Measure once; where the store does not answer, the next time is with another connection."""
        try:
            async with asyncio.timeout(_PATIENCE):
                connection = self._connection or await self._connect()
                if self._read_sql:
                    await self._time(self._read, connection.fetchval(self._read_sql))
                await self._time(self._write, connection.execute(self._write_sql, self._id))
        except _AWAY:
            self._drop()
        except BaseException:
            self._drop()
            raise

    async def close(self) -> None:
        """Leave nothing behind."""
        if self._connection is not None:
            with suppress(*_AWAY):
                async with asyncio.timeout(_GRACE):
                    await self._connection.execute(
                        f"DELETE FROM {self._store.own('probe')} WHERE id = $1", self._id
                    )
        self._drop()

    async def _time(self, latencies: Latencies, asking: Awaitable[object]) -> None:
        latencies.begin()
        is_answered = False
        try:
            await asking
            is_answered = True
        except asyncio.CancelledError:  # out of patience, which says something too
            is_answered = True
            raise
        finally:
            latencies.end(counts=is_answered)

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        connection = await self._store.listen_connection()
        try:
            # Those of processes that were killed stay behind.
            await connection.execute(
                f"DELETE FROM {self._store.own('probe')} WHERE at < clock_timestamp() - interval '1 day'"
            )
            if self._table is not None:
                self._read_sql = await _reading(connection, self._table)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


async def _reading(connection: asyncpg.Connection[asyncpg.Record], table: StoredTable) -> str:
    """The query for one row of a table by its key; of an empty one, for nothing."""
    names = [quoted(name) for name in table.key]
    texts = ", ".join(f"{name}::text" for name in names)
    row = await connection.fetchrow(f"SELECT {texts} FROM {table.quoted} ORDER BY {', '.join(names)} LIMIT 1")
    if row is None:
        return ""
    columns = [table.columns[name] for name in table.key]
    where = " AND ".join(
        f"{name} = {from_text(column, literal(text))}"
        for name, column, text in zip(names, columns, row, strict=True)
    )
    return f"SELECT count(*) FROM {table.quoted} WHERE {where}"


def _percentile(durations: Sequence[float]) -> float:
    """The 95th percentile, from below: of five to twenty, the slowest one does not count."""
    return sorted(durations)[int(0.95 * (len(durations) - 1))]
