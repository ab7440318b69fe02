"""What `crossfade backfill` says of tables: to a person as rich tables, to a program as JSON."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from crossfade.backfill.plan import PlannedTable
from crossfade.backfill.progress import TableProgress
from crossfade.cli.progress import span
from crossfade.store import Store

_WIDTH_OF_A_FILE = 160
_MOST_REFUSED = 50


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that the target refuses: why, and the keys between which it lies, the second one included."""

    model: str
    problem: str
    after: tuple[str, ...] | None
    up_to: tuple[str, ...] | None


async def read_refused(target: Store, tables: Sequence[str]) -> list[Refused]:
    """Read what could not be copied, up to a number that a person can look at."""
    async with target.transaction() as connection:
        rows = await connection.fetch(
            f"SELECT model, problem, after, up_to FROM {target.own('chunk')}"  # noqa: S608
            " WHERE state = 'failed' AND model = ANY ($1::text[]) ORDER BY model, id LIMIT $2",
            list(tables),
            _MOST_REFUSED,
        )
    return [
        Refused(
            row["model"],
            row["problem"] or "",
            None if row["after"] is None else tuple(row["after"]),
            None if row["up_to"] is None else tuple(row["up_to"]),
        )
        for row in rows
    ]


def show_plan(planned: Sequence[PlannedTable]) -> None:
    """Show what would be done, in the order in which it would be."""
    table = Table(title="in this order")
    table.add_column("table", no_wrap=True)
    table.add_column("rows, about", justify="right")
    table.add_column("size", justify="right")
    table.add_column("state", no_wrap=True)
    table.add_column("in the way")
    for one in planned:
        blockers = "\n".join(f"[red]{escape(blocker)}[/]" for blocker in one.blockers)
        table.add_row(_named(one), f"{one.estimated:,}", decimal(one.size_bytes), one.state, blockers)
    _console().print(table)
    left = [one for one in planned if one.state != "done"]
    rows, size = sum(one.estimated for one in left), sum(one.size_bytes for one in left)
    typer.echo(f"{len(left)} of {len(planned)} tables to copy: about {rows:,} rows, {decimal(size)}")


_FIGURES: tuple[tuple[str, Callable[[TableProgress], int], bool], ...] = (
    ("read", lambda one: one.rows_read, True),
    ("of about", lambda one: max(one.estimated, one.rows_read), True),
    ("written", lambda one: one.rows_written, True),
    ("left over", lambda one: one.left_over, False),
    ("waiting", lambda one: one.waiting, False),
    ("refused", lambda one: one.failed, False),
    ("chunks", lambda one: one.chunks, True),
    ("in hand", lambda one: one.workers, False),
)
"""Title, figure, and whether it is shown although it is 0 everywhere."""


def show_tables(planned: Sequence[PlannedTable], progress: Sequence[TableProgress]) -> None:
    """Show how far every table is."""
    begun = {plan.model for plan in planned if plan.state != "new"}
    found = {one.model: one for one in progress if one.model in begun}
    figures = [
        (title, figure)
        for title, figure, is_always in _FIGURES
        if is_always or any(figure(one) for one in found.values())
    ]
    table = Table()
    table.add_column("table", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for title, _ in figures:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    for plan in planned:
        one = found.get(plan.model)
        if one is None:
            table.add_row(_named(plan), plan.state, "–", f"{plan.estimated:,}")
            continue
        took = "" if one.finished is None else span((one.finished - one.started).total_seconds())
        table.add_row(_named(plan), plan.state, *(f"{figure(one):,}" for _, figure in figures), took)
    _console().print(table)


def show_refused(refused: Sequence[Refused]) -> None:
    """Show what could not be copied. Keys are a person's to see: they are on the screen, and in no log."""
    table = Table(title="refused by the target")
    table.add_column("table", no_wrap=True)
    table.add_column("problem")
    table.add_column("the row behind")
    table.add_column("up to")
    for one in refused:
        after = "the beginning" if one.after is None else ", ".join(one.after)
        up_to = "the end" if one.up_to is None else ", ".join(one.up_to)
        table.add_row(*(escape(cell) for cell in (one.model, one.problem, after, up_to)))
    _console().print(table)
    if len(refused) == _MOST_REFUSED:
        typer.echo(f"these are the first {_MOST_REFUSED}; there may be more")


def planned_as_json(planned: Iterable[PlannedTable]) -> list[dict[str, Any]]:
    """The plan, for a program."""
    return [
        {
            "table": one.model,
            "model": one.owner,
            "state": one.state,
            "estimated": one.estimated,
            "bytes": one.size_bytes,
            "blockers": list(one.blockers),
        }
        for one in planned
    ]


def progress_as_json(
    planned: Iterable[PlannedTable], progress: Iterable[TableProgress]
) -> list[dict[str, Any]]:
    """How far every table is, for a program; problems are SQLSTATEs and names, never values or keys."""
    found = {one.model: one for one in progress}
    rows = []
    for plan in planned:
        row: dict[str, Any] = {"table": plan.model, "model": plan.owner, "state": plan.state}
        one = found.get(plan.model)
        if one is not None and plan.state != "new":
            row |= {
                "read": one.rows_read,
                "written": one.rows_written,
                "left_over": one.left_over,
                "waiting": one.waiting,
                "refused": one.failed,
                "problems": list(one.problems),
                "chunks": one.chunks,
                "in_hand": one.workers,
                "started": one.started.isoformat(),
                "finished": None if one.finished is None else one.finished.isoformat(),
            }
        rows.append(row | {"estimated": plan.estimated})
    return rows


def write_json(document: dict[str, Any], file: Path) -> None:
    """Write to a file, or to stdout for `-`."""
    text = json_format.dumps(document, indent=2, ensure_ascii=False)
    if str(file) == "-":
        typer.echo(text)
    else:
        file.write_text(text + "\n", encoding="utf-8")


def _named(table: PlannedTable) -> str:
    return escape(table.model if table.model == table.owner else f"{table.model} ({table.owner})")


def _console() -> Console:
    # A file or a pipe has no width; rich would assume 80 columns and cut names.
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
