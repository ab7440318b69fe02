"""The process of a drill that copies history: a backfill and then a verification, until both are done."""

from __future__ import annotations

import asyncio
from typing import Final

from crossfade.backfill.backfill import Backfill
from crossfade.backfill.settings import BackfillSettings
from crossfade.backfill.throttle import Throttle
from crossfade.drill.journal import JournalFile
from crossfade.drill.models import MODELS, SCHEMA
from crossfade.drill.order import ProcessOrder
from crossfade.errors import CrossfadeError
from crossfade.events import Observers
from crossfade.logs import StructlogObserver, configure_logging
from crossfade.reconcile import Reconciler
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.verify.verify import Verify

COPIED: Final = "copied"
VERIFIED: Final = "verified"
FAILED: Final = "failed"
_CHUNK_SECONDS = 0.25


async def run_copier(order: ProcessOrder, journal: JournalFile, stop: asyncio.Event) -> None:
    """Copy and verify every model at `order.rate` rows a second, note what came of it, and wait for the end."""
    configure_logging(json=True, level="info")
    stores = {side: Store(side, order.store(side).dsn, SCHEMA, home=order.store(side).home) for side in Side}
    observer = StructlogObserver()
    # No model of a drill has moved its authority while its history is copied.
    reconciler = Reconciler(stores, lambda _: Side.PRISMA, observer)
    settings = BackfillSettings(chunk_seconds=_CHUNK_SECONDS, first_chunk=500, smallest_chunk=100)
    task = asyncio.current_task()
    assert task is not None
    watch = asyncio.create_task(_cancel_at(stop, task))
    try:
        pace = Throttle(observer, max_rate=order.rate)
        for copied in await Backfill(
            stores, reconciler, Observers(observer, pace), settings, by=order.name, throttle=pace
        ).run(MODELS):
            journal.mark(COPIED, f"{copied.model} {copied.rows_written}")
        for verified in await Verify(stores, reconciler, observer, by=order.name).run(MODELS):
            journal.mark(VERIFIED, f"{verified.model} {verified.state}")
    except CrossfadeError as error:
        journal.mark(FAILED, str(error))
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    finally:
        watch.cancel()
        for store in stores.values():
            await store.close()


async def _cancel_at(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
    await stop.wait()
    task.cancel()
