"""Where crossfade's objects lie: a schema of their own, or two where both stores are schemas of one database."""

from __future__ import annotations

from crossfade.dsn import Dsn
from crossfade.stages import Side

HOME = "crossfade"


def homes_of(legacy: Dsn, target: Dsn) -> dict[Side, str]:
    """The name of each side's home."""
    if (legacy.host, legacy.port, legacy.database) != (target.host, target.port, target.database):
        return dict.fromkeys(Side, HOME)
    return {side: f"{HOME}_{side}" for side in Side}
