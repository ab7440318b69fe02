"""One process of a drill, from its order to its end."""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from crossfade.drill import application, clock
from crossfade.drill.ballast import Stirrer, ballast_prefix
from crossfade.drill.bare import PsqlScript, SqlScript
from crossfade.drill.copier import run_copier
from crossfade.drill.journal import DONE, READY, JournalFile
from crossfade.drill.lane import Abilities
from crossfade.drill.order import Part, ProcessOrder
from crossfade.drill.strands import Hand, run_strands
from crossfade.stages import Side


def work(order: ProcessOrder) -> None:
    """Do what `order` says until SIGTERM."""
    if order.skew:
        clock.skew(order.skew)
    asyncio.run(_work(order))


async def _work(order: ProcessOrder) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with JournalFile(order.journal) as journal:
        async with AsyncExitStack() as stack:
            hands: list[Hand] = []
            if order.part in (Part.SCRIPT, Part.PSQL):
                for _ in range(order.strands):
                    script = _script(order)
                    stack.push_async_callback(script.close)
                    hands.append(script)
            elif order.part not in (Part.STIRRER, Part.COPIER):
                opened = await stack.enter_async_context(application.open_migration(order, journal))
                hands = [opened.hand() for _ in range(order.strands)]
            journal.mark(READY)
            if order.part is Part.STIRRER:
                chance = random.Random(f"{order.seed}-{order.name}")  # noqa: S311 - traffic, not secrets
                await Stirrer(order.legacy, ballast_prefix(order.name), chance).run(order.rate, journal, stop)
            elif order.part is Part.COPIER:
                await run_copier(order, journal, stop)
            elif hands:
                await run_strands(
                    hands,
                    journal,
                    name=f"{order.name}.{order.number}",
                    number=order.number,
                    rate=order.rate,
                    seed=order.seed,
                    abilities=_abilities(order),
                    stop=stop,
                )
            await stop.wait()
        journal.mark(DONE)


def _script(order: ProcessOrder) -> SqlScript | PsqlScript:
    stores = {side: order.store(side).dsn for side in Side}
    if order.part is Part.SCRIPT:
        return SqlScript(stores, order.start)
    assert order.psql is not None
    return PsqlScript(stores, Path(order.psql), order.start)


def _abilities(order: ProcessOrder) -> Abilities:
    is_application = order.part is Part.APPLICATION
    return Abilities(refusals=is_application, swaps=not is_application, order=order.shared)
