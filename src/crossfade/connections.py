"""Opening and closing the paths: those that callers depend on at once, the others when they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from crossfade.breaker import FAILURES
from crossfade.events import Observer, SideUnavailable
from crossfade.paths import Path


class Connections:
    """Connects paths; one that is not `needed` and does not answer is tried again every `interval` seconds.

    While it is away the application runs without it.
    """

    def __init__(self, paths: Iterable[Path], observer: Observer, interval: float) -> None:
        self._paths = tuple(paths)
        self._observer = observer
        self._interval = interval
        self._connecting: list[asyncio.Task[None]] = []

    async def open(self, needed: Iterable[Path]) -> None:
        """Connect; raises what a needed path raises, with everything closed again."""
        wanted = tuple(needed)
        attempts = (
            path.connect() if path in wanted else self._connect_if_it_answers(path) for path in self._paths
        )
        refusals = [r for r in await asyncio.gather(*attempts, return_exceptions=True) if r is not None]
        if refusals:
            await self.close()
            raise refusals[0]

    async def close(self) -> None:
        """Stop trying, and close every path."""
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await asyncio.gather(*(path.close() for path in self._paths))

    async def _connect_if_it_answers(self, path: Path) -> None:
        if not await self._connects(path):
            task = asyncio.create_task(self._connect_in_time(path), name=f"connect-{path.side}")
            self._connecting.append(task)

    async def _connect_in_time(self, path: Path) -> None:
        connected = False
        while not connected:
            await asyncio.sleep(self._interval)
            connected = await self._connects(path)

    async def _connects(self, path: Path) -> bool:
        try:
            await path.connect()
        except FAILURES as error:
            self._observer.observe(SideUnavailable(path.side, type(error).__name__))
            return False
        return True
