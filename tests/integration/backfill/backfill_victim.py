"""A process that backfills shops and wares and is killed, by its own hand, at a point: `LEGACY TARGET POINT`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "reconcile"))

from copies import SHOP, backfill
from twins import P, S, twins

from crossfade.backfill import CopyPoint
from crossfade.dsn import Dsn


async def main(legacy: str, target: str, wanted: str) -> None:
    passed = 0

    async def at(point: CopyPoint, model: str) -> None:
        nonlocal passed
        passed += (point, model) == (wanted, "Ware")
        if passed == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    async with twins(SHOP, {P: Dsn.parse(legacy), S: Dsn.parse(target)}, installed=True) as opened:
        await backfill(opened, at=at, workers=1, first_chunk=8, smallest_chunk=8, largest_chunk=8)


asyncio.run(main(*sys.argv[1:]))
