"""The mappings that the environment names, for commands that build stores."""

from __future__ import annotations

import sys
from pathlib import Path

from crossfade.mapping import Mappings
from crossfade.settings import Settings


def mappings_of(settings: Settings) -> Mappings:
    """Import them; a module of the folder in which the command runs is found as well.

    Raises:
        ConfigurationError: what is named cannot be imported, or is no `Mappings`.
        MappingError: a mapping contradicts itself, or loses what it does not declare.
    """
    if settings.mappings is not None and not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))
    return settings.load_mappings()
