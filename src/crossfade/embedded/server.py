"""What the embedded servers have in common: a child process, a directory for the time it runs, and its last words.

A server brings itself up (`_bring_up`); everything that it has started by then is known here, so that it can be
stopped whatever becomes of the start.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from crossfade.embedded.process import Child
from crossfade.errors import EmbeddedError

PORT_ATTEMPTS = 3
"""Somebody may take a free port between its choice and its use."""


class EmbeddedServer(ABC):
    """A server under this process; `async with` starts and stops it. The object belongs to no event loop."""

    _NAME: ClassVar[str]
    """What errors call it."""

    def __init__(self) -> None:
        self._port = 0
        self._runtime_dir: Path | None = None
        self._child: Child | None = None

    def __repr__(self) -> str:
        state = "stopped" if self._child is None else f"port={self._port}, pid={self._child.pid}"
        return f"{type(self).__name__}({state})"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._running().pid

    async def start(self) -> None:
        """Start the server, if it does not run, and wait until it answers."""
        if await self._is_up():
            return
        try:
            await self._bring_up()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the server and every process of it, and delete what lasts only as long as it runs."""
        await asyncio.to_thread(self._shut_down)

    async def _is_up(self) -> bool:
        return self._child is not None

    @abstractmethod
    async def _bring_up(self) -> None:
        """Start the server and wait until it answers."""

    def _running(self) -> Child:
        if self._child is None:
            raise EmbeddedError(f"the embedded {self._NAME} is not running; call start() first")
        return self._child

    async def _wait_for(self, answers: Callable[[], Awaitable[bool]], seconds: float, pause: float) -> bool:
        """Wait until `answers` says so, asking every `pause` seconds; False if the server ended instead.

        Raises:
            EmbeddedError: it runs and does not answer in time; the message has its last words.
        """
        child = self._running()
        try:
            async with asyncio.timeout(seconds):
                while child.poll() is None:
                    if await answers():
                        return True
                    await asyncio.sleep(pause)
        except TimeoutError:
            raise EmbeddedError(
                f"{self._NAME} does not answer after {seconds:.0f} s: {self._last_words()}"
            ) from None
        return False

    def _shut_down(self) -> None:
        child, self._child = self._child, None
        runtime_dir, self._runtime_dir = self._runtime_dir, None
        if child is not None:
            child.stop()
        if runtime_dir is not None:
            shutil.rmtree(runtime_dir, ignore_errors=True)

    @property
    def _log_file(self) -> Path:
        return Path(str(self._runtime_dir)) / "server.log"

    def _log(self) -> str:
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    def _log_lines(self) -> list[str]:
        return [line.strip() for line in self._log().splitlines() if line.strip()]

    @abstractmethod
    def _last_words(self) -> str:
        """What the server's log says about its end, in one line and without secrets."""


def free_port() -> int:
    """A port on 127.0.0.1 that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
