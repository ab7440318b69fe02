"""What is asked for, as the leader has heard it: which step comes next, why a model waits, and its gates as read last.

The table `request` stands in the legacy store. It tells people and other processes; nothing is ever moved by it. A
leader that comes new takes from it which models move together, in case no flag has told it yet.
"""

# ruff: noqa: S608 - every name is the store's own and quoted; values are parameters
from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg

from crossfade.stages import Stage
from crossfade.store.store import Store
from crossfade.store.tables import Connection

_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class GateReading:
    """One gate of a model's next step, as the leader has read it. `number` is its figure where that is one."""

    name: str
    holds: bool
    figure: str
    remedy: str = ""
    number: float | None = None


@dataclass(frozen=True, slots=True)
class Requested:
    """What is asked of one model. `wanted` is the next step, None where there is none; `held` says why it waits.

    `at` is when the leader said so last: it says it again every few seconds.
    """

    model: str
    stage: Stage
    by: str
    cohort: str | None = None
    wanted: Stage | None = None
    held: str = ""
    gates: tuple[GateReading, ...] = ()
    at: datetime = _NEVER


async def write_requests(connection: Connection, store: Store, requests: Sequence[Requested]) -> None:
    """Put requests in place of those that stand there for the same models."""
    await connection.execute(
        f"INSERT INTO {store.own('request')} AS r (model, stage, by, cohort, wanted, held, gates)"
        " SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[])"
        " ON CONFLICT (model) DO UPDATE SET stage = excluded.stage, by = excluded.by, cohort = excluded.cohort,"
        " wanted = excluded.wanted, held = excluded.held, gates = excluded.gates, at = clock_timestamp()",
        [request.model for request in requests],
        [request.stage for request in requests],
        [request.by for request in requests],
        [request.cohort for request in requests],
        [request.wanted for request in requests],
        [request.held for request in requests],
        [json.dumps([_noted(gate) for gate in request.gates]) for request in requests],
    )


async def read_requests(connection: Connection, store: Store) -> dict[str, Requested]:
    """Read what the leader said last of every model; empty where crossfade is not installed."""
    try:
        rows = await connection.fetch(
            f"SELECT model, stage, by, cohort, wanted, held, gates, at FROM {store.own('request')} ORDER BY model"
        )
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return {}
    return {row["model"]: _requested(row) for row in rows}


def _noted(gate: GateReading) -> dict[str, Any]:
    return {
        "name": gate.name,
        "holds": gate.holds,
        "figure": gate.figure,
        "remedy": gate.remedy,
        "number": gate.number,
    }


def _requested(row: asyncpg.Record) -> Requested:
    values: dict[str, Any] = dict(row)
    values["stage"] = Stage(values["stage"])
    values["wanted"] = None if values["wanted"] is None else Stage(values["wanted"])
    values["gates"] = tuple(GateReading(**gate) for gate in json.loads(values["gates"]))
    return Requested(**values)
