"""The record: where each model stands, kept in both stores, and each process's view of it.

Rules:

* The record with the highest epoch is in force. Every write of a record raises its epoch and names the epoch that it
  expects to find; a writer that has been overtaken is refused (`SupersededError`) and has changed nothing.
* Every write is kept in the store's `history` as well, with who made it and why.
* A `RecordView` remembers what it saw last in each store, so that a store that goes away takes nothing back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Self

import asyncpg

from crossfade.errors import CrossfadeError, StoreUnavailableError
from crossfade.stages import PLANS, Side, Stage, Topology, has_begun
from crossfade.store.objects import RECORD_CHANNEL, Fence
from crossfade.store.store import LOST, Store
from crossfade.store.tables import Connection

_NEVER = datetime.fromtimestamp(0, UTC)


class SupersededError(CrossfadeError):
    """A record has another epoch than its writer expected: somebody else has moved the model meanwhile."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where one model stands. `moving_to` is set while its authority is being handed over.

    `final` models are not moved any more. `forced` is set from a forced rollback until what was lost is listed.
    """

    model: str
    stage: Stage = Stage.OFF
    moving_to: Stage | None = None
    epoch: int = 0
    final: bool = False
    forced: bool = False
    since: datetime = _NEVER
    by: str = ""
    reason: str = ""

    @property
    def authority(self) -> Side:
        """The side that takes writes, or took them until this move began."""
        return PLANS[Topology.SEPARATE][self.stage].authority

    def fence(self, side: Side) -> Fence:
        """How the store of `side` stands when no move is under way."""
        if side is self.authority:
            return Fence.AUTHORITY
        # What was lost is listed from the rows as they are, so nothing may change them until then.
        return Fence.FROZEN if self.forced else Fence.FOLLOWER


async def read_records(
    connection: Connection, store: Store, models: Collection[str] | None = None, *, lock: bool = False
) -> dict[str, Record]:
    """Read what a store says of `models`, or of all; empty where crossfade is not installed.

    With `lock` the records are held until the transaction ends, and one that is being written is waited for.
    """
    query = (
        "SELECT model, stage, moving_to, epoch, final, forced, since, by, reason"  # noqa: S608
        f" FROM {store.own('record')} WHERE $1::text[] IS NULL OR model = ANY ($1) ORDER BY model"
    )
    try:
        rows = await connection.fetch(
            query + (" FOR UPDATE" if lock else ""), None if models is None else list(models)
        )
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return {}
    return {row["model"]: _record(row) for row in rows}


def _record(row: asyncpg.Record) -> Record:
    values: dict[str, Any] = dict(row)
    values["stage"] = Stage(values["stage"])
    if values["moving_to"] is not None:
        values["moving_to"] = Stage(values["moving_to"])
    return Record(**values)


def effective(*answers: Mapping[str, Record]) -> dict[str, Record]:
    """Return the records in force: of every model the one with the highest epoch. A store that is away is left out."""
    found: dict[str, Record] = {}
    for answer in answers:
        for model, record in answer.items():
            if model not in found or record.epoch > found[model].epoch:
                found[model] = record
    return found


async def guard(connection: Connection, store: Store, expected: Mapping[str, int]) -> dict[str, Record]:
    """Hold the records of a store for this transaction, and return them if they have the expected epochs.

    Raises:
        SupersededError: they have others.
    """
    records = await read_records(connection, store, expected, lock=True)
    _compare(store, expected, {model: record.epoch for model, record in records.items()})
    return records


async def advance(
    connection: Connection,
    store: Store,
    records: Sequence[Record],
    *,
    expected: Mapping[str, int],
    pause: float | None = None,
) -> None:
    """Write records in place of those with the `expected` epochs, all or none, and add them to the history.

    Args:
        connection: a transaction on `store`.
        store: where.
        records: what is to stand there; `since` is taken from the store's clock.
        expected: the epoch, by model, that is to stand there before.
        pause: how long writers have waited, in seconds, for the history.

    Raises:
        SupersededError: a model has another epoch.
    """
    written = await connection.fetch(
        f"UPDATE {store.own('record')} AS r SET stage = n.stage, moving_to = n.moving_to, epoch = n.epoch,"  # noqa: S608
        " final = n.final, forced = n.forced, by = n.by, reason = n.reason,"
        " since = CASE WHEN r.stage = n.stage THEN r.since ELSE clock_timestamp() END"
        " FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bool[], $6::bool[], $7::text[],"
        " $8::text[], $9::bigint[])"
        " AS n (model, stage, moving_to, epoch, final, forced, by, reason, expected)"
        " WHERE r.model = n.model AND r.epoch = n.expected RETURNING r.model, n.expected",
        [record.model for record in records],
        [record.stage for record in records],
        [record.moving_to for record in records],
        [record.epoch for record in records],
        [record.final for record in records],
        [record.forced for record in records],
        [record.by for record in records],
        [record.reason for record in records],
        [expected[record.model] for record in records],
    )
    wanted = {record.model: expected[record.model] for record in records}
    _compare(store, wanted, {row["model"]: row["expected"] for row in written})
    await keep(connection, store, records, pause=pause)


async def keep(
    connection: Connection, store: Store, records: Sequence[Record], *, pause: float | None = None
) -> None:
    """Add to the history what `records` say, without changing the record."""
    await connection.executemany(
        f"INSERT INTO {store.own('history')} (model, epoch, stage, moving_to, by, reason, pause)"  # noqa: S608
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [(r.model, r.epoch, r.stage, r.moving_to, r.by, r.reason, pause) for r in records],
    )


def _compare(store: Store, expected: Mapping[str, int], found: Mapping[str, int]) -> None:
    others = sorted(model for model, epoch in expected.items() if found.get(model) != epoch)
    if others:
        raise SupersededError(
            f"the record of {', '.join(others)} at {store.where} has been written by another"
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a store's history: a record that was written, or why a step was held."""

    id: int
    model: str
    stage: Stage
    moving_to: Stage | None
    by: str
    reason: str
    pause: float | None
    at: datetime


async def read_history(connection: Connection, store: Store, model: str | None, *, after: int) -> list[Entry]:
    """Read the history of one model, or of all, from behind the entry `after` on."""
    rows = await connection.fetch(
        "SELECT id, model, stage, moving_to, by, reason, pause, at"  # noqa: S608
        f" FROM {store.own('history')} WHERE id > $1 AND ($2::text IS NULL OR model = $2) ORDER BY id",
        after,
        model,
    )
    return [
        Entry(
            **dict(row)
            | {
                "stage": Stage(row["stage"]),
                "moving_to": None if row["moving_to"] is None else Stage(row["moving_to"]),
            }
        )
        for row in rows
    ]


class RecordView:
    """What this process knows of the record. Open it with `async with`, before anything is served.

    It listens in every store and reads every `poll` seconds beside, `hurried` while somebody waits for news. The
    stores need not be open: it has connections of its own, which are made anew when they break.
    """

    def __init__(self, stores: Mapping[Side, Store], *, poll: float = 1.0, hurried: float = 0.05) -> None:
        self._poll = poll
        self._hurried = hurried
        self._watches = {side: _Watch(store, self._heard) for side, store in stores.items()}
        self._records: dict[str, Record] = {}
        self._callbacks: list[Callable[[Record], None]] = []
        self._waiting: dict[asyncio.Future[Record], tuple[str, int]] = {}
        self._tasks: list[asyncio.Task[None]] = []

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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
        now = asyncio.get_running_loop().time()
        return min(now - watch.read_at for watch in self._watches.values())

    def on_change(self, callback: Callable[[Record], None]) -> None:
        """Have `callback` called with every record that comes into force from now on."""
        self._callbacks.append(callback)

    async def refresh(self) -> None:
        """Read every store that answers now."""
        await asyncio.gather(*(watch.read() for watch in self._watches.values()))

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


class _Watch:
    """One store's records, as they were read last, and the connection that they are read by."""

    def __init__(self, store: Store, heard: Callable[[], None]) -> None:
        self.store = store
        self.records: Mapping[str, Record] = {}
        self.answers = False
        self.read_at = float("-inf")
        self.woken = asyncio.Event()
        self._heard = heard
        self._turn = asyncio.Lock()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def read(self) -> StoreUnavailableError | None:
        """Read the records now; return why, if that is not possible. What was known stays known then."""
        started = asyncio.get_running_loop().time()
        async with self._turn:
            if self.read_at > started:  # somebody else read while this one waited for its turn
                return None
            began = asyncio.get_running_loop().time()
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
