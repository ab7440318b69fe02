"""`crossfade verify`: whether both stores hold the same rows, and which they do not."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade.cli.options import DEFAULT_FLAGS, FlagsOption, MetricsPortOption, SchemaOption
from crossfade.errors import ConfigurationError

if TYPE_CHECKING:
    from crossfade.cli.progress import Progress
    from crossfade.schema import Schema
    from crossfade.verify import Mode, RedactedImages, TableReport


def verify(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Models, as in schema.prisma; all by default.", show_default=False),
    ] = None,
    sample: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Compare this share of the chunks.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which chunks belong to the sample.")] = 0,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Compare rows whose @updatedAt column is at or after this time (ISO 8601; UTC where it has no zone).",
            show_default=False,
        ),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Compare row by row instead of by checksums.")] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Bring what differs level with the authority, and compare again."),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, even if a run was ended half-way.")
    ] = False,
    json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the outcome here; - is standard output.", show_default=False
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write redacted images of differing rows to this new file.",
            show_default=False,
        ),
    ] = None,
    show: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Write this column to the images as it is: column, or Model.column. May be repeated.",
            show_default=False,
        ),
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for rows that are on their way.")
    ] = 10.0,
    metrics_port: MetricsPortOption = None,
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    by: Annotated[str | None, typer.Option(help="Who does it; your user name by default.")] = None,
) -> None:
    """Compare both stores while everybody works, down to the rows and columns that differ.

    A run that was ended half-way goes on where it was. Leaves with 1 if rows differ, or do not come to rest.
    """
    from crossfade.cli.following import load_models, needed_stores, user
    from crossfade.cli.verify_report import print_reports, write_json
    from crossfade.verify import Mode, RedactedImages, Verdict

    if show and images is None:
        raise ConfigurationError("--show is about the file of images: give --images as well")
    if sample is not None and since is not None:
        raise ConfigurationError("--sample and --since do not go together")
    known = load_models(schema, flags)
    for name in models or ():
        known.model(name)
    needed_stores(known)  # said before a file is made
    question = _Question(
        models=models,
        mode=Mode.DEEP if deep else Mode.WHOLE,
        sample=sample,
        seed=seed,
        since=None if since is None else _time(since),
        repair=repair,
        fresh=fresh,
        images=None if images is None else RedactedImages(images, show or ()),
        patience=patience,
        metrics_port=metrics_port,
        by=by or user(),
    )
    reports = asyncio.run(question.ask(known))
    if json is not None:
        write_json(reports, json)
    if str(json) != "-":
        print_reports(reports, question.images)
    if any(report.state is not Verdict.CLEAN for report in reports):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What is asked of the stores."""

    models: list[str] | None
    mode: Mode
    sample: float | None
    seed: int
    since: datetime | None
    repair: bool
    fresh: bool
    images: RedactedImages | None
    patience: float
    metrics_port: int | None
    by: str

    async def ask(self, schema: Schema) -> list[TableReport]:
        """Compare, and show how far that is."""
        from rich.console import Console

        from crossfade.cli.following import needed_stores, settling_on
        from crossfade.cli.progress import showing
        from crossfade.events import Observer, Observers
        from crossfade.logs import StructlogObserver, configure_logging
        from crossfade.metrics import PrometheusObserver, serve
        from crossfade.settings import Settings
        from crossfade.verify import Verify, VerifySettings

        is_terminal = Console(stderr=True).is_terminal
        if not is_terminal:
            configure_logging(level=Settings.from_environment().log_level)
        async with AsyncExitStack() as stack:
            progress = stack.enter_context(showing("verify"))
            metrics = PrometheusObserver.for_schema(schema)
            listening: list[Observer] = [_Shown(progress), metrics]
            if not is_terminal:  # bars and log lines on the same terminal would tear each other apart
                logs = StructlogObserver()
                stack.callback(logs.close)
                listening.append(logs)
            observer = Observers(*listening)
            if self.metrics_port is not None:
                address = stack.enter_context(serve(self.metrics_port, metrics.registry))
                typer.echo(f"serving {address}", err=True)
            at = await stack.enter_async_context(settling_on(schema, needed_stores(schema), observer))
            verify = Verify(
                at.stores,
                at.reconciler,
                observer,
                VerifySettings(seed=self.seed, patience=self.patience),
                by=self.by,
            )
            progress.start(await verify.estimate(self.models))
            if self.images is not None:
                stack.enter_context(self.images)
            return await verify.run(
                self.models,
                mode=self.mode,
                sample=self.sample,
                since=self.since,
                repair=self.repair,
                fresh=self.fresh,
                images=self.images,
            )


class _Shown:
    """Moves the bars."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def observe(self, event: object) -> None:
        """Move a bar if rows have been compared."""
        from crossfade.events import ChunkVerified

        if isinstance(event, ChunkVerified):
            self._progress.advance(event.model, event.rows)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"--since {text!r} is no time; write it like 2026-01-31 or 2026-01-31T14:30:00+01:00"
        ) from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
