"""Going back without the other side's leave: `rollback --force`, and the list of what it costs.

The legacy store is opened as it stands, whatever has not reached it yet. What that leaves behind is listed before
anything can change it: while a model is *forced*, its target store takes nobody and the reconciler leaves it alone.
When the keys whose last write never reached the legacy store are in the file, with both images of their rows, the
mark is taken away; the reconciler then settles them as any other key, and the legacy store wins. The file is what is
left of the other values.

When the target store does not answer there is nothing to list from. The model then stays forced, and the same call
makes the list once the store is back.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import IO

import asyncpg

from crossfade.errors import ConfigurationError, CrossfadeError, StageMoveError, StoreUnavailableError
from crossfade.events import StageMoved
from crossfade.moving import Mover
from crossfade.reconcile.images import Image, Key, read_images
from crossfade.stages import Side, Stage, has_moved, last_stage_of
from crossfade.store.line import Line, bring_fence
from crossfade.store.record import Record, SupersededError, advance, effective, guard
from crossfade.store.sequences import Numbering, raise_above_rows, raise_numberings, read_numberings
from crossfade.store.tables import Connection

FORCED_EPOCHS = 1000
"""How far a forced record's epoch is raised, to be the highest whatever the store that does not answer has come to."""
_BATCH = 500
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Forced:
    """What came of going back by force.

    `lost` is how many keys never reached the legacy store, or None when the target store did not answer, so that
    nobody can say yet: the models stay forced. `why` says then what was wrong with it.
    """

    models: tuple[str, ...]
    stage: Stage
    file: Path
    lost: int | None
    why: str = ""


async def force_back(mover: Mover, models: Sequence[str], *, by: str, reason: str, file: Path) -> Forced:
    """Give the authority over `models` back to the legacy store, drained or not, and list what that loses.

    The list goes to `file`, one JSON object in a line: model, key, op (what was captured last), target and legacy (the
    row's image there, null where it has none). It holds rows, so nobody but its owner may read it.

    Raises:
        StageMoveError: the legacy store has the authority, or it cannot be opened. Nothing was changed.
        ConfigurationError: the file cannot be made. Nothing was changed.
    """
    names = tuple(sorted(models))
    for model in names:
        mover.schema.model(model)
    _check_file(file)
    async with mover.lines() as lines:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                by_force, why = await _open_legacy(mover, lines, names, by, reason)
                break
            except SupersededError:  # a leader has written meanwhile
                if attempt == _ATTEMPTS:
                    raise
        lost = None
        if not why:
            try:
                lost = await _list_lost(lines, names, file)
                await _settle(mover, lines, by_force, lost, file)
            except (CrossfadeError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                lost, why = None, str(error) or type(error).__name__
    return Forced(names, _BACK, file, lost, why)


async def _open_legacy(
    mover: Mover, lines: Mapping[Side, Line], models: Sequence[str], by: str, reason: str
) -> tuple[dict[str, Record], str]:
    """Write the forced records, the target's first; return them, and why the target could not be closed if so."""
    legacy, target = lines[Side.PRISMA], lines[Side.SQLALCHEMY]
    try:
        there = await mover.read(legacy, models)
    except StoreUnavailableError as error:
        why = f"the legacy store does not answer ({error})"
        raise StageMoveError(models[0], "where it is", _BACK, why) from error
    why = ""
    over_there: dict[str, Record] = {}
    try:
        over_there = await mover.read(target, models)
    except StoreUnavailableError as error:
        why = str(error)
    known = effective(there, over_there)
    check_forcible(known, models)
    by_force = {model: _by_force(record, by, reason) for model, record in known.items()}
    reached: Mapping[tuple[str, str], Numbering] = {}
    if not why:
        try:
            await _write(mover, target, by_force, over_there, {})
            tables = target.store.tables.of(models)
            reached = await target.transact(
                lambda connection: read_numberings(connection, tables),
                deadline=mover.settings.answer_deadline,
            )
        except SupersededError:
            raise
        except (CrossfadeError, asyncpg.PostgresError) as error:
            why = str(error)
    await _write(mover, legacy, by_force, there, reached)
    for model, record in known.items():
        if record.stage is not _BACK:
            mover.observer.observe(StageMoved(model, record.stage, _BACK, 0.0, by, by_force[model].reason))
    return by_force, why


_BACK = last_stage_of(Side.PRISMA)


def _check_file(file: Path) -> None:
    if file.exists():
        raise ConfigurationError(f"{file} exists already; name another file for what is lost")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise ConfigurationError(f"{file} cannot be written: there is no such directory, or it is not yours")


def check_forcible(known: Mapping[str, Record], models: Sequence[str]) -> None:
    """Return if there is something to force: the legacy store has not the authority over `models`.

    Raises:
        StageMoveError: there is nothing to force.
    """
    for model in models:
        record = known.get(model)
        if record is None:
            raise StageMoveError(model, "off", _BACK, "crossfade is not installed in the legacy store")
        if record.final:
            why = "it is final: `crossfade finalize` has removed what a move needs"
            raise StageMoveError(model, record.stage, _BACK, why)
        if not (has_moved(record.stage) or record.moving_to or record.forced):
            why = "Prisma has the authority over it already; use `crossfade rollback` without --force"
            raise StageMoveError(model, record.stage, _BACK, why)


def _by_force(record: Record, by: str, reason: str) -> Record:
    if record.forced and record.moving_to is None:
        return record
    return replace(
        record,
        stage=_BACK,
        moving_to=None,
        forced=True,
        epoch=record.epoch + FORCED_EPOCHS,
        entered=record.epoch + FORCED_EPOCHS,
        by=by,
        reason=f"forced: {reason}",
    )


async def _write(
    mover: Mover,
    line: Line,
    records: Mapping[str, Record],
    found: Mapping[str, Record],
    reached: Mapping[tuple[str, str], Numbering],
) -> None:
    """Bring one store to the forced records, its fence included; the legacy store's sequences, too."""
    late = {model: found[model].epoch for model in records if found[model].epoch < records[model].epoch}
    side = line.store.side

    async def work(connection: Connection) -> None:
        await guard(connection, line.store, {model: found[model].epoch for model in records})
        tables = line.store.tables.of(list(records))
        if late and side is Side.PRISMA:
            await raise_numberings(connection, tables, reached)
            await raise_above_rows(connection, tables)
        for record in records.values():
            own = line.store.tables.of([record.model])
            await bring_fence(connection, own, record.fence(side), mover.settings.lock_timeout)
        if late:
            await advance(connection, line.store, [records[model] for model in late], expected=late)

    await line.transact(work, deadline=mover.settings.freeze_deadline)


# --- what was lost ---------------------------------------------------------------------------------------------------


async def _list_lost(lines: Mapping[Side, Line], models: Sequence[str], file: Path) -> int:
    """Write every captured key whose rows differ to `file`; return how many there are."""
    images = read_images({side: line.store for side, line in lines.items()})
    lost = 0
    with _private(file) as out:
        for table in lines[Side.SQLALCHEMY].store.tables.of(models):
            pair = {side: images[side][table.model] for side in Side}
            async for batch in _suspects(lines, pair):
                for line in await _differing(lines, pair, batch):
                    out.write(line + "\n")
                    lost += 1
    return lost


@contextmanager
def _private(file: Path) -> Iterator[IO[str]]:
    """A new file that is its owner's alone; it is gone again if it is not finished."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigurationError(f"{file} exists already; name another file for what is lost") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        file.unlink(missing_ok=True)
        raise


async def _suspects(lines: Mapping[Side, Line], pair: Mapping[Side, Image]) -> AsyncIterator[dict[Key, str]]:
    """The captured keys of one model, with what was captured last, in batches; all keys after a TRUNCATE."""
    found: dict[Key, str] = {}
    everything = False
    for side in (Side.PRISMA, Side.SQLALCHEMY):  # what the target noted counts: it had the authority
        own, line = pair[side], lines[side]

        async def noted(connection: Connection, own: Image = own, line: Line = line) -> list[asyncpg.Record]:
            is_legacy = line.store.side is Side.PRISMA
            until = await _opened(connection, line, own.table.owner) if is_legacy else None
            return await connection.fetch(
                "SELECT key, (array_agg(op::text ORDER BY id DESC))[1] AS op"  # noqa: S608
                f" FROM {line.store.own('change')}"
                " WHERE model = $1 AND ($2::timestamptz IS NULL OR at <= $2) GROUP BY key",
                own.model,
                until,
            )

        for row in await line.transact(noted, deadline=_LIST_SECONDS):
            if row["key"] is None:
                everything = True
            else:
                found[own.key_of(row["key"])] = row["op"]
    if everything:
        for side in Side:
            own = pair[side]

            async def all_keys(connection: Connection, own: Image = own) -> list[asyncpg.Record]:
                return await connection.fetch(f"SELECT {own.key_texts()} AS key FROM {own.table.quoted} t")  # noqa: S608

            for row in await lines[side].transact(all_keys, deadline=_LIST_SECONDS):
                found.setdefault(tuple(row["key"]), "T")
    keys = sorted(found)
    for start in range(0, len(keys), _BATCH):
        yield {key: found[key] for key in keys[start : start + _BATCH]}


async def _opened(connection: Connection, line: Line, model: str) -> datetime | None:
    """When this store was opened by force: it took followers until then, and since then authors, who lose nothing."""
    opened: datetime | None = await connection.fetchval(
        "SELECT max(at) FROM (SELECT at, epoch - lag(epoch) OVER (ORDER BY id) AS raised"  # noqa: S608
        f" FROM {line.store.own('history')} WHERE model = $1) AS told WHERE raised >= $2",
        model,
        FORCED_EPOCHS,
    )
    return opened


_LIST_SECONDS = 300.0


async def _differing(
    lines: Mapping[Side, Line], pair: Mapping[Side, Image], batch: Mapping[Key, str]
) -> list[str]:
    digests: dict[Side, dict[Key, str]] = {}
    documents: dict[Side, dict[Key, str]] = {}
    keys = list(batch)
    for side in Side:
        own = pair[side]

        async def read(connection: Connection, own: Image = own) -> tuple[dict[Key, str], dict[Key, str]]:
            digests = await own.digests(connection, keys, Side.PRISMA)  # of what could have reached it
            return digests, await own.documents(connection, keys)

        digests[side], documents[side] = await lines[side].transact(read, deadline=_LIST_SECONDS)
    told = []
    for key, op in batch.items():
        if digests[Side.PRISMA].get(key) != digests[Side.SQLALCHEMY].get(key):
            entry: dict[str, object] = {"model": pair[Side.PRISMA].model, "key": list(key), "op": op}
            for name, side in (("target", Side.SQLALCHEMY), ("legacy", Side.PRISMA)):
                document = documents[side].get(key)
                entry[name] = None if document is None else json.loads(document)
            told.append(json.dumps(entry, ensure_ascii=False))
    return told


async def _settle(
    mover: Mover, lines: Mapping[Side, Line], by_force: Mapping[str, Record], lost: int, file: Path
) -> None:
    """Take the mark away: from here on the reconciler settles what differs, and the legacy store wins."""
    for side in (Side.PRISMA, Side.SQLALCHEMY):
        for record in by_force.values():
            cleared = replace(
                record,
                forced=False,
                epoch=record.epoch + 1,
                reason=f"{record.reason}; {lost} lost keys are listed in {file.name}",
            )
            await mover.level(lines[side], cleared, record.epoch)
