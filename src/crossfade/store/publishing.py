"""How a process writes what it has seen to the legacy store.

Rules:

* A process writes sums of its own (`timing`, `comparison`) under its own id: writing them again changes nothing, and
  what a dead process has written stays. Only bitmaps (`evidence`) and `spanned` are written by all.
* Rows that several processes write are locked in one order, so that none waits for one that waits for it.
* However much there is to say, it is one statement for each table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from crossfade.store.fleet import PAGE_BITS
from crossfade.store.store import Store
from crossfade.store.tables import Connection


class TimingRow(NamedTuple):
    """One process's sums, as they are written."""

    model: str
    entered: int
    action: str
    side: str
    role: str
    failures: int
    buckets: Sequence[int]


class ComparisonRow(NamedTuple):
    """How often one process has come to a verdict, as it is written."""

    model: str
    entered: int
    kind: str
    action: str
    verdict: str
    compared: int


class EvidenceRow(NamedTuple):
    """What one process adds to a page of a bitmap."""

    model: str
    entered: int
    kind: str
    action: str
    page: int
    compared: bytes
    mismatched: bytes


class SpannedRow(NamedTuple):
    """How many times more one process has seen models touched together."""

    models: tuple[str, ...]
    is_write: bool
    times: int


async def write_process(
    connection: Connection, store: Store, process: UUID, name: str, epochs: Mapping[str, int], *, leads: bool
) -> bool:
    """Say that a process lives, and what it follows. Return whether there was no row of it."""
    return bool(
        await connection.fetchval(
            f"INSERT INTO {store.own('process')} AS p (id, name, leads, epochs) VALUES ($1, $2, $3, $4)"  # noqa: S608
            " ON CONFLICT (id) DO UPDATE SET leads = excluded.leads, epochs = excluded.epochs,"
            " seen = clock_timestamp() RETURNING p.xmax = 0",
            process,
            name,
            leads,
            json.dumps(dict(epochs)),
        )
    )


async def delete_process(connection: Connection, store: Store, process: UUID) -> None:
    """Say that a process has ended. What it has seen stays."""
    await connection.execute(f"DELETE FROM {store.own('process')} WHERE id = $1", process)  # noqa: S608


async def write_timings(
    connection: Connection, store: Store, process: UUID, rows: Iterable[TimingRow]
) -> None:
    """Write a process's sums in place of those it wrote before."""
    await connection.execute(
        f"INSERT INTO {store.own('timing')} AS t"  # noqa: S608
        " (process, model, entered, action, side, role, calls, failures, buckets)"
        " SELECT $1, model, entered, action, side, role, calls, failures, buckets::bigint[]"
        " FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[],"
        " $9::bigint[]) AS n (model, entered, action, side, role, failures, buckets, calls)"
        " ON CONFLICT (model, entered, process, action, side, role) DO UPDATE"
        " SET calls = excluded.calls, failures = excluded.failures, buckets = excluded.buckets",
        process,
        *_columns((*row[:6], "{" + ",".join(map(str, row.buckets)) + "}", sum(row.buckets)) for row in rows),
    )


async def write_comparisons(
    connection: Connection, store: Store, process: UUID, rows: Iterable[ComparisonRow]
) -> None:
    """Write a process's sums in place of those it wrote before."""
    await connection.execute(
        f"INSERT INTO {store.own('comparison')} AS c"  # noqa: S608
        " (process, model, entered, kind, action, verdict, compared)"
        " SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[])"
        " ON CONFLICT (model, entered, process, kind, action, verdict) DO UPDATE SET compared = excluded.compared",
        process,
        *_columns(rows),
    )


async def write_evidence(connection: Connection, store: Store, rows: Iterable[EvidenceRow]) -> None:
    """Add to the fleet's bitmaps; a page must not be there twice."""
    bits = asyncpg.BitString.frombytes
    await connection.execute(
        f"INSERT INTO {store.own('evidence')} AS e"  # noqa: S608
        " (model, entered, kind, action, page, compared, mismatched)"
        f" SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::smallint[],"
        f" $6::bit({PAGE_BITS})[], $7::bit({PAGE_BITS})[])"
        " ON CONFLICT (model, entered, kind, action, page) DO UPDATE"
        " SET compared = e.compared | excluded.compared, mismatched = e.mismatched | excluded.mismatched",
        *_columns(
            (*row[:5], bits(row.compared, PAGE_BITS), bits(row.mismatched, PAGE_BITS)) for row in sorted(rows)
        ),
    )


async def write_spanned(connection: Connection, store: Store, rows: Iterable[SpannedRow]) -> None:
    """Add to how often models were touched together; a set of models must not be there twice."""
    await connection.execute(
        f"INSERT INTO {store.own('spanned')} AS s (models, is_write, times)"  # noqa: S608
        " SELECT string_to_array(models, ','), is_write, times"
        " FROM unnest($1::text[], $2::bool[], $3::bigint[]) AS n (models, is_write, times)"
        " ON CONFLICT (models, is_write) DO UPDATE"
        " SET times = s.times + excluded.times, seen = clock_timestamp()",
        *_columns((",".join(row.models), row.is_write, row.times) for row in sorted(rows)),
    )


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
