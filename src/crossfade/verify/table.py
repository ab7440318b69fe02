"""The work on one table: compare its pieces, settle what looks different, and tell what it came to."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from time import monotonic
from types import MappingProxyType

from crossfade.events import ChunkVerified, Observer, RowsDiffered
from crossfade.reconcile import Reconciler
from crossfade.reconcile.pair import Pair
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.crossing import Crossing
from crossfade.store.ranges import Key
from crossfade.store.tables import literal, quoted
from crossfade.verify.checksums import Checksums, Compared
from crossfade.verify.columns import differing_columns
from crossfade.verify.hashing import Hashing
from crossfade.verify.images import RedactedImages
from crossfade.verify.notes import Notes, Run
from crossfade.verify.pieces import Piece, Pieces, Way, choose, cut_by_hashes, cut_by_ranges
from crossfade.verify.report import Differing, Kind, TableReport, Verdict
from crossfade.verify.settings import Mode, VerifySettings
from crossfade.verify.settling import Settling

_REPAIRED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every table."""

    mode: Mode
    is_deep: bool
    sample: float | None
    since: datetime | None
    installed: datetime


class TableWork:
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
        self, question: Question, by: str, *, fresh: bool, images: RedactedImages | None
    ) -> TableReport:
        """Compare the table."""
        started = monotonic()
        settings, owner = self._settings, self._crossing.owner
        # Again, since the tables before this one may have taken hours.
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

    def _scope(self, question: Question, way: Way) -> str:
        words = [str(way)]
        if question.is_deep:
            words.append("deep")
        if question.sample is not None:
            words.append(f"sample {question.sample:g} of {self._settings.seed}")
        if question.since is not None:
            words.append(f"since {question.since.astimezone(UTC).isoformat()}")
        return ", ".join(words)

    async def _compare(self, run: Run, pieces: Pieces, question: Question) -> bool:
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

    async def _scan(self, run: Run, pieces: Pieces, question: Question) -> tuple[bool, bool]:
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
        question: Question,
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
        question: Question,
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

    def _since(self, question: Question) -> Mapping[Side, str] | None:
        if question.since is None:
            return None
        names = dated(self._stores, self._crossing)
        if names is None:
            return None
        time = literal(question.since.astimezone(UTC).isoformat())
        return {side: f"t.{quoted(name)} >= {time}::timestamptz" for side, name in names.items()}


def dated(stores: Mapping[Side, Store], crossing: Crossing) -> dict[Side, str] | None:
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
