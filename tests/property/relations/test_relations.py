"""Whatever relations models have and wherever each of them stands, nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack

import asyncpg
import pytest

from crossfade.dsn import Dsn
from crossfade.events import ConflictSettled
from crossfade.stages import Side
from databases import FreshDatabase

from .author import Author
from .bystander import Bystander
from .graph import random_graph
from .journal import Journal
from .walker import Walker
from .world import World, open_world

AUTHORS = 3
CALLS = int(os.environ.get("CROSSFADE_RELATION_CALLS", "50"))


def seeds() -> list[int]:
    """The seeds to try: `CROSSFADE_RELATION_SEEDS` is how many, or from which to which, as in `100-200`."""
    text = os.environ.get("CROSSFADE_RELATION_SEEDS", "8")
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if dash else list(range(int(text)))


@pytest.mark.parametrize("seed", seeds())
async def test_nothing_acknowledged_is_lost_between_authorities(
    fresh_database: FreshDatabase, seed: int
) -> None:
    """Models move one by one while authors and bystanders write; afterwards both stores hold what was acknowledged."""
    chance = random.Random(seed)
    graph = random_graph(chance)
    journal = Journal(graph)
    dsns = {side: await fresh_database() for side in Side}
    async with open_world(graph, dsns) as world:
        walker = Walker(world, journal, chance)
        await walker.spread()
        await _write_and_move(world, journal, walker, dsns, chance)
        await world.begin_all()
        is_drained = await world.repository.drain(20.0)
        wrong = await _judge(world, journal, is_drained=is_drained)

    assert [] == wrong, f"seed {seed}\n{graph}\n{walker}\n{journal.story(wrong)}"


async def _judge(world: World, journal: Journal, *, is_drained: bool) -> list[str]:
    stored = {table: await world.rows(Side.PRISMA, table) for table in world.table_names}
    conflicts = await world.conflicts()
    wrong = [*journal.failures, *journal.judge(stored, conflicts)]
    if not is_drained:
        wrong += [f"not verified: {entry}" for entry in await world.waiting()]
    wrong += [f"{where}: {row}" for where, rows in (await world.different()).items() for row in rows]
    if orphans := await world.orphans():
        wrong.append(f"{orphans} rows refer to nothing")
    counted = len(world.observer.of(ConflictSettled))
    if counted != len(conflicts):
        wrong.append(f"{len(conflicts)} conflicts are recorded and {counted} were told")
    wrong += [
        f"a conflict without a row: {conflict}"
        for conflict in conflicts
        if conflict["authority_image"] is None and conflict["follower_image"] is None
    ]
    return wrong


async def _write_and_move(
    world: World, journal: Journal, walker: Walker, dsns: Mapping[Side, Dsn], chance: random.Random
) -> None:
    authors = [
        Author(f"author{n}", world, journal, random.Random(chance.getrandbits(32))) for n in range(AUTHORS)
    ]
    over = asyncio.Event()
    async with AsyncExitStack() as stack:
        bystanders = []
        for side in Side:
            connection = await asyncpg.connect(**dsns[side].asyncpg_kwargs())
            stack.push_async_callback(connection.close)
            own = random.Random(chance.getrandbits(32))
            bystanders.append(Bystander(side, connection, world, journal, own))
        walking = asyncio.create_task(walker.walk(over))
        await asyncio.gather(*(writer.work(CALLS) for writer in (*authors, *bystanders)))
        over.set()
        await walking
