"""The advisory locks by which one process at a time does something, by what that is.

Each has a number of its own, because PostgreSQL keeps them all in one space. What belongs to one migration has its home
in the key as well, because two migrations in one database have homes of their own.
"""

from __future__ import annotations

import zlib
from enum import IntEnum


class Turn(IntEnum):
    """What only one process does at a time. The number before these is the bell's (`objects.BELL`)."""

    LEAD = 7_270_736_925_312
    """Conducting moves."""
    RESTORE = 7_270_736_925_313
    """Putting back what a backfill has taken off."""
    REVISIT = 7_270_736_925_314
    """Taking up chunks that wait for others."""
    INSTALL = 7_270_736_925_315
    """Installing; taken as it is, so that whoever installs waits for any other."""
    VERIFY = 7_270_736_925_316
    """Verifying a table."""

    def of(self, name: str) -> int:
        """The key of this turn in `name`: a home, or something in it."""
        return self + (zlib.crc32(name.encode()) << 16)
