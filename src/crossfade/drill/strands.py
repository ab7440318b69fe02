"""Runs a writer's lanes: each strand writes, notes, waits a little, and goes on until it is told to stop."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import NamedTuple, Protocol

from crossfade.drill.journal import JournalFile, Outcome
from crossfade.drill.lane import Abilities, Lane, Write

_SLOTS = 10_000
"""How many unique numbers each writer has to itself."""
PATIENCE = 25.0
"""Seconds after which a write counts as hung."""


class Answer(NamedTuple):
    """What came of a write; `problem` is what its caller should not have seen."""

    outcome: Outcome
    problem: str | None = None


class Hand(Protocol):
    """Executes the writes of one strand."""

    async def write(self, write: Write) -> Answer:
        """Execute a write and say what came of it; raises nothing."""


async def run_strands(
    hands: list[Hand],
    journal: JournalFile,
    *,
    name: str,
    number: int,
    rate: float,
    seed: int,
    abilities: Abilities,
    stop: asyncio.Event,
) -> None:
    """Write with every hand until `stop`, then let what is under way finish."""
    slots = itertools.count(number * _SLOTS)
    async with asyncio.TaskGroup() as group:
        for index, hand in enumerate(hands):
            chance = random.Random(f"{seed}-{name}-{index}")  # noqa: S311 - traffic, not secrets
            lane = Lane(f"{name}-{index}", chance, abilities, slots)
            group.create_task(_strand(hand, lane, journal, chance, rate / len(hands), stop))


async def _strand(
    hand: Hand,
    lane: Lane,
    journal: JournalFile,
    chance: random.Random,
    rate: float,
    stop: asyncio.Event,
) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time() + chance.random() / rate
    while not await _stopped(stop, due - loop.time()):
        # A strand that was held up does not make up for it at once: that would be another kind of load.
        due = max(due, loop.time() - 0.5) + chance.expovariate(rate)
        write = lane.next()
        number = journal.begin(write.effects)
        try:
            async with asyncio.timeout(PATIENCE):
                outcome, problem = await hand.write(write)
        except TimeoutError:
            outcome, problem = Outcome.UNKNOWN, f"{write.verb} {write.model}: no end within {PATIENCE:g} s"
        if write.refused is not None and outcome is Outcome.ACKNOWLEDGED:
            problem = f"{write.verb} {write.model}: accepted, where {write.refused} was due"
        journal.end(number, outcome, problem)
        if outcome is Outcome.UNKNOWN or (write.refused and outcome is Outcome.ACKNOWLEDGED):
            lane.unknown(write)
        elif outcome is Outcome.ACKNOWLEDGED:
            lane.acknowledged()


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    """Wait so many seconds, or until `stop`; return whether it was `stop`."""
    if seconds <= 0:
        return stop.is_set()
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True
