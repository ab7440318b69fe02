"""Everything that has to be done before a model may be read from the target store, in one call.

What the commands `backfill` and `verify` do one after the other, for whoever sets a migration up by program.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from crossfade.backfill.backfill import Backfill
from crossfade.backfill.settings import BackfillSettings
from crossfade.errors import VerifyError
from crossfade.events import NullObserver, Observer
from crossfade.reconcile import Reconciler
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.view import RecordView
from crossfade.verify.report import TableReport
from crossfade.verify.verify import Verify


@asynccontextmanager
async def settling(stores: Mapping[Side, Store], observer: Observer) -> AsyncIterator[Reconciler]:
    """A reconciler that works at `off` too, when asked: the legacy store has the authority there.

    The reconcilers of applications leave models at `off` alone, because nobody feeds the target store then.
    """
    async with RecordView(stores) as view:
        yield Reconciler(stores, view.settling, observer, stale=view.refresh)


async def cover(
    stores: Mapping[Side, Store],
    models: Iterable[str] | None = None,
    *,
    by: str,
    observer: Observer | None = None,
    settings: BackfillSettings | None = None,
) -> list[TableReport]:
    """Copy and verify `models` (all by default), so that the gates of their steps to `shadow` and further hold.

    Raises:
        BackfillError: rows cannot be copied.
        VerifyError: rows differ although they were copied and had time to settle.
        InstallError: crossfade is not installed.
        StoreUnavailableError: a store does not answer.
    """
    hears = observer or NullObserver()
    wanted = None if models is None else list(models)
    async with settling(stores, hears) as reconciler:
        await Backfill(stores, reconciler, hears, settings or BackfillSettings(), by=by).run(wanted)
        reports = await Verify(stores, reconciler, hears, by=by).run(wanted)
    for report in reports:
        if report.state != "clean":
            raise VerifyError(
                report.owner, f"{report.model} is {report.state}; look with `crossfade verify {report.owner}`"
            )
    return reports
