"""`crossfade backfill`: the rows that were there before, copied while everybody works."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated

import typer

from crossfade.cli.options import DEFAULT_FLAGS, FlagsOption, MetricsPortOption, SchemaOption
from crossfade.errors import ConfigurationError


def backfill(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Models, as in schema.prisma; all by default.", show_default=False),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="How many chunks this process copies at a time.")
    ] = 2,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Copy nothing; show what would be done.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Show how far every table is, whoever copies it.")
    ] = False,
    pause: Annotated[
        bool, typer.Option("--pause", help="Have all processes stop before their next chunk, and wait.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Have them go on.")] = False,
    max_rate: Annotated[
        float | None,
        typer.Option(
            min=1, metavar="ROWS", help="Rows per second at most, of this process.", show_default=False
        ),
    ] = None,
    max_lag: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Wait while a captured key is older than this.")
    ] = 5.0,
    max_latency: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="FACTOR",
            help="Slow down while small reads and writes take so many times as long as before; 0: never.",
        ),
    ] = 3.0,
    chunk_seconds: Annotated[
        float, typer.Option(min=0.05, max=60, metavar="SECONDS", help="How long a chunk should take.")
    ] = 1.0,
    defer_indexes: Annotated[
        bool,
        typer.Option(
            "--defer-indexes",
            help="Take secondary indexes and foreign keys off the target's tables and put them back at the end.",
        ),
    ] = False,
    restore_indexes: Annotated[
        bool, typer.Option("--restore-indexes", help="Copy nothing; put back what --defer-indexes took off.")
    ] = False,
    json: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the outcome to this file.", show_default=False)
    ] = None,
    metrics_port: MetricsPortOption = None,
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    by: Annotated[str | None, typer.Option(help="Who does it; your user name by default.")] = None,
) -> None:
    """Copy the rows that were there before capture from the legacy store to the target store, while everybody works.

    It can be stopped and started at any time, also on several machines at once: what is copied stays copied. Exit
    code 1 if rows could not be copied.
    """
    from crossfade.backfill.settings import BackfillSettings
    from crossfade.cli.backfilling import Backfilling
    from crossfade.cli.following import load_models, needed_stores, user

    modes = {
        "--dry-run": dry_run,
        "--status": status,
        "--pause": pause,
        "--resume": resume,
        "--restore-indexes": restore_indexes,
    }
    chosen = [name for name, wanted in modes.items() if wanted]
    if len(chosen) > 1:
        raise ConfigurationError(f"{' and '.join(chosen)} do not go together")
    if chosen and defer_indexes and not dry_run:
        raise ConfigurationError(f"{chosen[0]} copies nothing, so there are no indexes to defer")
    known = load_models(schema, flags)
    for name in models or ():
        known.model(name)
    needed_stores(known)
    usual = BackfillSettings()
    largest = usual.largest_chunk
    if max_rate is not None:  # or else a chunk would come at once and a long wait after it
        largest = max(usual.smallest_chunk, min(largest, round(max_rate * chunk_seconds)))
    settings = BackfillSettings(
        workers=workers,
        chunk_seconds=chunk_seconds,
        first_chunk=min(usual.first_chunk, largest),
        largest_chunk=largest,
        max_rate=max_rate,
        max_lag=max_lag,
        max_latency=max_latency,
    )
    command = Backfilling(known, models or list(known.models), settings, by or user(), json)
    if dry_run:
        asyncio.run(command.show_plan(defer_indexes=defer_indexes))
    elif status:
        asyncio.run(command.show_status())
    elif pause or resume:
        asyncio.run(command.set_paused(paused=pause))
    elif restore_indexes:
        _until_signalled(command.restore())
    else:
        _until_signalled(command.copy(metrics_port, defer_indexes=defer_indexes))


def _until_signalled(work: Coroutine[None, None, None]) -> None:
    """Run `work`; at SIGINT or SIGTERM, break it off where it is."""
    signalled: list[int] = []

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None

        def end(number: int) -> None:
            signalled.append(number)
            task.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end, number)
        await work

    try:
        asyncio.run(run())
    except asyncio.CancelledError:
        if not signalled:
            raise
        typer.echo("stopped; what is done stays done, and the same command goes on from there", err=True)
        raise typer.Exit(128 + signalled[0]) from None
