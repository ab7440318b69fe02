"""Options that several commands share, and the names of the models they are about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from crossfade.errors import ConfigurationError, EngineError

FlagsOption: TypeAlias = Annotated[
    Path,
    typer.Option("--flags", envvar="CROSSFADE_FLAGS_DIR", help="The directory with one flag file per model."),
]
SchemaOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--schema",
        envvar="CROSSFADE_SCHEMA",
        help="The schema.prisma that names the models; looked for beside the flags by default.",
    ),
]
BackupsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--backups",
        envvar="CROSSFADE_BACKUP_DIR",
        help="Where backups are kept; among the user's data by default.",
        show_default=False,
    ),
]
MetricsPortOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Serve Prometheus metrics on this port of the loopback; 0 takes a free one.",
        show_default=False,
    ),
]
DEFAULT_FLAGS = Path("flags")

_PLACES = ("schema.prisma", "prisma/schema.prisma", "src/marketplace/schema.prisma")


def models_of_schema(schema: Path | None, flags: Path) -> frozenset[str] | None:
    """Return the model names of the schema, as Prisma's own parser reads it, or None when there is none to be found.

    The parser's answer is kept in the cache. Where it has never run and cannot be installed, a schema that nobody
    named is passed over: the names of the flag files say enough to change one of them.

    Raises:
        ConfigurationError: the schema that was asked for cannot be read or has no models.
        SchemaError: it is not valid.
        EngineError: it was asked for, and its parser cannot be installed.
    """
    from crossfade.engine.parser import load_schema

    found = find_schema(schema, flags)
    if found is None:
        return None
    try:
        names = frozenset(load_schema(found, _announce).models)
    except EngineError:
        if schema is None:
            return None
        raise
    if not names:
        raise ConfigurationError(f"{found} has no models")
    return names


def find_schema(schema: Path | None, flags: Path) -> Path | None:
    """Return the schema that was asked for, or the one that lies beside the flags, or None."""
    if schema is not None:
        return schema
    root = flags.resolve().parent
    return next((root / place for place in _PLACES if (root / place).is_file()), None)


def _announce(line: str) -> None:
    typer.echo(line, err=True)
