"""The end of a migration: what crossfade keeps for a model is removed, and with it the way back."""

from __future__ import annotations

from dataclasses import replace

from crossfade.errors import StageMoveError, StoreUnavailableError
from crossfade.moving import Mover
from crossfade.stages import Side, is_final
from crossfade.store.fleet import FLEET_BY_MODEL
from crossfade.store.line import Line
from crossfade.store.objects import targets
from crossfade.store.progress import PROGRESS_BY_MODEL
from crossfade.store.record import Record, advance
from crossfade.store.tables import Connection, StoredTable, quoted
from crossfade.store.triggers import capture_function, capture_triggers, fence_triggers

_FINAL = "final"


async def finalize(mover: Mover, model: str, *, by: str, reason: str = "finalized") -> None:
    """Mark `model` as final and remove its triggers and captured keys from both stores. It can be repeated.

    Raises:
        UnknownModelError: there is no such model.
        StageMoveError: the model is not at `complete`, or a store does not answer; nothing was changed.
        LockedOutError: a table stayed locked; what is left to be removed is removed by the next call.
    """
    mover.schema.model(model)
    async with mover.lines() as lines:
        found = await check_finalizable(mover, lines, model)
        for side in (Side.PRISMA, Side.SQLALCHEMY):
            line, record = lines[side], found[side]
            if not record.final:
                final = replace(record, final=True, epoch=record.epoch + 1, by=by, reason=reason)
                await _mark(mover, line, final, record.epoch)
        for line in lines.values():
            for table in line.store.tables.of([model]):
                await _strip(mover, line, table)


async def check_finalizable(mover: Mover, lines: dict[Side, Line], model: str) -> dict[Side, Record]:
    """Return the record that each store has of `model`, if it may be finalized.

    Raises:
        StageMoveError: it may not.
    """
    found: dict[Side, Record] = {}
    for side, line in lines.items():
        try:
            found[side] = (await mover.read(line, [model])).get(model) or Record(model)
        except StoreUnavailableError as error:
            why = f"a store does not answer ({error})"
            raise StageMoveError(model, "where it is", _FINAL, why) from error
    standing = max(found.values(), key=lambda record: record.epoch)
    if not is_final(standing.stage):
        raise StageMoveError(model, standing.stage, _FINAL, "only a model at complete can be made final")
    unsettled = len({record.epoch for record in found.values() if not record.final}) > 1
    if standing.moving_to is not None or standing.forced or unsettled:
        raise StageMoveError(model, standing.stage, _FINAL, "an earlier move of it is not settled yet")
    return found


async def _mark(mover: Mover, line: Line, final: Record, expected: int) -> None:
    await line.transact(
        lambda connection: advance(connection, line.store, [final], expected={final.model: expected}),
        deadline=mover.settings.answer_deadline,
    )


async def _strip(mover: Mover, line: Line, table: StoredTable) -> None:
    async def work(connection: Connection) -> None:
        home = line.store.home
        for target in targets(table):
            for trigger in (*capture_triggers(table), *fence_triggers(table)):
                await connection.execute(f"DROP TRIGGER IF EXISTS {quoted(trigger.name)} ON {target}")
        function = capture_function(home, table).name
        await connection.execute(f"DROP FUNCTION IF EXISTS {quoted(home)}.{quoted(function)}()")
        for notes in ("change", *PROGRESS_BY_MODEL, *FLEET_BY_MODEL):
            await connection.execute(
                f"DELETE FROM {line.store.own(notes)} WHERE model = $1",  # noqa: S608
                table.model,
            )

    await line.transact(work, deadline=mover.settings.freeze_deadline)
