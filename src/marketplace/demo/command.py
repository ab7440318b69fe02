"""`crossfade demo`: its options. Everything heavy is imported when it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from crossfade.errors import ConfigurationError
from marketplace.demo.breaks import BREAKS
from marketplace.demo.options import (
    DEFAULT_RATE,
    DEFAULT_ROWS,
    DEFAULT_SECONDS,
    DEFAULT_SEED,
    MOST_PROCESSES,
    Options,
)

_BREAKS = "; ".join(f"{name}: {defect.description}" for name, defect in BREAKS.items())


def demo(
    seconds: Annotated[
        float, typer.Option(min=5, help="How long the models take to move under traffic.")
    ] = DEFAULT_SECONDS,
    rate: Annotated[
        float, typer.Option(min=1, help="Calls per second, on all models and in all processes.")
    ] = DEFAULT_RATE,
    rows: Annotated[int, typer.Option(min=200, help="Rows to begin with.")] = DEFAULT_ROWS,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the outcome to this file.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Let everything run on until Ctrl-C.")] = False,
    defect: Annotated[
        str | None,
        typer.Option(
            "--break",
            metavar="NAME",
            help=f"Switch on a defect in the SQLAlchemy path, which the demo then has to find. {_BREAKS}.",
        ),
    ] = None,
    late: Annotated[
        bool,
        typer.Option("--late", help="Let the defect begin while its model is live, as a bad release would."),
    ] = False,
    fleet: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=MOST_PROCESSES,
            help="So many application processes and one that conducts: all models go to complete and back to off"
            " while processes are killed, frozen and started cold.",
            show_default=False,
        ),
    ] = None,
    unleash: Annotated[
        bool,
        typer.Option("--unleash", help="Keep the flags in a real Unleash server, whose address is printed."),
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Other rows and other traffic for another number.")
    ] = DEFAULT_SEED,
    legacy_dsn: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="An empty database for Prisma, in place of an embedded one; also CROSSFADE_LEGACY_DSN.",
        ),
    ] = None,
    target_dsn: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="An empty database for SQLAlchemy, in place of an embedded one; also CROSSFADE_TARGET_DSN.",
        ),
    ] = None,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where Prometheus finds the metrics; 0 takes a free port.")
    ] = 0,
) -> None:
    """Move a marketplace of ten models from Prisma to SQLAlchemy while its users go on working."""
    if defect is not None and defect not in BREAKS:
        raise ConfigurationError(f"unknown break {defect!r}; breaks are {', '.join(BREAKS)}")
    if late and defect is None:
        raise ConfigurationError("--late says when a defect begins: name one with --break")
    options = Options(
        seconds,
        rate,
        rows,
        seed,
        json,
        keep,
        defect,
        legacy_dsn,
        target_dsn,
        metrics_port,
        late,
        fleet,
        unleash,
    )
    from marketplace.demo.show import run_demo

    if not asyncio.run(run_demo(options)):
        raise typer.Exit(1)
