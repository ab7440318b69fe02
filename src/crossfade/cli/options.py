"""Options that several commands share, and the names of the models they are about."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from crossfade.errors import ConfigurationError

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
DEFAULT_FLAGS = Path("flags")

_PLACES = ("schema.prisma", "prisma/schema.prisma", "src/marketplace/schema.prisma")
# Prisma's grammar has neither block comments nor strings over several lines, so a line's beginning tells.
_MODEL = re.compile(r"^\s*model\s+(\w+)\s*\{", re.MULTILINE)


def models_of_schema(schema: Path | None, flags: Path) -> frozenset[str] | None:
    """Return the model names of the schema, or None when there is no schema to be found.

    Only the names are read here; what the schema means is Prisma's parser's to say, which takes far longer.

    Raises:
        ConfigurationError: the schema that was asked for cannot be read or has no models.
    """
    if schema is None:
        root = flags.resolve().parent
        schema = next((root / place for place in _PLACES if (root / place).is_file()), None)
    if schema is None:
        return None
    try:
        names = frozenset(_MODEL.findall(schema.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"cannot read {schema}: {reason}") from None
    if not names:
        raise ConfigurationError(f"{schema} has no models")
    return names
