"""Compare both stores, table by table, while everybody goes on writing.

Theory of operation. A table is divided into pieces (`pieces`), each piece is compared in the databases (`checksums`),
and what does not look the same comes out as keys, the suspects. Two statements in two databases never see the same
moment, so a suspect proves nothing: it is looked at again until it has come to rest (`settling`). Only then is it said
to differ, and in which columns (`columns`). How far a run is, and what it has found, stands in the target store
(`notes`), so that a run that was ended half-way goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from time import monotonic
from types import MappingProxyType

from crossfade.errors import StoreUnavailableError, VerifyError
from crossfade.events import ChunkVerified, NullObserver, Observer, RowsDiffered
from crossfade.reconcile import Reconciler
from crossfade.reconcile.pair import Pair
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.crossing import Crossing, read_crossings
from crossfade.store.ranges import Key
from crossfade.store.record import Record, effective, read_records
from crossfade.store.store import LOST
from crossfade.store.tables import literal, quoted
from crossfade.verify.checksums import Checksums, Compared
from crossfade.verify.columns import differing_columns
from crossfade.verify.hashing import Hashing, agree
from crossfade.verify.images import RedactedImages
from crossfade.verify.notes import Notes, Run, turn
from crossfade.verify.pieces import Piece, Pieces, Way, choose, cut_by_hashes, cut_by_ranges, measure
from crossfade.verify.report import Differing, Kind, TableReport, Verdict
from crossfade.verify.settings import Mode, VerifySettings
from crossfade.verify.settling import Settling

_REPAIRED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of every table."""

    mode: Mode
    is_deep: bool
    sample: float | None
    since: datetime | None
    installed: datetime


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
            async with turn(self._stores[Side.SQLALCHEMY], tables):
                work = [
                    _Table(
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

    async def _question(self, mode: Mode, sample: float | None, since: datetime | None) -> _Question:
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
        return _Question(noted, mode is Mode.DEEP, sample, since, installed)

    def _check_dated(self, tables: Sequence[Crossing]) -> None:
        undated = [
            crossing.model
            for crossing in tables
            if crossing.model == crossing.owner and _dated(self._stores, crossing) is None
        ]
        if undated:
            raise VerifyError(
                ", ".join(undated),
                "no column there says when a row was written (@updatedAt); leave --since out, or name other models",
            )

    async def _repair(
        self, work: Sequence[_Table], reports: Sequence[TableReport], question: _Question
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


class _Table:
    """The work on one table."""

    def __init__(
        self,
        stores: Mapping[Side, Store],
        crossing: Crossing,
        towards: Side,
        pair: Pair,
        reconciler: Reconciler,
        observer: Observer,
        settings: VerifySettings,
        hashing: Hashing,
    ) -> None:
        self._stores = stores
        self._crossing = crossing
        self._towards = towards
        self._images = {side: pair.images[side][crossing.model] for side in Side}
        self._reconciler = reconciler
        self._observer = observer
        self._settings = settings
        self._hashing = hashing
        self._differing: list[Differing] = []
        self.notes = Notes(stores[Side.SQLALCHEMY], crossing)

    @property
    def model(self) -> str:
        """The table's model."""
        return self._crossing.model

    async def verify(
        self, question: _Question, by: str, *, fresh: bool, images: RedactedImages | None
    ) -> TableReport:
        """Compare the table."""
        started = monotonic()
        settings, owner = self._settings, self._crossing.owner
        # Keys that wait to be verified would only be suspects, to be waited for one by one.
        await self._reconciler.catch_up([owner], settings.patience)
        stores = self._stores
        async with (
            stores[Side.PRISMA].transaction() as legacy,
            stores[Side.SQLALCHEMY].transaction() as target,
        ):
            way, size = await choose(self._crossing, legacy, target)
            run = await self.notes.begin(
                question.mode,
                self._scope(question, way),
                question.installed,
                by,
                fresh=fresh,
                within=settings.resume_within,
            )
            rows = settings.deep_rows if question.is_deep else settings.chunk_rows
            pieces: Pieces
            if way is Way.RANGES:
                pieces = await cut_by_ranges(
                    legacy, self._crossing, size, run.after, rows=rows, seed=settings.seed
                )
            else:
                part_rows = settings.deep_rows if question.is_deep else settings.part_rows
                pieces = cut_by_hashes(self._crossing, self._hashing, size, run.after, rows=part_rows)
        if question.sample is not None:
            pieces.sample(question.sample, Random(f"{settings.seed}:{self.model}"))  # noqa: S311
        is_cut = await self._compare(run, pieces, question)
        return await self._report(run, question, started, images, is_cut=is_cut)

    async def repair(self, kinds: Sequence[Kind]) -> int:
        """Have the reconciler settle what differs in one of these ways; return how many rows it has changed."""
        keys = [row.key for row in self._differing if row.kind in kinds]
        repaired = 0
        for start in range(0, len(keys), _REPAIRED_AT_ONCE):
            repaired += await self._reconciler.settle_keys(
                self.model, keys[start : start + _REPAIRED_AT_ONCE]
            )
        return repaired

    def _scope(self, question: _Question, way: Way) -> str:
        words = [str(way)]
        if question.is_deep:
            words.append("deep")
        if question.sample is not None:
            words.append(f"sample {question.sample:g} of {self._settings.seed}")
        if question.since is not None:
            words.append(f"since {question.since.astimezone(UTC).isoformat()}")
        return ", ".join(words)

    async def _compare(self, run: Run, pieces: Pieces, question: _Question) -> bool:
        """Compare every piece, and settle what does not look the same; return whether the rest was left."""
        most = self._settings.most_differences
        settling = Settling(
            self._stores,
            self._crossing,
            self._towards,
            self._images,
            None if question.is_deep else self._hashing,
            self._settings,
            lambda: self._reconciler.run_once([self._crossing.owner]),
        )
        while True:
            is_over, is_cut = await self._scan(run, pieces, question)
            settled = await settling.settle(run.suspects)
            await self._note(run, list(run.suspects), settled.differing, settled.in_flight, question)
            if len(run.differing) >= most:
                return True
            if is_over:
                return is_cut

    async def _scan(self, run: Run, pieces: Pieces, question: _Question) -> tuple[bool, bool]:
        """Compare pieces until many are suspect; say whether it is over, and whether something was left then."""
        settings = self._settings
        checksums = Checksums(
            self._stores,
            self._crossing,
            self._towards,
            self._hashing,
            since=self._since(question),
            most=settings.most_differences,
        )
        compare = checksums.compare_rows if question.is_deep else checksums.compare
        rows = smallest = settings.deep_rows if question.is_deep else settings.chunk_rows
        most = len(run.suspects) + settings.most_differences
        under_way: deque[tuple[Piece, asyncio.Task[tuple[Compared, float]]]] = deque()
        is_over = False
        try:
            while True:
                while not is_over and len(under_way) < settings.workers and len(run.suspects) < most:
                    piece = pieces.take(rows)
                    if piece is None:
                        is_over = True
                    else:
                        under_way.append((piece, asyncio.create_task(_timed(compare(piece)))))
                if not under_way:
                    return is_over, False
                piece, task = under_way[0]
                compared, seconds = await task
                under_way.popleft()
                if compared.is_cut:  # it is not done, and a run that goes on has to begin with it
                    await self.notes.suspect(run, compared.suspects)
                    return True, True
                await self.notes.advance(run, piece.last, compared.rows, compared.suspects)
                self._observer.observe(ChunkVerified(self._crossing.owner, compared.rows, seconds))
                if not question.is_deep:
                    fitting = compared.rows * settings.chunk_seconds / max(seconds, 0.001)
                    rows = round(min(max(fitting, rows / 2, smallest / 5), rows * 2, settings.largest_chunk))
        finally:
            for _, task in under_way:
                task.cancel()
            await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)

    async def _note(
        self,
        run: Run,
        suspects: Sequence[Key],
        kinds: Mapping[Key, Kind],
        in_flight: set[Key],
        question: _Question,
    ) -> None:
        both = sorted(key for key, kind in kinds.items() if kind is Kind.DIFFERENT)
        columns: dict[Key, tuple[str, ...]] = {}
        for start in range(0, len(both), self._settings.look_rows):
            columns |= await differing_columns(
                self._stores,
                self._crossing,
                self._towards,
                self._images,
                None if question.is_deep else self._hashing,
                both[start : start + self._settings.look_rows],
            )
        found = [Differing(key, kinds[key], columns.get(key, ())) for key in sorted(kinds)]
        await self.notes.resolve(run, suspects, found, in_flight)

    async def _report(
        self,
        run: Run,
        question: _Question,
        started: float,
        images: RedactedImages | None,
        *,
        is_cut: bool,
    ) -> TableReport:
        kinds = Counter(row.kind for row in run.differing)
        in_flight = len(run.suspects)
        state = (
            Verdict.DIFFERING
            if run.differing
            else Verdict.UNSETTLED
            if in_flight or is_cut
            else Verdict.CLEAN
        )
        await self.notes.finish(run, state, in_flight=in_flight)
        self._differing = sorted(run.differing, key=lambda row: row.key)
        for kind, count in kinds.items():
            self._observer.observe(RowsDiffered(self._crossing.owner, kind, count))
        if images is not None and run.differing:
            await images.write(self._stores, self._crossing, self._images, self._differing)
        columns = Counter(name for row in run.differing for name in row.columns)
        return TableReport(
            model=self.model,
            owner=self._crossing.owner,
            mode=question.mode,
            state=state,
            rows=run.rows,
            chunks=run.chunks,
            missing=kinds[Kind.MISSING],
            extra=kinds[Kind.EXTRA],
            different=kinds[Kind.DIFFERENT],
            columns=MappingProxyType(dict(columns.most_common())),
            in_flight=in_flight,
            remaining=len(run.differing),
            seconds=monotonic() - started,
            examples=tuple(self._differing[: self._settings.examples]),
            is_cut=is_cut,
        )

    def _since(self, question: _Question) -> Mapping[Side, str] | None:
        if question.since is None:
            return None
        names = _dated(self._stores, self._crossing)
        if names is None:
            return None
        time = literal(question.since.astimezone(UTC).isoformat())
        return {side: f"t.{quoted(name)} >= {time}::timestamptz" for side, name in names.items()}


def _dated(stores: Mapping[Side, Store], crossing: Crossing) -> dict[Side, str] | None:
    """The column that says when a row was written last, by its name on each side."""
    spec = stores[Side.PRISMA].schema.models.get(crossing.model)
    if spec is None:
        return None
    written = {field.column for field in spec.fields.values() if field.is_updated_at}
    for column in crossing.columns:
        if column.legacy.name in written:
            return {side: column.on(side).name for side in Side}
    return None


async def _timed(work: Awaitable[Compared]) -> tuple[Compared, float]:
    started = monotonic()
    return await work, monotonic() - started
