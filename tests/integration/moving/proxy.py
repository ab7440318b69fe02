"""A TCP proxy in front of a store that can lose a connection at its COMMIT."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum
from typing import Self


class Loss(Enum):
    """What becomes of the next COMMIT."""

    BEFORE = "the server never hears of it"
    AFTER = "the server does it, and nobody hears of that"


class Proxy:
    """Passes bytes on. `lose` is what it does at the next COMMIT, once; `refuses` keeps new connections out."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()
        self.lose: Loss | None = None
        self.refuses = False
        self.refuses_after_loss = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Lose every connection, and let no new one in."""
        self.refuses = True
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.refuses:
                await self._pass(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._to)

        async def back() -> None:
            while data := await there_reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

        answers = asyncio.ensure_future(back())
        try:
            while data := await reader.read(65536):
                if self.lose is not None and b"COMMIT" in data:
                    loss, self.lose = self.lose, None
                    self.refuses = self.refuses_after_loss
                    if loss is Loss.AFTER:
                        answers.cancel()
                        there_writer.write(data)
                        await there_writer.drain()
                        await there_reader.read(65536)  # its answer, which goes no further
                    return
                there_writer.write(data)
                await there_writer.drain()
        finally:
            answers.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await answers
            there_writer.close()
