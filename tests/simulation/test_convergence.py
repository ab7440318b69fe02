"""Random traffic with faults over two sides in memory: when writers rest, both sides are equal.

Every seed is a schedule of its own: how often each step of each side gives way to others, which requests fail, and
where models move meanwhile. The journal of acknowledged writes is kept outside the repository.
"""

import asyncio
import contextlib
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from two_sides import TwoSides

from crossfade.errors import ConnectionLostError, CrossfadeError, DataError, StageMoveError
from crossfade.events import ReadCompared, Verdict, WriteCompared
from crossfade.operation import Operation
from crossfade.stages import Side, Stage, next_step

KEYS = [f"a{n}" for n in range(6)]


class Storm:
    """Writers, readers and moves, all drawn from one seed."""

    def __init__(self, seed: int, sides: TwoSides, *, faults: bool) -> None:
        self.random = random.Random(seed)
        self.sides = sides
        self.faults = faults
        self.calm = False
        self.increments = dict.fromkeys(KEYS, 0)
        self.uncertain = dict.fromkeys(KEYS, 0)
        self.created: set[str] = set()
        self.unexpected: list[Exception] = []
        sides.prisma.before = sides.sqlalchemy.before = self.give_way
        sides.prisma.after = sides.sqlalchemy.after = self.give_way

    async def give_way(self, operation: Operation) -> None:
        """Give way a random number of times, and sometimes fail."""
        if self.calm:
            return
        for _ in range(self.random.randrange(6)):
            await asyncio.sleep(0)
        if self.faults and self.random.random() < 0.03:
            raise ConnectionLostError("the storm took it")

    async def writer(self, steps: int) -> None:
        """Create, increment, rename, delete and write many rows, on few keys."""
        author = self.sides.author
        for _ in range(steps):
            key = self.random.choice(KEYS)
            try:
                match self.random.randrange(10):
                    case 0:
                        await author.upsert(
                            where={"id": key},
                            data={
                                "create": {"id": key, "email": key},
                                "update": {"name": f"n{self.random.random()}"},
                            },
                        )
                    case 1:
                        await author.update_many(where={}, data={"name": f"all{self.random.random()}"})
                    case 2:
                        name = f"b{self.random.random()}"
                        await self.sides.book.create(data={"title": name, "author_id": key})
                        self.created.add(name)
                    case 3 | 4:
                        await author.update(where={"email": key}, data={"name": f"e{self.random.random()}"})
                    case _:
                        row = await author.update(where={"id": key}, data={"score": {"increment": 1}})
                        if row is not None:
                            self.increments[key] += 1
            except ConnectionLostError:
                self.uncertain[key] += 1
            except DataError:
                pass  # a row that is not there yet
            except CrossfadeError as error:
                self.unexpected.append(error)

    async def reader(self, steps: int) -> None:
        """Look at rows and lists."""
        for _ in range(steps):
            with contextlib.suppress(ConnectionLostError):
                if self.random.random() < 0.5:
                    await self.sides.author.find_unique(where={"id": self.random.choice(KEYS)})
                else:
                    await self.sides.author.find_many(where={"score": self.random.randrange(3)})

    async def mover(self, steps: int) -> None:
        """Walk the models to random stages."""
        repository = self.sides.repository
        for _ in range(steps):
            model = self.random.choice(["Author", "Book"])
            step = next_step(repository.plan(model).stage, self.random.choice(list(Stage)))
            if step is not None:
                with contextlib.suppress(StageMoveError):
                    await repository.move(model, step, by="storm")
            for _ in range(20):
                await asyncio.sleep(0)


@pytest.mark.parametrize("faults", [False, True], ids=["healthy", "faults"])
@pytest.mark.parametrize("seed", range(25))
async def test_both_sides_end_equal_and_nothing_is_lost(seed: int, faults: bool) -> None:
    """Whatever the schedule: equal rows, every acknowledged increment and create there, no false mismatch."""
    stage = random.Random(seed).choice(list(Stage))
    async with TwoSides(stage, follow_workers=3, drain_deadline=1.0) as sides:
        storm = Storm(seed, sides, faults=faults)
        storm.calm = True
        for key in KEYS[:4]:
            await sides.author.create(data={"id": key, "email": key})
        assert await sides.repository.drain(5)
        storm.calm = False
        await asyncio.gather(
            *(storm.writer(30) for _ in range(4)), *(storm.reader(20) for _ in range(2)), storm.mover(12)
        )
        storm.calm = True
        await sides.rest()

    assert [] == storm.unexpected
    assert sides.rows(Side.PRISMA) == sides.rows(Side.SQLALCHEMY)
    assert sides.rows(Side.PRISMA, "Book") == sides.rows(Side.SQLALCHEMY, "Book")
    assert storm.created <= {row["title"] for row in sides.rows(Side.PRISMA, "Book").values()}
    for row in sides.rows(Side.PRISMA).values():
        known = storm.increments[row["id"]]
        assert known <= row["score"] <= known + storm.uncertain[row["id"]]
    verdicts = [e.verdict for e in (*sides.observer.of(ReadCompared), *sides.observer.of(WriteCompared))]
    assert Verdict.MISMATCHED not in verdicts
