"""What `crossfade verify` says in the end: as tables, and as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crossfade.cli.progress import span
from crossfade.errors import ConfigurationError
from crossfade.verify import RedactedImages, TableReport, Verdict

_WIDTH_OF_A_FILE = 200
_STYLES = {Verdict.CLEAN: "green", Verdict.DIFFERING: "red", Verdict.UNSETTLED: "yellow"}


def as_document(report: TableReport) -> dict[str, Any]:
    """One table's outcome, as JSON has it."""
    return {
        "model": report.model,
        "owner": report.owner,
        "mode": str(report.mode),
        "state": str(report.state),
        "rows": report.rows,
        "chunks": report.chunks,
        "missing": report.missing,
        "extra": report.extra,
        "different": report.different,
        "columns": dict(report.columns),
        "in_flight": report.in_flight,
        "repaired": report.repaired,
        "remaining": report.remaining,
        "is_cut": report.is_cut,
        "seconds": round(report.seconds, 3),
        "examples": [
            {"key": list(row.key), "kind": str(row.kind), "columns": list(row.columns)}
            for row in report.examples
        ],
    }


def write_json(reports: Sequence[TableReport], file: Path) -> None:
    """Write the outcome to a file, or to standard output if it is called `-`.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    document = {
        "is_clean": all(report.state is Verdict.CLEAN for report in reports),
        "tables": [as_document(report) for report in reports],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if str(file) == "-":
        typer.echo(text)
        return
    try:
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from None


def print_reports(reports: Sequence[TableReport], images: RedactedImages | None) -> None:
    """Print the outcome for a person."""
    # A file or a pipe has no width; rich would assume 80 columns and cut names.
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE, highlight=False)
    console.print(_outcome(reports))
    if any(report.examples for report in reports):
        console.print(_examples(reports))
    for report in reports:
        if report.is_cut:
            console.print(
                f"{escape(report.model)}: so much differs, or is being written, that the rest was left;"
                f" `crossfade backfill {escape(report.owner)}` comes first"
            )
    if images is not None and images.rows:
        rows = "1 row" if images.rows == 1 else f"{images.rows:,} rows"
        console.print(f"redacted images of {rows} are in {escape(str(images.path))}; only you can read it")
    console.print(_verdict(reports))


def _outcome(reports: Sequence[TableReport]) -> Table:
    table = Table()
    table.add_column("table", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for title in ("rows", "missing", "extra", "different"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("columns")
    for title in ("in flight", "repaired"):
        table.add_column(title, justify="right", no_wrap=True)
    for report in reports:
        table.add_row(
            escape(report.model),
            f"[{_STYLES[report.state]}]{report.state}[/]",
            f"{report.rows:,}",
            *(_count(number) for number in (report.missing, report.extra, report.different)),
            escape(", ".join(f"{name} {count:,}" for name, count in report.columns.items())) or "–",
            f"{report.in_flight:,}",
            f"{report.repaired:,}",
        )
    return table


def _examples(reports: Sequence[TableReport]) -> Table:
    table = Table(title="for example", title_justify="left")
    for title in ("table", "key", "how", "columns"):
        table.add_column(title)
    for report in reports:
        for row in report.examples:
            table.add_row(
                escape(report.model),
                escape(", ".join(row.key)),
                str(row.kind),
                escape(", ".join(row.columns)) or "–",
            )
    return table


def _verdict(reports: Sequence[TableReport]) -> str:
    rows, seconds = sum(report.rows for report in reports), sum(report.seconds for report in reports)
    compared = f"{rows:,} rows compared in {span(seconds)}"
    remaining = sum(report.remaining for report in reports)
    repaired = sum(report.repaired for report in reports)
    in_flight = sum(report.in_flight for report in reports)
    found = [compared]
    if repaired:
        found.append(f"{repaired:,} repaired")
    if remaining:
        found.append(f"{remaining:,} differ" + ("" if repaired else "; --repair brings them level"))
    if in_flight:
        found.append(f"{in_flight:,} did not come to rest: run this again when less is written")
    if all(report.state is Verdict.CLEAN for report in reports):
        found.append("no difference")
    return "; ".join(found)


def _count(number: int) -> str:
    return f"[red]{number:,}[/]" if number else "0"
