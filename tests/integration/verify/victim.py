"""A process that verifies and kills itself after some chunks, or while it settles what it has found."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "reconcile")]

from planting import SMALL_CHUNKS, one_key

from crossfade.dsn import Dsn
from crossfade.events import ChunkVerified, Event, NullObserver
from crossfade.reconcile import Reconciler
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.verify import Mode, Verify


class Fatal:
    """Ends the process, unasked, when so many chunks have been compared."""

    def __init__(self, chunks: int) -> None:
        self._left = chunks

    def observe(self, event: Event) -> None:
        """Count."""
        self._left -= isinstance(event, ChunkVerified)
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(legacy: str, target: str, mode: str, chunks: int) -> None:
    schema = one_key("Int")
    stores = {
        side: Store(side, Dsn.parse(dsn), schema) for side, dsn in zip(Side, (legacy, target), strict=True)
    }
    reconciler = Reconciler(stores, lambda _: Side.PRISMA, NullObserver())
    await Verify(stores, reconciler, Fatal(chunks), SMALL_CHUNKS).run(mode=Mode(mode))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
