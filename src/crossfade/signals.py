"""What this process sees, published to the legacy store, for whoever leads the fleet to judge by.

Publishing happens every second, off everybody's time, and whatever goes wrong there stays there: what could not be said
is said the next time.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self
from uuid import UUID, uuid4

import asyncpg

from crossfade.events import Event, Role
from crossfade.schema import Schema
from crossfade.stages import PLANS, Side, Topology
from crossfade.store.publishing import (
    delete_process,
    write_comparisons,
    write_evidence,
    write_process,
    write_spanned,
    write_timings,
)
from crossfade.store.record import Record
from crossfade.store.signals import BOUNDS
from crossfade.store.store import Store
from crossfade.store.view import RecordView
from crossfade.tally import Batch, Tally

__all__ = ["BOUNDS", "Signals"]

_ANSWER_SECONDS = 3.0
"""A store that takes longer than this to take note is away."""
_MOST_PAGES = 256
"""How many pages of bitmaps are written at once; the others wait for the next time, and gather more bits."""


class _ForgottenError(Exception):
    """The leader has thrown this process's row away, and added its sums to those of the departed."""


class Signals:
    """Publishes what one process sees. Open it with `async with`, in the event loop that its facts come from.

    Args:
        store: the legacy store; it need not be open, nor answer.
        schema: the models.
        view: this process's view of the record.
        name: what this process is called in `crossfade status`; its host and process id by default.
        interval: how often it publishes, in seconds.
        leads: whether this process's conductor leads.
        epochs: the epochs of the records that this process acts by; those of `view` by default.
    """

    def __init__(
        self,
        store: Store,
        schema: Schema,
        view: RecordView,
        *,
        name: str | None = None,
        interval: float = 1.0,
        leads: Callable[[], bool] = lambda: False,
        epochs: Callable[[], Mapping[str, int]] | None = None,
    ) -> None:
        self._store = store
        self._given_name = name
        self._interval = interval
        self._leads = leads
        self._epochs = epochs or (lambda: {model: record.epoch for model, record in view.records.items()})
        self._view = view
        self._tally = Tally(schema, lambda model: view.record(model).entered, self._asked)
        view.on_change(self._enter)
        # A process that is forked off is another one, with an id and a name of its own: they are made at the start.
        self.id = UUID(int=0)
        self.name = ""
        self._turn = asyncio.Lock()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._is_known = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._begin()
        self.name = self._given_name or f"{socket.gethostname()}:{os.getpid()}"
        self._task = asyncio.create_task(self._publish_for_ever(), name="signals")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            async with self._turn:  # to cut off what is being published would cost the connection
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._connection is not None:
            await self.flush()
        if self._connection is not None:  # the store answers
            with suppress(Exception):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await delete_process(self._connection, self._store, self.id)
        self._drop()

    def observe(self, event: Event) -> None:
        """Take note of `event`."""
        self._tally.observe(event)

    async def flush(self) -> None:
        """Publish all that is not published yet. Never raises: what a store does not take is kept for later."""
        await self._publish(sys.maxsize)

    def _asked(self, model: str, role: Role) -> Side | None:
        """Which side is asked in a role, as a model stands: the same one in both topologies."""
        plan = PLANS[Topology.SEPARATE][self._view.record(model).stage]
        return plan.shadow if role is Role.SHADOW else plan.follower

    def _begin(self) -> None:
        self.id = uuid4()
        self._is_known = False
        self._tally.forget()

    def _enter(self, record: Record) -> None:
        self._tally.enter(record.model, record.entered)

    async def _publish_for_ever(self) -> None:
        while True:
            await self._publish(_MOST_PAGES)
            await asyncio.sleep(self._interval)

    async def _publish(self, most_pages: int) -> None:
        async with self._turn:
            batch = self._tally.take(most_pages)
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    connection = await self._connected()
                    # Undone, where need be, by dropping the connection: a store that is stalled would not hear of it.
                    transaction = connection.transaction()
                    await transaction.start()
                    await self._write(connection, batch)
                    await transaction.commit()
                self._is_known = True
            except _ForgottenError:
                self._drop()
                self._begin()
            except Exception:  # noqa: BLE001  # whatever it is, it is not the application's concern, and is tried again
                self._drop()
                self._tally.put_back(batch)
            except BaseException:
                self._drop()
                self._tally.put_back(batch)
                raise

    async def _write(self, connection: asyncpg.Connection[asyncpg.Record], batch: Batch) -> None:
        store = self._store
        is_new = await write_process(
            connection, store, self.id, self.name, self._epochs(), leads=self._leads()
        )
        if is_new and self._is_known:
            raise _ForgottenError
        if batch.timings:
            await write_timings(connection, store, self.id, batch.timings)
        if batch.comparisons:
            await write_comparisons(connection, store, self.id, batch.comparisons)
        # What others write as well comes last, so that nobody waits for long.
        if batch.spanned:
            await write_spanned(connection, store, batch.spanned)
        if batch.evidence:
            await write_evidence(connection, store, batch.evidence)

    async def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._store.listen_connection()
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
