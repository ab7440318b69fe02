"""The record: where each model stands, kept in both stores.

Rules:

* The record with the highest epoch is in force. Every write of a record raises its epoch and names the epoch that it
  expects to find; a writer that has been overtaken is refused (`SupersededError`) and has changed nothing.
* Every write is kept in the store's `history` as well, with who made it and why.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

from crossfade.errors import CrossfadeError
from crossfade.stages import PLANS, Side, Stage, Topology
from crossfade.store.objects import Fence
from crossfade.store.store import Store
from crossfade.store.tables import Connection

_NEVER = datetime.fromtimestamp(0, UTC)


class SupersededError(CrossfadeError):
    """A record has another epoch than its writer expected: somebody else has moved the model meanwhile."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where one model stands. `moving_to` is set while its authority is being handed over.

    `final` models are not moved any more. `forced` is set from a forced rollback until what was lost is listed.
    `paused` models take no step forward until a person says so: the guard has walked them back. `entered` is the epoch
    with which the model came to its stage, or was resumed there; what was seen before that says nothing about now.
    `gates` are the figures that were in force when this was written; they are kept in the history alone.
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
    paused: bool = False
    entered: int = 1
    gates: Mapping[str, str] = field(default_factory=dict, compare=False, hash=False)

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
        "SELECT model, stage, moving_to, epoch, final, forced, since, by, reason, paused, entered"  # noqa: S608
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
        " paused = n.paused, entered = n.entered,"
        " since = CASE WHEN r.stage = n.stage THEN r.since ELSE clock_timestamp() END"
        " FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bool[], $6::bool[], $7::text[],"
        " $8::text[], $9::bool[], $10::bigint[], $11::bigint[])"
        " AS n (model, stage, moving_to, epoch, final, forced, by, reason, paused, entered, expected)"
        " WHERE r.model = n.model AND r.epoch = n.expected RETURNING r.model, n.expected",
        [record.model for record in records],
        [record.stage for record in records],
        [record.moving_to for record in records],
        [record.epoch for record in records],
        [record.final for record in records],
        [record.forced for record in records],
        [record.by for record in records],
        [record.reason for record in records],
        [record.paused for record in records],
        [record.entered for record in records],
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
        f"INSERT INTO {store.own('history')} (model, epoch, stage, moving_to, by, reason, pause, gates)"  # noqa: S608
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        [
            (
                r.model,
                r.epoch,
                r.stage,
                r.moving_to,
                r.by,
                r.reason,
                pause,
                json.dumps(dict(r.gates)) if r.gates else None,
            )
            for r in records
        ],
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
