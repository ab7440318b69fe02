"""When the next chunk may be copied."""

from __future__ import annotations

from typing import Protocol


class Pace(Protocol):
    """Holds a backfill back, so that it does not hurt those for whom the stores are there."""

    async def before(self, rows: int) -> None:
        """Return when a chunk of about so many rows may be copied; asked before each chunk by every worker."""


class Unhurried:
    """Never has anybody wait."""

    async def before(self, rows: int) -> None:
        """Return at once."""
