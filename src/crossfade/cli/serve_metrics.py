"""`crossfade serve-metrics`: what the flag files ask for, as Prometheus metrics."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from crossfade.cli.options import DEFAULT_FLAGS, FlagsOption, SchemaOption, models_of_schema


def serve_metrics(
    port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="CROSSFADE_METRICS_PORT", help="0 takes a free one.")
    ] = 9464,
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
) -> None:
    """Serve the requested stages to Prometheus until Ctrl-C, following the flag files."""
    asyncio.run(_serve(port, flags, models_of_schema(schema, flags)))


async def _serve(port: int, flags: Path, models: frozenset[str] | None) -> None:
    from crossfade.events import Observers
    from crossfade.flags.files import FileFlags, read_flags
    from crossfade.logs import StructlogObserver, configure_logging
    from crossfade.metrics import PrometheusObserver, serve

    configure_logging()
    if models is None:
        models = frozenset(read_flags(flags, None))
    observer = PrometheusObserver(dict.fromkeys(models, ()))
    logs = StructlogObserver()
    async with FileFlags(flags, models, Observers(observer, logs)) as provider:
        changes = provider.changes()
        for flag in provider.current().values():
            observer.request(flag.model, flag.stage)
        with serve(port, observer.registry) as address:
            typer.echo(f"serving {address} (Ctrl-C ends it)", err=True)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, changes.close)
            async for flag in changes:
                observer.request(flag.model, flag.stage)
    logs.close()
