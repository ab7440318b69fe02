"""Writers beside the repository, as every real application has them.

One is a script with SQL of its own, the other new code that uses SQLAlchemy's sessions. Nothing but the stores' own
capture tells crossfade of what they write. Both change seeded rows, hot ones often, which the rest of the traffic
changes at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from crossfade.dsn import Dsn
from crossfade.schema import Schema
from crossfade.stages import Side
from marketplace.calls import Account
from marketplace.db import Database, connect
from marketplace.journal import Assigned, Created, Effect, Increased, Journal, RowKey
from marketplace.models import MODELS, AnalyticsData
from marketplace.population import Population
from marketplace.subjects import SUBJECTS
from marketplace.values import amount, moment
from marketplace.workload import pause

WRONG_AUTHORITY: Final = "XF001"
"""The SQLSTATE by which a store says that it takes no writes."""

_PATIENCE = 10.0
_PAUSE = 0.02
_BIRTHS = 0.2


class SqlScript:
    """Updates rows by plain SQL, in the store that takes them; it knows nothing but what a store tells it.

    `sent_on` counts how often a store refused a write and the other one took it.
    """

    def __init__(
        self,
        schema: Schema,
        stores: Mapping[Side, Dsn],
        known: Population,
        journal: Journal,
        account: Account,
    ) -> None:
        self.writes = 0
        self.sent_on = 0
        self._account = account
        self._schema = schema
        self._stores = stores
        self._known = known
        self._journal = journal
        self._side = dict.fromkeys(SUBJECTS, Side.PRISMA)

    async def run(self, stop: asyncio.Event, rate: float) -> None:
        """Write `rate` times a second until `stop` is set."""
        async with AsyncExitStack() as stack:
            connections = {
                side: await stack.enter_async_context(connect(dsn)) for side, dsn in self._stores.items()
            }
            while not stop.is_set():
                try:
                    await self._write(connections)
                except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                    self._account.failed("plain SQL", "update", type(error).__name__)
                await pause(stop, 1 / rate)

    async def _write(self, connections: Mapping[Side, asyncpg.Connection[asyncpg.Record]]) -> None:
        model, effects, by, value = _draw(self._known)
        spec, subject, row = self._schema.models[model], SUBJECTS[model], effects[0].row
        counter, field = (
            '"' + spec.fields[name].column + '"' for name in (subject.counter, next(iter(subject.tracked)))
        )
        sql = f'UPDATE "{spec.table}" SET {counter} = {counter} + $2, {field} = $3 WHERE id = $1'  # noqa: S608
        refusals = 0
        with self._journal.write(*effects):
            async with asyncio.timeout(_PATIENCE):
                while True:
                    side = self._side[model]
                    try:
                        await connections[side].execute(sql, row.key, by, _stored(value))
                    except asyncpg.PostgresError as error:
                        if error.sqlstate != WRONG_AUTHORITY:
                            raise
                    else:
                        break
                    refusals += 1
                    self._side[model] = side.other
                    await asyncio.sleep(_PAUSE)  # while the authority is handed over, neither takes it
        self.writes += 1
        self.sent_on += refusals > 0


class SessionWriter:
    """New code: changes rows through SQLAlchemy's sessions, of the models that `has_moved` says belong there."""

    def __init__(
        self,
        database: Database,
        known: Population,
        journal: Journal,
        account: Account,
        has_moved: Callable[[str], bool],
    ) -> None:
        self.writes = 0
        self.refused = 0
        self._account = account
        self._database = database
        self._known = known
        self._journal = journal
        self._has_moved = has_moved

    async def run(self, stop: asyncio.Event, rate: float) -> None:
        """Write `rate` times a second until `stop` is set."""
        while not stop.is_set():
            await pause(stop, 1 / rate)
            moved = [model for model in SUBJECTS if self._has_moved(model)]
            if moved:
                try:
                    await self._write(moved)
                except (SQLAlchemyError, OSError) as error:
                    self._account.failed("sessions", "update", type(error).__name__)

    async def _write(self, moved: list[str]) -> None:
        with self._journal.write() as write:
            try:
                if "AnalyticsData" in moved and self._known.rng.random() < _BIRTHS:
                    write.add(await self._create())
                else:
                    await self._change(write.add, moved)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != WRONG_AUTHORITY:
                    raise
                write.missed()  # the model has just moved back
                self.refused += 1
                return
        self.writes += 1

    async def _change(self, note: Callable[..., None], moved: list[str]) -> None:
        model, effects, by, value = _draw(self._known, moved)
        subject, record = SUBJECTS[model], MODELS[model]
        note(*effects)
        async with self._database.session() as session:
            row = await session.get_one(record, effects[0].row.key, with_for_update=True)
            setattr(row, subject.counter, getattr(row, subject.counter) + by)
            setattr(row, next(iter(subject.tracked)), value)

    async def _create(self) -> Created:
        bucket, exact = moment(self._known), amount(self._known)
        row = AnalyticsData(metric="session", bucket=bucket, amount=exact, samples=0)
        async with self._database.session() as session:
            session.add(row)
        return Created(RowKey("AnalyticsData", row.id), {"samples": 0, "amount": exact})


def _draw(known: Population, models: list[str] | None = None) -> tuple[str, tuple[Effect, ...], int, Any]:
    model = known.rng.choice(models or list(SUBJECTS))
    subject, row = SUBJECTS[model], RowKey(model, known.seeded(model))
    field, make = next(iter(subject.tracked.items()))
    by, value = known.rng.randint(1, 3), make(known)
    return model, (Increased(row, subject.counter, by), Assigned(row, field, value)), by, value


def _stored(value: Any) -> Any:
    """A value as the driver takes it: the stores keep these times in UTC, without a zone."""
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value
