"""The engine behind a Prisma client: calls to it are counted, and it is started again when its process dies.

It is started once for all the callers that saw it end. A read is then asked once more; a write never is, because nobody
knows whether the engine had already done it. Every start is a new generation: transactions belong to one.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

import httpx

from crossfade.paths.prisma_faults import Package, connection_lost

_STOP_TIMEOUT = timedelta(seconds=5)
_END_OF_PROCESS = timedelta(seconds=1)

T = TypeVar("T")


class Engine:
    """The engine of `client`, seen through the calls that are made to it."""

    def __init__(self, client: Any, package: Package) -> None:
        self._client = client
        self._package = package
        self._closed = False
        self._reviving = asyncio.Lock()
        self._generation = 0
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def generation(self) -> int:
        """How often it was started anew."""
        return self._generation

    def open(self) -> None:
        """Start it again from now on when it dies."""
        self._closed = False

    async def rest(self) -> None:
        """Wait until nothing is under way; the engine is not started again."""
        self._closed = True
        await self._idle.wait()

    async def stop(self) -> None:
        """End its process."""
        await self._client.disconnect(timeout=_STOP_TIMEOUT)

    def enter(self) -> None:
        """Count something that is under way; `leave` when it is over."""
        self._under_way += 1
        self._idle.clear()

    def leave(self) -> None:
        """Something that was under way is over."""
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    async def call(self, call: Callable[[], Awaitable[T]], *, again: bool = False) -> T:
        """Call the client; when the engine is gone, start it again and, if `again`, ask once more."""
        self.enter()
        try:
            generation = self._generation
            try:
                return await call()
            except self._package.lost as error:
                lost = error
            await self._revive(generation, lost)
            if not again:
                raise connection_lost(lost) from lost
            try:
                return await call()
            except self._package.lost as error:
                raise connection_lost(error) from error
        finally:
            self.leave()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do `work` to its end, whatever becomes of who asked for it."""
        task = asyncio.get_running_loop().create_task(work, name="crossfade-transaction")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked has heard of it, or went away

    async def _revive(self, generation: int, lost: Exception) -> None:
        """Start the engine again, unless it still runs or another caller has done so since `generation`."""
        async with self._reviving:
            if self._closed or generation != self._generation:
                return
            if not await _is_gone(self._client, lost):
                return
            try:
                await self._client.disconnect(timeout=_STOP_TIMEOUT)
                await self._client.connect()
            except (self._package.errors.PrismaError, httpx.HTTPError) as error:
                raise connection_lost(error) from lost
            self._generation += 1


async def _is_gone(client: Any, lost: Exception) -> bool:
    """Whether the engine behind `client` has ended, or ends now; what is left of it is killed."""
    if isinstance(lost, httpx.TimeoutException):
        return False  # a slow answer is not a dead engine
    engine = client._internal_engine  # noqa: SLF001  # the client has no public way to ask
    if engine is None or engine.process is None:
        return True
    process: subprocess.Popen[bytes] = engine.process
    if isinstance(lost, httpx.ConnectError):
        process.kill()  # nothing listens: whatever is left of it only delays the new one
    try:
        # A connection breaks a moment before the process is seen to have ended.
        await asyncio.to_thread(process.wait, _END_OF_PROCESS.total_seconds())
    except subprocess.TimeoutExpired:
        return False
    return True
