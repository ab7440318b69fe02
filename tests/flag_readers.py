"""What the tests of flag providers share: an ear for their events, and waiting for what is to come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crossfade.events import Event, FlagRejected, FlagServiceMoved
from crossfade.flags import Flag, FlagProvider


class Ear:
    """Hears events, and lets a test wait for one."""

    def __init__(self) -> None:
        self.heard: list[Event] = []

    def observe(self, event: Event) -> None:
        """Keep it."""
        self.heard.append(event)

    @property
    def rejections(self) -> list[str]:
        """What could not be used: the name at the end of the source, and the problem."""
        return [
            f"{it.source.rsplit('/', 1)[-1]}: {it.problem}"
            for it in self.heard
            if isinstance(it, FlagRejected)
        ]

    @property
    def service(self) -> list[str]:
        """What was told of the service, in order; empty texts where it was there."""
        return [it.problem for it in self.heard if isinstance(it, FlagServiceMoved)]


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something that another task or thread brings about is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def flag_that(provider: FlagProvider, condition: Callable[[Flag], bool], seconds: float = 20.0) -> Flag:
    """Wait for a flag that fulfils `condition` among those that are there and those that change."""
    changes = provider.changes()
    for flag in provider.current().values():
        if condition(flag):
            return flag
    async with asyncio.timeout(seconds):
        async for flag in changes:
            if condition(flag):
                return flag
    raise AssertionError("the provider was closed")
