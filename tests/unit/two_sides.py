"""A repository over two paths in memory, for tests of what happens between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

from crossfade.client import DatabaseClient
from crossfade.repository import Repository, RepositorySettings
from crossfade.shadow import ShadowSettings
from crossfade.stages import Side, Stage
from crossfade.testing import MemoryPath, MemorySettler, RecordingObserver, record_classes
from small_schema import SMALL

AUTHOR = {"id": "a1", "email": "a@b.c"}
FAST: dict[str, Any] = {
    "shadow": ShadowSettings(pause=0.001, rechecks=3, deadline=0.5),
    "follow_deadline": 0.5,
    "move_deadline": 0.5,
    "lease": 0.0,
}


class Announcements:
    """Records that a test places by itself; who waits for one hears of it through `arrived`."""

    def __init__(self) -> None:
        self.fresh_until = float("inf")
        self.renewals = 0
        self.news: Callable[[], None] | None = None
        self.arrived = asyncio.Event()
        self.asked: list[tuple[str, int]] = []

    async def renew(self) -> None:
        """Place what is new, and be fresh again."""
        self.renewals += 1
        await asyncio.sleep(0)
        self.fresh_until = float("inf")
        if self.news is not None:
            self.news()

    async def newer_than(self, model: str, epoch: int, seconds: float) -> None:
        """Wait for `arrived`."""
        self.asked.append((model, epoch))
        async with asyncio.timeout(seconds):
            await self.arrived.wait()


class TwoSides:
    """Two paths, a repository over them, a client, and everything that was observed."""

    def __init__(self, author: Stage = Stage.OFF, book: Stage | None = None, **settings: Any) -> None:
        records = record_classes(SMALL)
        self.prisma = MemoryPath(Side.PRISMA, SMALL, records)
        self.sqlalchemy = MemoryPath(Side.SQLALCHEMY, SMALL, records)
        self.observer = RecordingObserver()
        paths = {Side.PRISMA: self.prisma, Side.SQLALCHEMY: self.sqlalchemy}
        self.settler = MemorySettler(paths, lambda model: self.repository.plan(model).authority)
        self.records = Announcements()
        self.repository = Repository(
            SMALL,
            paths,
            settler=self.settler,
            records=self.records,
            stages={"Author": author, "Book": author if book is None else book},
            observer=self.observer,
            settings=RepositorySettings(**(FAST | settings)),
        )
        self.client: Any = DatabaseClient(self.repository)
        self.author, self.book = self.client.model("Author"), self.client.model("Book")

    async def __aenter__(self) -> Self:
        await self.repository.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.repository.__aexit__(*exc)

    async def rest(self) -> None:
        """Wait until everything that was begun off the caller's time is over."""
        await self.repository.queue.settle(SMALL.models)
        await self.repository.shadow.drain()
        assert await self.repository.drain(5.0)

    def path(self, side: Side) -> MemoryPath:
        """The path of a side."""
        return self.prisma if side is Side.PRISMA else self.sqlalchemy

    def rows(self, side: Side, model: str = "Author") -> dict[Any, dict[str, Any]]:
        """All rows of a model on one side."""
        return {key: dict(vars(row)) for key, row in self.path(side).rows[model].items()}

    def both_equal(self) -> bool:
        """Whether both sides hold the same rows."""
        return all(self.rows(Side.PRISMA, name) == self.rows(Side.SQLALCHEMY, name) for name in SMALL.models)
