"""How far a backfill is, whoever works on it."""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from crossfade.store import Store


@dataclass(frozen=True, slots=True)
class TableProgress:
    """How far one table is. `state` is copying or done.

    `rows_read` counts every row once, `rows_written` those that were not in the target yet, `left_over` those whose
    keys the reconciler got, `waiting` those whose parents are not there yet, and `failed` those that the target
    refuses, for the reasons in `problems`. `workers` is how many chunks are in somebody's hand now.
    """

    model: str
    owner: str
    state: str
    estimated: int
    rows_read: int
    rows_written: int
    left_over: int
    chunks: int
    waiting: int
    failed: int
    problems: tuple[str, ...]
    started: datetime
    finished: datetime | None
    is_paused: bool
    workers: int


async def read_progress(target: Store, models: Sequence[str]) -> list[TableProgress]:
    """Read how far the tables are, in the order given; those that have not begun are left out."""
    backfill, chunk = target.own("backfill"), target.own("chunk")
    async with target.transaction() as connection:
        rows = await connection.fetch(
            "SELECT b.model, b.owner, b.state, b.estimated, coalesce(c.rows_read, 0) AS rows_read,"
            " coalesce(c.rows_written, 0) AS rows_written, coalesce(c.left_over, 0) AS left_over,"
            " coalesce(c.chunks, 0) AS chunks, coalesce(c.waiting, 0) AS waiting, coalesce(c.failed, 0) AS failed,"
            " coalesce(c.problems, '{}') AS problems, b.started, b.finished, b.is_paused, coalesce(c.open, 0) AS open"
            f" FROM {backfill} b LEFT JOIN LATERAL (SELECT sum(rows_read)::bigint AS rows_read,"
            " sum(rows_written)::bigint AS rows_written, sum(left_over)::bigint AS left_over, count(*) AS chunks,"
            " sum(waiting)::bigint AS waiting, count(*) FILTER (WHERE state = 'failed') AS failed,"
            " array_agg(DISTINCT problem) FILTER (WHERE state = 'failed' AND problem IS NOT NULL) AS problems,"
            " count(*) FILTER (WHERE state NOT IN ('done', 'failed')) AS open"
            f" FROM {chunk} WHERE model = b.model) c ON true"
            " WHERE b.model = ANY($1) ORDER BY array_position($1::text[], b.model)",
            list(models),
        )
        # Whoever has a chunk in hand has its row locked: those that are not locked are in nobody's.
        free = await connection.fetch(
            f"SELECT model FROM {chunk} WHERE model = ANY($1) AND state <> 'done' AND state <> 'failed'"
            " FOR KEY SHARE SKIP LOCKED",
            list(models),
        )
    idle: dict[str, int] = {}
    for row in free:
        idle[row["model"]] = idle.get(row["model"], 0) + 1
    return [
        TableProgress(
            **{name: value for name, value in row.items() if name not in ("problems", "open")},
            problems=tuple(row["problems"]),
            workers=max(0, row["open"] - idle.get(row["model"], 0)),
        )
        for row in rows
    ]
