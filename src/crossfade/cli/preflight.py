"""`crossfade preflight`: what in the legacy store will not fit into the target, before anything is copied."""

from __future__ import annotations

import asyncio
import json as json_format
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade.cli.options import DEFAULT_FLAGS, FlagsOption, SchemaOption

if TYPE_CHECKING:
    from crossfade.preflight import Finding, PreflightReport, Scanned

_WIDTH_OF_A_FILE = 200


def preflight(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="The models to look through; all by default.", show_default=False),
    ] = None,
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the findings to this file; - is standard output.")
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="How many keys to name in each finding.")] = 5,
    statement_timeout: Annotated[
        float | None,
        typer.Option(min=0.001, help="Seconds after which a query is given up.", show_default=False),
    ] = None,
) -> None:
    """Find rows that cannot be copied and what else to know of the legacy store. Nothing is changed or copied.

    Needs no `install`. Leaves with 1 if something stands in the way of the copy.
    """
    from crossfade.cli.following import load_models, needed_stores
    from crossfade.preflight import Preflight, PreflightSettings

    settings = PreflightSettings(examples=examples, statement_timeout=statement_timeout)
    stores = needed_stores(load_models(schema, flags))
    report = asyncio.run(Preflight(stores, settings).run(models or None, on_table=_say))
    if json is not None:
        _write(report, json)
    if json is None or str(json) != "-":
        _print(report)
    if report.blockers:
        raise typer.Exit(1)


def _say(table: Scanned) -> None:
    rows = "not looked through" if table.rows is None else f"{table.rows:,} rows"
    found = [
        f"{count} {name}{'s' if count > 1 else ''}"
        for count, name in ((table.blockers, "blocker"), (table.warnings, "warning"))
        if count
    ]
    typer.echo(
        f"{table.model}: {rows}, {table.seconds:.1f} s, {', '.join(found) or 'nothing found'}", err=True
    )


def _write(report: PreflightReport, file: Path) -> None:
    document = {
        "findings": [finding.as_json() for finding in report.findings],
        "tables": [
            {"model": one.model, "table": one.table, "rows": one.rows, "seconds": round(one.seconds, 3)}
            for one in report.tables
        ],
    }
    text = json_format.dumps(document, indent=2, ensure_ascii=False)
    if str(file) == "-":
        typer.echo(text)
    else:
        file.write_text(text + "\n", encoding="utf-8")


def _print(report: PreflightReport) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not report.findings:
        typer.echo("nothing found: every row can be copied")
        return
    table = Table(show_lines=True)
    for title in ("severity", "model", "column", "finding"):
        table.add_column(title)
    table.add_column("rows", justify="right")
    table.add_column("keys")
    for finding in report.findings:
        keys = "\n".join(", ".join(key) for key in finding.examples)
        count = "" if finding.count is None else f"{finding.count:,}"
        cells = [finding.severity, finding.model, finding.column or "", _told(finding), count, keys]
        table.add_row(*(escape(str(cell)) for cell in cells))
    # A file or a pipe has no width; rich would assume 80 columns and cut names.
    Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE).print(table)
    blockers = len(report.blockers)
    typer.echo(f"{blockers} in the way of a copy, {len(report.findings) - blockers} to know of")


def _told(finding: Finding) -> str:
    from crossfade.stages import Side

    where = " (target store)" if finding.side is Side.SQLALCHEMY else ""
    detail = f": {finding.detail}" if finding.detail else ""
    return f"{finding.kind.replace('_', ' ')}{where}{detail}\n{finding.remedy}"
