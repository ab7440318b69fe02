"""A process that moves models and is killed, by its own hand, at a crash point: `victim.py LEGACY TARGET POINT STAGE`.

With `lead` in place of a stage it conducts instead, asks for `live`, and prints a line when it leads.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from places import COHORT, MODELS, QUICK, SHELF, opened

from crossfade.conductor import Conductor
from crossfade.dsn import Dsn
from crossfade.moving import CrashPoint, Mover
from crossfade.planner import Planner
from crossfade.stages import Side, Stage


async def main(legacy: str, target: str, point: str, stage: str) -> None:
    async def at(reached: CrashPoint) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    async with opened({Side.PRISMA: Dsn.parse(legacy), Side.SQLALCHEMY: Dsn.parse(target)}) as places:
        if stage != "lead":
            await places.mover(at=at).move(COHORT, Stage(stage), by="victim")
            return
        mover = Mover(places.stores, places.reconciler, SHELF, places.heard, QUICK, at=at)
        async with Conductor(
            mover, places.view, Planner(SHELF), places.heard, places.stores, interval=0.05
        ) as conductor:
            while not conductor.leads:
                await asyncio.sleep(0.01)
            sys.stdout.write("leads\n")
            sys.stdout.flush()
            for model in MODELS:
                conductor.request(model, Stage.LIVE, by="victim")
            await asyncio.sleep(60)


asyncio.run(main(*sys.argv[1:]))
