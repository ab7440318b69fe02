"""`crossfade backup`: a dump of each store, checked, and on request proved by restoring it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade.errors import ConfigurationError
from crossfade.stages import Side

if TYPE_CHECKING:
    from crossfade.dsn import Dsn


def backup(
    side: Annotated[
        Side | None,
        typer.Option("--side", help="Only the store of this side; both by default.", show_default=False),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            envvar="CROSSFADE_BACKUP_DIR",
            help="Where backups are kept; among the user's data by default.",
            show_default=False,
        ),
    ] = None,
    prove: Annotated[
        bool,
        typer.Option("--prove", help="Restore the dump into a scratch database and compare every table."),
    ] = False,
    scratch: Annotated[
        str | None,
        typer.Option(
            "--scratch",
            envvar="CROSSFADE_SCRATCH_DSN",
            help="The server to restore to; an embedded one by default. Implies --prove.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Connections that pg_dump and pg_restore may use.")] = 2,
) -> None:
    """Dump each store with pg_dump, its roles and the schema crossfade included, and see that nothing is missing.

    CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN name the stores. They stay in use: everything is read in one snapshot.
    """
    from crossfade.backup import BackupSettings, back_up, default_directory
    from crossfade.dsn import Dsn

    settings = BackupSettings(
        prove=prove or scratch is not None, scratch=Dsn.parse(scratch) if scratch else None, jobs=jobs
    )
    made = asyncio.run(
        back_up(
            _stores(side), to or default_directory(), settings, say=lambda line: typer.echo(line, err=True)
        )
    )
    for one in made:
        typer.echo(one.directory)


def _stores(wanted: Side | None) -> dict[Side, Dsn]:
    from crossfade.settings import Settings
    from crossfade.stages import Topology

    settings = Settings.from_environment()
    is_shared = settings.topology is Topology.SHARED
    named = {Side.PRISMA: settings.legacy_dsn, Side.SQLALCHEMY: None if is_shared else settings.target_dsn}
    stores = {side: dsn for side, dsn in named.items() if dsn is not None and wanted in (None, side)}
    if not stores:
        raise ConfigurationError("set CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN to the two stores")
    return stores
