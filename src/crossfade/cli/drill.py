"""`crossfade drill`: break things on purpose and see that no write is lost. What is heavy is imported when it runs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from crossfade.errors import ConfigurationError

NAMES = (
    "kill",
    "stale",
    "follower-down",
    "follower-slow",
    "reorder",
    "rogue",
    "flip-storm",
    "clock",
    "backfill",
)
_WIDTH_OF_A_FILE = 120
_TERMINATED = 143


def drill(
    name: Annotated[
        str, typer.Argument(help=f"One of {', '.join(NAMES)}, or all.", show_default=True)
    ] = "all",
    rounds: Annotated[int, typer.Option(min=1, help="How often each drill is played.")] = 1,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=2,
            help="How long the traffic of a round flows; 8, or 60 for flip-storm alone.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the figures to this file.")] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Keep the journals and logs of all rounds here; otherwise only those of what went wrong are kept.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Other faults and other traffic for another number.")] = 1,
    yes_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST/DATABASE",
            help="A database of yours that the drill may make its schemas in; once for each.",
            show_default=False,
        ),
    ] = None,
    legacy_dsn: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A staging database for the legacy store, in place of an embedded one."
        ),
    ] = None,
    target_dsn: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A staging database for the target store, in place of an embedded one."
        ),
    ] = None,
) -> None:
    """Kill processes, cut networks and flip stages under load; then compare both stores with a journal of every write.

    Exit code 1 if a write was lost, a row differs, or a caller saw an error that was not the authority's own.
    """
    if name not in (*NAMES, "all"):
        raise ConfigurationError(f"unknown drill {name!r}; drills are {', '.join(NAMES)}, or all")
    if (legacy_dsn is None) != (target_dsn is None):
        raise ConfigurationError("give both --legacy-dsn and --target-dsn, or neither for embedded stores")

    from rich.console import Console

    from crossfade.drill.board import Board
    from crossfade.drill.drills import DRILLS
    from crossfade.drill.report import show, write_json
    from crossfade.drill.run import Options, run_drills
    from crossfade.drill.stores import check_allowed
    from crossfade.dsn import Dsn
    from crossfade.logs import configure_logging

    databases = None
    if legacy_dsn is not None and target_dsn is not None:
        databases = Dsn.parse(legacy_dsn), Dsn.parse(target_dsn)
        check_allowed(list(databases), yes_on or ())
    drills = list(DRILLS.values()) if name == "all" else [DRILLS[name]]
    options = Options(drills, rounds, seconds, seed, databases, frozenset(yes_on or ()), keep)
    # A file or a pipe has no width; rich would assume 80 columns and cut names.
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
    if not console.is_terminal:
        configure_logging()
    try:
        report = asyncio.run(run_drills(options, Board(console)))
    except asyncio.CancelledError:  # by SIGTERM; everything that was made is gone again
        raise typer.Exit(_TERMINATED) from None
    show(report, console)
    if json is not None:
        write_json(report, json)
    if not report.ok:
        raise typer.Exit(1)
