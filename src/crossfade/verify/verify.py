"""Compare both stores, table by table, while everybody goes on writing.

Theory of operation. A table is divided into pieces (`pieces`), each piece is compared in the databases (`checksums`),
and what does not look the same comes out as keys, the suspects. Two statements in two databases never see the same
moment, so a suspect proves nothing: it is looked at again until it has come to rest (`settling`). Only then is it said
to differ, and in which columns (`columns`). How far a run is, and what it has found, stands in the target store
(`notes`), so that a run that was ended half-way goes on where it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from crossfade.errors import StoreUnavailableError, VerifyError
from crossfade.events import NullObserver, Observer
from crossfade.reconcile import Reconciler
from crossfade.reconcile.pair import Pair
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.crossing import Crossing, read_crossings
from crossfade.store.record import Record, effective, read_records
from crossfade.store.store import LOST
from crossfade.verify.hashing import agree
from crossfade.verify.images import RedactedImages
from crossfade.verify.notes import turn
from crossfade.verify.pieces import measure
from crossfade.verify.report import Kind, TableReport
from crossfade.verify.settings import Mode, VerifySettings
from crossfade.verify.table import Question, TableWork, dated


class Verify:
    """Compares the rows of both stores.

    Args:
        stores: both, with crossfade's objects in them.
        reconciler: settles what is captured, and repairs if asked to.
        observer: hears of chunks and of rows that differ.
        settings: bounds.
        by: who asks, for the notes.
    """

    def __init__(
        self,
        stores: Mapping[Side, Store],
        reconciler: Reconciler,
        observer: Observer | None = None,
        settings: VerifySettings | None = None,
        *,
        by: str = "",
    ) -> None:
        self._stores = stores
        self._reconciler = reconciler
        self._observer = observer or NullObserver()
        self._settings = settings or VerifySettings()
        self._by = by

    async def estimate(self, models: Iterable[str] | None = None) -> dict[str, int]:
        """About how many rows there are of each model, the many-to-many tables that it owns included.

        Raises:
            UnknownModelError: there is no such model.
            StoreUnavailableError: a store does not answer.
            InstallError: the stores do not match, or crossfade is not installed in one.
        """
        tables, _ = await self._tables(models)
        found: Counter[str] = Counter()
        async with self._stores[Side.PRISMA].transaction() as connection:
            for crossing in tables:
                found[crossing.owner] += (await measure(connection, crossing, Side.PRISMA)).rows
        return dict(found)

    async def run(
        self,
        models: Iterable[str] | None = None,
        *,
        mode: Mode = Mode.WHOLE,
        sample: float | None = None,
        since: datetime | None = None,
        repair: bool = False,
        fresh: bool = False,
        images: RedactedImages | None = None,
    ) -> list[TableReport]:
        """Compare the tables of `models`, of all by default, parents before children.

        Args:
            models: by name; the many-to-many tables that they own go with them.
            mode: how; a `sample` or `since` makes it one of that kind.
            sample: the share of the chunks that is compared, above 0 and up to 1.
            since: compare rows alone that were written at or after this time in either store, by their `@updatedAt`
                column. Many-to-many tables have none, and are compared as a whole.
            repair: have the reconciler bring what differs level with the authority, and compare again.
            fresh: do not go on with an earlier run.
            images: where redacted images of differing rows are written, before anything is repaired.

        Raises:
            UnknownModelError: there is no such model.
            VerifyError: it cannot be done as asked.
            StoreUnavailableError: a store does not answer.
            InstallError: the stores do not match, or crossfade is not installed in one.
        """
        tables, pair = await self._tables(models)
        question = await self._question(mode, sample, since)
        if question.since is not None:
            self._check_dated(tables)
        if images is not None and (unknown := images.unknown(tables)):
            raise VerifyError(tables[0].model, f"no table that is compared has a column {', '.join(unknown)}")
        try:
            hashing = await agree(self._stores)
            records = await self._records()
            if repair:
                _check_repairable(tables, records)
            async with turn(self._stores[Side.SQLALCHEMY], tables):
                work = [
                    TableWork(
                        self._stores,
                        crossing,
                        (records.get(crossing.owner) or Record(crossing.owner)).authority.other,
                        pair,
                        self._reconciler,
                        self._observer,
                        self._settings,
                        hashing,
                    )
                    for crossing in tables
                ]
                # Keys that wait to be verified would only be suspects, to be waited for one by one; and to settle a
                # child may settle its parent.
                await self._reconciler.catch_up(
                    {crossing.owner for crossing in tables}, self._settings.patience
                )
                reports = [await one.verify(question, self._by, fresh=fresh, images=images) for one in work]
                if repair:
                    reports = await self._repair(work, reports, question)
        except LOST as error:
            where = " or ".join(store.where for store in self._stores.values())
            raise StoreUnavailableError(where, str(error) or type(error).__name__) from error
        return reports

    async def _tables(self, models: Iterable[str] | None) -> tuple[list[Crossing], Pair]:
        schema = self._stores[Side.PRISMA].schema
        wanted = None if models is None else [schema.model(name).name for name in models]
        pair = await Pair.open(self._stores)
        for store in self._stores.values():
            await store.check_installed()
        crossings = read_crossings(self._stores)
        return [crossings[name] for name in pair.tables(wanted)], pair

    async def _records(self) -> Mapping[str, Record]:
        answers = []
        for store in self._stores.values():
            async with store.transaction() as connection:
                answers.append(await read_records(connection, store))
        return effective(*answers)

    async def _question(self, mode: Mode, sample: float | None, since: datetime | None) -> Question:
        if sample is not None and not 0 < sample <= 1:
            raise VerifyError(
                "a sample", f"{sample:g} is no share of the chunks; give one above 0 and up to 1"
            )
        if sample is None and mode is Mode.SAMPLE:
            raise VerifyError("a sample", "say which share of the chunks belongs to it")
        if since is None and mode is Mode.SINCE:
            raise VerifyError("rows since a time", "say since when")
        if since is not None and since.tzinfo is None:
            raise VerifyError("rows since a time", "a time needs its time zone")
        legacy = self._stores[Side.PRISMA]
        async with legacy.transaction() as connection:
            installed = await connection.fetchval(
                f"SELECT min(at) FROM {legacy.own('installation')}"  # noqa: S608
            )
        noted = mode if since is None and sample is None else Mode.SINCE if since is not None else Mode.SAMPLE
        return Question(noted, mode is Mode.DEEP, sample, since, installed)

    def _check_dated(self, tables: Sequence[Crossing]) -> None:
        undated = [
            crossing.model
            for crossing in tables
            if crossing.model == crossing.owner and dated(self._stores, crossing) is None
        ]
        if undated:
            raise VerifyError(
                ", ".join(undated),
                "no column there says when a row was written (@updatedAt); leave --since out, or name other models",
            )

    async def _repair(
        self, work: Sequence[TableWork], reports: Sequence[TableReport], question: Question
    ) -> list[TableReport]:
        """Give what differs to the reconciler, and compare those tables again."""
        differing = [one for one, report in zip(work, reports, strict=True) if report.differing]
        repaired: Counter[str] = Counter()
        for one in reversed(differing):  # a row that is to go may be referred to by others that are
            repaired[one.model] += await one.repair([Kind.EXTRA])
        for one in differing:
            repaired[one.model] += await one.repair([Kind.MISSING, Kind.DIFFERENT])
        again = {}
        for one in differing:
            await one.notes.repaired(repaired[one.model])
            again[one.model] = await one.verify(question, self._by, fresh=True, images=None)
        return [
            report
            if report.model not in again
            else replace(
                report,
                state=again[report.model].state,
                rows=again[report.model].rows,
                in_flight=again[report.model].in_flight,
                repaired=repaired[report.model],
                remaining=again[report.model].remaining,
                seconds=report.seconds + again[report.model].seconds,
                is_cut=again[report.model].is_cut,
            )
            for report in reports
        ]


def _check_repairable(tables: Sequence[Crossing], records: Mapping[str, Record]) -> None:
    left_alone = sorted(
        {
            crossing.owner
            for crossing in tables
            if (record := records.get(crossing.owner)) and (record.final or record.forced or record.moving_to)
        }
    )
    if left_alone:
        raise VerifyError(
            ", ".join(left_alone),
            "nobody's rows win there now: it is on the move, final, or was taken back by force; leave --repair out",
        )
